"""The table of published rows: every one is a config that parses, with the changes that it names."""

import re
import shlex
from pathlib import Path

import pytest

from crfnet.config import load_run

CONFIGS = Path(__file__).parents[1] / "configs"
ROWS = re.findall(
    r"^\| (.+?) \| ([\d./ ]+) \| \[(.+?)\]\(.+?\) \| (?:`(.+?)`)? ?\|$",
    (CONFIGS / "README.md").read_text(),
    re.M,
)


def test_the_table_is_read():
    text = (CONFIGS / "README.md").read_text()
    assert len(ROWS) == text.count("\n| v") > 90
    assert len({(file, changes) for _, _, file, changes in ROWS}) == len(ROWS)  # no row twice


@pytest.mark.parametrize("file", sorted({row[2] for row in ROWS}))
def test_published_rows_are_configs(file):
    plain = load_run(CONFIGS / file)
    for table, _, _, changes in (row for row in ROWS if row[2] == file):
        changed = load_run(CONFIGS / file, shlex.split(changes))
        assert (changed == plain) == (not changes), (table, changes)  # what is changed was not so before
