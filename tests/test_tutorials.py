"""The notebooks run, and what is stored in them is whole and small."""

import re
import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parents[1] / "experiments/tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK = "4_measure_borders.ipynb"  # the others are run by hand: -m slow


def test_all_are_there_and_in_the_list():
    assert len(NOTEBOOKS) == 5
    assert re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text()) == [
        path.name for path in NOTEBOOKS
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_whole_and_small(path):
    assert path.stat().st_size < 500_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    pictures = [each for each in outputs if {"image/png", "image/jpeg"} & set(each.get("data", {}))]
    assert pictures
    assert not [each for each in outputs if each.output_type == "error" or each.get("name") == "stderr"]
    assert not re.search(r"/(?:home|root|tmp|work|Users)/|\bnan\b", path.read_text())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.name == QUICK else pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_it_runs_and_says_what_is_stored(path, tmp_path):
    execute = runpy.run_path(str(FOLDER / "run.py"))["execute"]
    outputs = [cell.get("outputs", []) for cell in execute(path).cells]
    stored = [cell.get("outputs", []) for cell in nbformat.read(path, as_version=4).cells]
    kinds = [[sorted(each.get("data", {"text": 0})) for each in cell] for cell in outputs]
    assert kinds == [[sorted(each.get("data", {"text": 0})) for each in cell] for cell in stored]
