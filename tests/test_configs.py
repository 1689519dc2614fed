"""The table of published rows: every one is a config that parses, with the changes that it names."""

import re
import shlex
from pathlib import Path

import pytest

from crfnet.errors import InputError
from crfnet.pipeline.run_config import load_run

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


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda file: file.name)
def test_every_config_is_read_and_writes_to_a_folder_of_its_name(file):
    run = load_run(file)
    assert run.output.name == f"{file.parent.name}_{file.stem}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("--train.iterations -3", "train.iterations is -3, must be >= 1"),
        ("--joint.iterations 0", "joint.iterations is 0, must be >= 1"),
        ("--joint.augment.crop [0,0]", "joint.augment.crop is [0, 0], "),
        ("--threads -1", "threads is -1, must be in 0..1024"),
        ("--predict.tile 5", "predict.tile - overlap is 5, "),
        ("--evaluation.draws 0", "evaluation.draws is 0, "),
        ("--evaluation.boundary.f_width -1", "evaluation.boundary.f_width is -1.0, "),
        ("--search.rounds 0", "search.rounds is 0, "),
        ("--crf.w1 -1", "crf.w1 is -1.0, "),
        ("--data.toy.size [3,3]", "data.toy.size is [3, 3], "),
        ("--search.tolerance 0.5", "search.tolerance is 0.5, must be in [0, 0.5)"),
        ("--data.toy_size [3,3]", "data.toy_size has moved: write data.toy.size"),
        ("--search.preset v3", "search.preset is v3, must be one of v2, v1, v1-runner"),
        ("--train.iteration 3", "unknown key train.iteration; did you mean train.iterations?"),
    ],
)
def test_a_refused_value_is_named_with_its_section(changes, said):
    with pytest.raises(InputError) as caught:
        load_run(None, changes.split())
    message = str(caught.value)
    assert message.startswith("command line: ")
    assert said in message
    assert said.split()[0] == message.removeprefix("command line: ").split()[0] or "key" in message
