"""The README keeps its word: its Python runs, its links exist."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT)) for page in [ROOT / "README.md", *ROOT.glob("crfnet/**/README.md")]
)
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_python_blocks_run(block):
    names: dict[str, object] = {}
    try:
        exec(block, names)
    finally:  # what `install` put there
        for module in [module for module in sys.modules if module.split(".")[0] == "pydensecrf"]:
            del sys.modules[module]
    size = names["labels"].shape[-2:] if "labels" in names else names["log_q"].shape[-2:]
    assert size == (96, 128)


@pytest.mark.parametrize("page", PAGES)
def test_links_exist(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert (folder / target).exists(), target
