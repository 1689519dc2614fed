"""The README keeps its word: its Python runs, its links exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "block", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=["eight", "network"]
)
def test_python_blocks_run(block):
    names: dict[str, object] = {}
    exec(block, names)
    assert names["image"].shape[-2:] == (96, 128)


@pytest.mark.parametrize("page", ["README.md", "crfnet/crf/README.md"])
def test_links_exist(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert (folder / target).exists(), target
