"""The README keeps its word: its Python runs, its links exist."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from crfnet.cli import COMMANDS
from crfnet.cli.parser import parse, split
from crfnet.config.reader import _known_keys
from crfnet.config.schema import schema
from crfnet.crf import CRFConfig, DenseCRF
from crfnet.pipeline.run_config import Run

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for folder in ("", "crfnet/**/", "configs/", "experiments/**/")
    for page in ROOT.glob(f"{folder}README.md")
)
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0] for block in BLOCKS])
def test_python_blocks_run(block, capsys):
    names: dict[str, object] = {}
    try:
        exec(block, names)
    finally:  # what `install` put there
        for module in [module for module in sys.modules if module.split(".")[0] == "pydensecrf"]:
            del sys.modules[module]
    if "example_photo" in block:
        said = re.findall(r"# (\[.*\])", block)
        assert capsys.readouterr().out.splitlines() == said
        assert len(said) == 2
    else:
        assert names["labels"].shape[-2:] == (96, 128)


def test_the_training_loop_of_the_crf_runs_and_learns_theta(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "crfnet/crf/README.md").read_text()
    (block,) = (each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "optimizer" in each)
    generator = torch.Generator().manual_seed(0)
    names = {
        "torch": torch,
        "network": torch.nn.Conv2d(3, 4, 3, padding=1),
        "crf": (crf := DenseCRF(4, CRFConfig(theta_alpha=10.0))),
        "normalized": lambda image: image / 255 - 0.5,
        "loader": [
            (
                torch.randint(0, 256, (2, 3, 9, 11), generator=generator),
                torch.randint(0, 4, (2, 9, 11), generator=generator),
            )
        ],
    }
    exec(block, names)
    assert crf.parameters_by_name()["theta_alpha"] != 10.0
    assert "theta_alpha" in capsys.readouterr().out
    DenseCRF(4).load_state_dict(torch.load(tmp_path / "crf.pt"))


DOCUMENTED = sorted(
    {
        line.strip()
        for page in PAGES
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text().replace("\\\n", " "), re.DOTALL)
        for line in block.splitlines()
        if line.strip().startswith("crfnet ")
    }
)


@pytest.mark.parametrize("command", DOCUMENTED)
def test_commands_are_ones_that_the_program_takes(command):
    words = shlex.split(re.sub(r"\[.*\]", "", command), comments=True)[1:]
    options, overrides = split(words)
    parse(options, COMMANDS.values())
    names = [each[2:].partition("=")[0] for each in overrides if each.startswith("--")]
    assert set(names) <= set(_known_keys(schema(Run)))


@pytest.mark.parametrize("page", PAGES)
def test_links_exist(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^):]+)\)", (ROOT / page).read_text()):
        path, _, anchor = target.partition("#")
        file = folder / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def anchors(text):
    """GitHub's names of the headings."""
    heads = re.findall(r"^#+ (.+)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


ROOMS = (ROOT / "crfnet/README.md").read_text()


@pytest.mark.parametrize(("path", "names"), re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", ROOMS))
def test_the_map_from_papers_to_code_names_what_is_there(path, names):
    code = (ROOT / "crfnet" / path).read_text()
    for name in re.findall(r"`(\w+)`", names):
        assert re.search(rf"^(?:def|class) {name}\b|^{name}\b.* = ", code, re.MULTILINE), name


def test_every_room_is_on_the_map():
    rooms = {path.name for path in (ROOT / "crfnet").iterdir() if not path.name.startswith(("__", "."))}
    assert rooms - {"README.md", "py.typed"} <= set(re.findall(r"`([\w.]+?)/?`", ROOMS.split("##")[0]))
