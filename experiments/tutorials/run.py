"""Runs the notebooks here and keeps their outputs: python experiments/tutorials/run.py [NAME ...]."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
_TIMEOUT = 600  # seconds that a cell may take, on a machine that is shared


def execute(path: Path) -> Any:
    """Execute a notebook in a folder that is removed, and return it with its outputs.

    Progress bars and log lines (stderr) are left out. A cell that fails raises `CellExecutionError`.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=_TIMEOUT, resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def main(names: list[str]) -> None:
    """Execute the notebooks whose names begin with one of those given, or all."""
    for path in NOTEBOOKS:
        if not names or path.name.startswith(tuple(names)):
            nbformat.write(execute(path), path)
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
