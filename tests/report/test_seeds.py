"""Several runs in one report: means over seeds, intervals over images and seeds, and what is refused."""

import csv
import dataclasses
import itertools
import json
import re

import pytest
import torch
import yaml

from crfnet.cli.main import main
from crfnet.config.variants import free_keys
from crfnet.errors import InputError
from crfnet.evaluation.bootstrap import resample_counts, resample_seeds, seeds_generator
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.named_metrics import difference
from crfnet.labels import VOC_PALETTE
from crfnet.pipeline.run_config import Run
from crfnet.report import ArmResult, combine, console_table, read_report_json
from crfnet.report.metric_intervals import metric_intervals
from crfnet.report.report_json import write_report_json
from tests.report.factories import CLASSES, CONFIG, make_arms, scene, with_folders, write

RUN = {"title": "toy", "seed": 0, "train": {"iterations": 3, "workers": 0}, "pictures": 2}
#: Of each seed and arm, how many of the 8 pixels of the images a and b are right.
RIGHT = {"unary": [(4, 6), (6, 6), (5, 8)], "joint": [(6, 6), (8, 7), (4, 8)]}

FREE = free_keys(Run)


def evaluation(right, width=1):
    """Two images of 4 pixels each of classes 0 and 1; only pixels of class 0 are wrong."""
    found = Evaluation(2, width)
    labels = torch.tensor([[0] * 4 + [1] * 4])
    for id, number in zip("ab", right, strict=True):
        prediction = labels.clone()
        prediction[0, : 8 - number] = 1
        found.add(id, prediction, labels)
    return found


def arm_of(name, rights, **costs):
    costs = {"train_seconds": [3.0, 5.0, 10.0], "seconds_per_image": [0.5, 0.25, 0.75]} | costs
    nothing = {"search_seconds": float("nan"), "peak_memory_mb": 10.0}
    first, *repeats = (
        ArmResult(name, evaluation(right), seed=seed, **{key: c[seed] for key, c in costs.items()}, **nothing)
        for seed, right in enumerate(rights)
    )
    return dataclasses.replace(first, repeats=repeats)


def accuracy_by_hand(rights, counts, weights):
    """Mean over seeds of the accuracy of images that are drawn so often, in plain numbers."""
    total = 0.0
    for right, weight in zip(rights, weights, strict=True):
        pixels = 8 * sum(counts)
        total += weight * sum(count * number for count, number in zip(counts, right, strict=True)) / pixels
    return total


@pytest.fixture
def any_number(monkeypatch):
    """Two images have intervals, too: numbers that can be found by hand."""
    monkeypatch.setattr("crfnet.report.metric_intervals.FEWEST_IMAGES", 1)


@pytest.mark.usefixtures("any_number")
def test_numbers_by_hand():
    """Accuracy of each seed over both images, then the mean: (10 + 12 + 13) / 48 and (12 + 15 + 12) / 48."""
    config = EvaluationConfig(max_width=1, draws=60, seed=4)
    scores = metric_intervals([arm_of(name, rights) for name, rights in RIGHT.items()], ["x", "y"], config)
    assert scores["unary", "pixel_accuracy"].estimate == pytest.approx(35 / 48)
    assert scores["joint", "pixel_accuracy"].estimate == pytest.approx(39 / 48)
    assert scores["joint - unary", "pixel_accuracy"].estimate == pytest.approx(4 / 48)
    # IoU of class 0, all of whose errors are misses: right pixels of it / 8.
    assert scores["unary", "iou/x"].estimate == pytest.approx((2 + 4 + 5) / 24)
    images = resample_counts(2, 60, 4).tolist()
    seeds = resample_seeds(3, 60, seeds_generator(4)).tolist()
    assert {tuple(round(2 * w) for w in row) for row in seeds} <= set(itertools.product(range(3), repeat=3))
    gains = sorted(
        accuracy_by_hand(RIGHT["joint"], *drawn) - accuracy_by_hand(RIGHT["unary"], *drawn)
        for drawn in zip(images, seeds, strict=True)
    )
    found = scores["joint - unary", "pixel_accuracy"]
    for value, share in ((found.low, 0.025), (found.high, 0.975)):
        place = share * 59  # between two draws, linearly
        low, high = gains[int(place)], gains[int(place) + 1]
        assert value == pytest.approx(low + (place % 1) * (high - low))
    assert found.low < 0 < found.high  # the third seed loses


@pytest.mark.usefixtures("any_number")
def test_every_difference_is_that_of_paired_seeds():
    arms = [arm_of(name, rights) for name, rights in RIGHT.items()]
    config = EvaluationConfig(max_width=1, draws=50, seed=2)
    scores = metric_intervals(arms, ["x", "y"], config)
    for metric in ("miou", "boundary_iou", "boundary_f", "trimap_change/miou@1"):
        apart = [[each.evaluation for each in arm.seeds] for arm in arms]
        wanted = difference(*apart, metric, config, paired=True)
        found = scores["joint - unary", metric]
        assert (found.low, found.high, found.estimate) == pytest.approx(
            (wanted.low, wanted.high, wanted.estimate), nan_ok=True
        )


def make_run(folder, seed, **changes):
    """A finished run on disk; worse seeds shift every prediction."""
    arms = make_arms(void=False, names=("unary", "joint"))
    shifted = []
    for arm in arms:
        found = Evaluation(3, CONFIG.max_width)
        for index in range(10):
            _, truth, predictions = scene(index, void=False)
            found.add(f"im{index}", predictions[arm.name].roll(seed, 0), truth)
        shifted.append(dataclasses.replace(arm, evaluation=found, train_seconds=100.0 * (seed + 1)))
    facts = {"commit": "abc", "command": f"run {seed}"}
    write_report_json(
        folder, with_folders(shifted, folder), "A title", CLASSES, VOC_PALETTE[:3], facts, CONFIG
    )

    (folder / "config.yaml").write_text(yaml.safe_dump(RUN | {"seed": seed} | changes))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [make_run(root / f"s{seed}", seed) for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def whole(runs):
    """One report over the three, written by the command, and what that printed."""
    output = runs[0].parent / "all"
    for folder in runs:  # which no data set can be opened for: a report without pictures
        (folder / "config.yaml").unlink(missing_ok=True)
    main(["report", *map(str, runs), "--output", str(output)])
    for seed, folder in enumerate(runs):
        (folder / "config.yaml").write_text(yaml.safe_dump(RUN | {"seed": seed}))
    return output


def test_one_report_over_three_runs(runs, whole):
    text = (whole / "report.md").read_text()
    mean = "mean of 3 seeds, 10 images, 95 % bootstrap intervals over images and seeds"
    assert text.count(mean) == 4  # the answer, scores, differences, classes
    assert "chance in training: every draw also holds 2 of the 3 seeds" in text
    assert "a line for each of 3 seeds" in text
    assert "of these 3" not in text
    with (whole / "scores.csv").open() as stream:
        rows = {(row["arm"], row["metric"]): row for row in csv.DictReader(stream)}
    alone = [read_report_json(folder).arms for folder in runs]
    for place, name in enumerate(("unary", "joint")):
        wanted = sum(float(arms[place].evaluation.metrics().miou) for arms in alone) / 3
        assert float(rows[name, "miou"]["value"]) == pytest.approx(wanted, abs=1e-6)
        assert float(rows[name, "train_seconds"]["value"]) == 200.0
    assert "| commit | abc |" in text
    assert "| command | run 1: run 0; run 2: run 1; run 3: run 2 |" in text
    assert "| `joint`, run 3 | 4 |" in text
    assert mean in (whole / "report.html").read_text()


def test_it_can_be_written_again(whole):
    names = ("report.md", "report.html", "scores.csv")
    before = [(whole / name).read_bytes() for name in names]
    main(["report", str(whole)])
    assert [(whole / name).read_bytes() for name in names] == before
    assert [len(arm.seeds) for arm in read_report_json(whole).arms] == [3, 3]


def test_combine_names_seeds_and_leaves_one_run_as_it_is(runs):
    arms = combine(runs, FREE).arms
    assert [arm.seed_labels for arm in arms] == [("seed 0", "seed 1", "seed 2")] * 2
    assert [each.evaluation.ids for each in arms[1].seeds] == [arms[0].evaluation.ids] * 3
    assert arms[1].cost("train_seconds") == 200.0
    assert console_table(arms, CONFIG).endswith("(mean of 3 seeds, 10 images, 95 % bootstrap intervals over "
                                                "images and seeds)")  # fmt: skip
    assert not any(arm.repeats for arm in combine([runs[1]], FREE).arms)
    facts = combine(runs[:2], FREE).facts
    assert facts["runs"] == f"{runs[0]} (seed 0), {runs[1]} (seed 1)"
    assert facts["command"] == "seed 0: run 0; seed 1: run 1"


def test_one_seed_says_so(report):
    _, _, text, _ = report
    assert "One seed: the interval covers the choice of images, not chance in training." in text
    assert text.count("one seed, 10 images, 95 % bootstrap intervals over images\n") == 4


def test_runs_that_differ_are_refused(runs, tmp_path):
    def refused(message, *folders):
        with pytest.raises(InputError, match=message) as caught:
            combine([runs[0], *folders], FREE)
        assert "\n" not in str(caught.value)

    def changed(name, edit):
        """A copy of the second run with another report.json; its counts stay where they are."""
        made = make_run(tmp_path / name, 1)
        saved = json.loads((made / "report.json").read_text())
        edit(saved)
        (made / "report.json").write_text(json.dumps(saved))
        return made

    refused("no such file", tmp_path / "nowhere")
    refused(f"{runs[0]}: seed 0 is that of", runs[0])
    fewer = changed("fewer", lambda saved: saved["arms"].pop())
    refused(f"^{fewer}: arms unary; {re.escape(str(runs[0]))}: arms unary, joint; ", fewer)
    named = changed("named", lambda saved: saved.update(class_names=["a", "b", "c"]))
    refused(f"^{named}: classes a, b, c; .*background, cat, dog", named)
    drawn = changed("drawn", lambda saved: saved["config"].update(draws=41))
    refused(f"^{drawn}: evaluation.draws 41; .*: evaluation.draws 40; ", drawn)
    several = changed("several", lambda saved: saved["arms"][0].update(repeats=[dict(saved["arms"][0])]))
    refused(f"^{several}: a report of several runs already", several)
    images = make_run(tmp_path / "images", 1)
    for arm in read_report_json(images).arms:
        less = Evaluation(3, CONFIG.max_width)
        for index in (0, 1, 2, 3, 5):
            less.add(f"im{index}", *[scene(index, void=False)[1]] * 2)
        less.save(arm.folder / "evaluation.npz")
    refused(f"^{images}: 5 images, number 5 is im5; .*: 10 images in arm unary, number 5 is im4", images)
    masks = make_run(tmp_path / "masks", 1)
    for arm in read_report_json(masks).arms:
        other = Evaluation(3, CONFIG.max_width)
        for index in range(10):
            _, truth, predictions = scene(index, void=False)
            truth[-1, -1] = 255 if index == 7 else truth[-1, -1]
            other.add(f"im{index}", predictions[arm.name], truth)
        other.save(arm.folder / "evaluation.npz")
    refused(rf"^{masks}: \d+ pixels of class \d in the mask of im7; .*: \d+ pixels of class \d in", masks)
    begun = changed("begun", lambda saved: saved["facts"].update(network="w.pt, trained before"))
    refused(f"^{begun}: networks trained before; .*: networks trained in the run; ", begun)
    longer = make_run(tmp_path / "longer", 1, train={"iterations": 9, "workers": 4})
    refused(
        f"^{longer}/config.yaml: train.iterations is 9; .*s0/config.yaml: train.iterations is 3; ", longer
    )
    free = make_run(tmp_path / "free", 5, title="mine", train={"iterations": 3, "workers": 4}, output="there")
    assert len(combine([runs[0], free], FREE).arms[0].seeds) == 2
    (free / "config.yaml").write_text("- no mapping\n")
    refused("config.yaml: cannot be read as a configuration", free)


def test_where_the_command_writes(runs, tmp_path, capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["report", *map(str, arguments)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "give --output DIR" in refused(*runs)
    assert "holds the run" in refused(*runs, "--output", runs[0], "--overwrite")
    assert "holds the run" in refused(*runs, "--output", runs[0].parent, "--overwrite")
    (tmp_path / "mine").write_text("")
    assert "already holds files" in refused(*runs, "--output", tmp_path)
    assert "not made by crfnet" in refused(*runs, "--output", tmp_path, "--overwrite")
    assert (runs[0] / "report.json").is_file()


def test_arms_need_as_many_seeds(tmp_path):
    arms = [arm_of(name, rights) for name, rights in RIGHT.items()]
    fewer = dataclasses.replace(arms[1], repeats=arms[1].repeats[:1])
    other = dataclasses.replace(arms[1], repeats=[*arms[1].repeats[:1], make_arms()[1]])
    for changed, message in ((fewer, "have 3 and 2 seeds"), (other, "differ in ids")):
        with pytest.raises(InputError, match=message):
            write(tmp_path, [arms[0], changed], samples=(), class_names=("x", "y"))
