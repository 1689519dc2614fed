"""report.json: every damaged field is told in one line that names it."""

import json

import pytest

from crfnet.errors import InputError
from crfnet.report import read_report_json
from tests.report.factories import make_arms, with_folders, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    write(folder, with_folders(make_arms(names=("unary", "posthoc")), folder), samples=())
    return folder


def change(place, value):
    def edit(saved):
        *way, last = place
        for key in way:
            saved = saved[key]
        if value is ...:
            del saved[last]
        else:
            saved[last] = value

    return edit


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("title",), None, "title is None, must be text"),
        (("title",), ..., "title is missing"),
        (("more",), 1, "unknown key more"),
        (("class_names",), "abc", "class_names is 'abc', must be a list"),
        (("class_names", 1), 2, r"class_names\[1\] is 2, must be text"),
        (("palette", 0), [1, 2, 256], "palette holds .*, must be three numbers of 0..255"),
        (("palette", 0), [1, 2, True], "palette holds"),
        (("facts", "command"), 3, "facts.command is 3, must be text"),
        (("config", "draws"), True, "config.draws is True, must be a whole number"),
        (("config", "draws"), ..., "config.draws is missing"),
        (("config", "draws"), -3, "draws is -3, must be in 1..1000000"),
        (("config", "absent"), 3, "config.absent is 3, must be text"),
        (("config", "new"), "x", "unexpected keyword argument 'new'"),
        (("config", "boundary", "f_width"), "x", "config.boundary.f_width is 'x', must be a whole number"),
        (("arms",), {}, "arms is {}, must be a list"),
        (("arms", 0), 3, r"arms\[0\] is 3, must be a mapping"),
        (("arms", 0, "name"), None, "arms.name is None, must be text"),
        (("arms", 0, "folder"), None, "arms.folder is None, must be text"),
        (("arms", 0, "folder"), "nowhere", "no such file"),
        (("arms", 0, "seed"), 1.5, "arms.seed is 1.5, must be a whole number below 1e18 or null"),
        (("arms", 0, "peak_memory_mb"), 10**400, "arms.peak_memory_mb is 1000.*, must be a whole number"),
        (("arms", 0, "train_seconds"), float("inf"), "arms.train_seconds is inf, must be"),
        (("arms", 0, "crf"), [1], r"arms.crf is \[1\], must be a mapping or null"),
        (("arms", 0, "search_ids"), [1], r"arms.search_ids\[0\] is 1, must be text"),
        (("arms", 0, "repeats"), [{}], "arms.folder is missing"),
        (("arms", 0, "speed"), 1, "unknown key arms.speed"),
    ],
)
def test_damaged_fields_are_named(folder, place, value, message):
    path = folder / "report.json"
    whole = path.read_text()
    saved = json.loads(whole)
    change(place, value)(saved)
    path.write_text(json.dumps(saved))
    try:
        with pytest.raises(InputError, match=message) as caught:
            read_report_json(folder)
    finally:
        path.write_text(whole)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_reports_of_old_have_no_seeds(folder):
    path = folder / "report.json"
    saved = json.loads(path.read_text())
    for arm in saved["arms"]:
        del arm["seed"], arm["repeats"]
    path.write_text(json.dumps(saved))
    assert [arm.seed_labels for arm in read_report_json(folder).arms] == [("run 1",)] * 2
