"""One whole report, made once."""

import csv

import pytest

from tests.report.factories import make_arms, with_folders, write


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """(arms, folder, text, rows of scores.csv)."""
    folder = tmp_path_factory.mktemp("report") / "new"
    arms = with_folders(make_arms(), folder)
    path = write(folder, arms)
    with (folder / "scores.csv").open() as stream:
        rows = {(row["arm"], row["metric"]): row for row in csv.DictReader(stream)}
    return arms, folder, path.read_text(), rows
