import csv
import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import yaml

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.config_file import load_crf_config
from crfnet.errors import InputError
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, draw_images, run_tasks, search, task_queue
from crfnet.search.counting import PointCounts
from crfnet.search.grid import AXES, Point
from crfnet.search.task_queue import TaskResult
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits

OUTPUTS = ("best.yaml", "heatmap.png", "images.txt", "study.db", "table.csv")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def _stopped_clock():
    """Every group takes no time, so that whole files can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_tasks.time, "perf_counter", lambda: 0.0)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset, scores, config) -> Path:
    """The folder of a search that nothing disturbed; copy it before changing it."""
    folder = tmp_path_factory.mktemp("whole")
    search(dataset, dataset.ids, scores, config, folder)
    return folder


def same_results(a: Path, b: Path) -> bool:
    return all((a / f).read_bytes() == (b / f).read_bytes() for f in ("table.csv", "best.yaml", "images.txt"))


def kill_after(monkeypatch, target, name: str, calls: int) -> None:
    """The call number `calls` + 1 of `target.name` is a kill."""
    original = getattr(target, name)
    count = 0

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, counted)


def test_grid_is_the_brute_force_loop(tmp_path, dataset, scores, config):
    config = dataclasses.replace(config, rounds=1, theta_beta=(10.0, 20.0))
    search(dataset, dataset.ids, scores, config, tmp_path)
    expected = {}
    for point in config.grid().points():
        layer = DenseCRF(CLASSES, CRFConfig(**point._asdict())).eval()
        total = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
        for image_id in draw_images(dataset.ids, config):
            sample = dataset[dataset.ids.index(image_id)]
            with torch.no_grad():
                log_q = layer(scores.logits(image_id, (12, 16)), sample.image[None])
            total += confusion_matrix(log_q[0].argmax(0), sample.labels, CLASSES)
        expected[point] = float(metrics(total).miou)
    rows = table(tmp_path)
    assert [tuple(float(row[axis]) for axis in AXES) for row in rows] == [*expected]
    assert {row["images"] for row in rows} == {"3"}
    assert [float(r["miou"]) for r in rows] == pytest.approx([*expected.values()], abs=6e-7)
    assert len(set(expected.values())) > 2


def test_what_a_search_leaves_behind(whole, dataset, config):
    assert sorted(p.name for p in whole.iterdir()) == sorted([*OUTPUTS, ".crfnet"])
    assert "noise" in (whole / "best.yaml").read_text()
    assert (whole / "images.txt").read_text().split() == draw_images(dataset.ids, config)
    rows = table(whole)
    keys = [tuple(r[axis] for axis in AXES) for r in rows]
    assert len(set(keys)) == len(keys) == 4 + 9 - 1
    winner = max(rows, key=lambda row: float(row["miou"]))
    best = load_crf_config(whole / "best.yaml")
    assert tuple(getattr(best, axis) for axis in AXES) == tuple(float(winner[axis]) for axis in AXES)
    assert f"{100 * float(winner['miou']):.3f} %" in (whole / "best.yaml").read_text()
    assert (best.w2, best.theta_gamma, best.iterations, best.normalization) == (3.0, 3.0, 2, "after")


def test_second_round_surrounds_the_first_best(whole):
    rows = table(whole)
    center = max((r for r in rows if r["round"] == "1"), key=lambda r: float(r["miou"]))
    for axis, step in (("w1", 1.0), ("theta_alpha", 2.0), ("theta_beta", 0.0)):
        c = float(center[axis])
        expected = {v for v in (c - step, c, c + step) if v > 0}
        assert {float(r[axis]) for r in rows if r["round"] == "2"} == expected


def test_optuna_is_quiet_and_left_as_it_was(tmp_path, dataset, scores, config, capfd):
    few = dataclasses.replace(config, rounds=1, w1=(1.0,), theta_alpha=(4.0,))
    search(dataset, dataset.ids, scores, few, tmp_path / "out")
    error = capfd.readouterr().err
    assert "new study" not in error
    assert "best=" in error
    assert logging.getLogger("optuna").level == optuna.logging.INFO


def test_ties_go_to_the_first(tmp_path, dataset, scores, config, monkeypatch):
    def same_everywhere(logits, image, points, config):
        return [(point, logits[0].argmax(0)) for point in points]

    monkeypatch.setattr(run_tasks, "sweep_labels", same_everywhere)
    best = search(dataset, dataset.ids, scores, config, tmp_path / "out")
    assert (best.w1, best.theta_alpha, best.theta_beta) == (1.0, 4.0, 10.0)


@pytest.mark.parametrize(
    ("where", "calls"),
    # Round 1 is 2 groups of 2 points, each over 3 images: a kill inside a group, and before it is kept.
    [("sweep_labels", 8), ("finish", 0), ("publish_trials", 0), ("encode", 2)],
)
def test_a_kill_and_a_resume_end_in_the_same_table(
    tmp_path, dataset, scores, config, whole, monkeypatch, where, calls
):
    targets = {
        "sweep_labels": run_tasks,
        "finish": task_queue.TaskQueue,
        "publish_trials": task_queue.TaskQueue,
        "encode": PointCounts,
    }
    with monkeypatch.context() as patch:
        kill_after(patch, targets[where], where, calls)
        with pytest.raises(KeyboardInterrupt):
            search(dataset, dataset.ids, scores, config, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".crfnet", "study.db"]
    search(dataset, dataset.ids, scores, config, tmp_path, resume=True)
    assert same_results(tmp_path, whole)


def test_finished_points_are_not_computed_again(tmp_path, dataset, scores, config, whole, monkeypatch):
    one_round = dataclasses.replace(config, rounds=1)
    with monkeypatch.context() as patch:
        kill_after(patch, run_tasks, "sweep_labels", 4)  # a group of three images, and one image
        with pytest.raises(KeyboardInterrupt):
            search(dataset, dataset.ids, scores, one_round, tmp_path / "out")
    with monkeypatch.context() as patch:
        kill_after(patch, run_tasks, "sweep_labels", 3)  # the group that is left
        search(dataset, dataset.ids, scores, one_round, tmp_path / "out", resume=True)
    shutil.copytree(whole, tmp_path / "whole")
    (tmp_path / "whole" / "table.csv").unlink()
    kill_after(monkeypatch, run_tasks, "sweep_labels", 0)
    search(dataset, dataset.ids, scores, config, tmp_path / "whole", resume=True)
    assert same_results(tmp_path / "whole", whole)


def test_the_study_is_optunas(whole, config):
    storage = optuna.storages.RDBStorage(f"sqlite:///{whole / 'study.db'}")
    trials = optuna.load_study(study_name="crfnet-search", storage=storage).get_trials(deepcopy=False)
    tasks = optuna.load_study(study_name="crfnet-search tasks", storage=storage).get_trials(deepcopy=False)
    storage.remove_session()
    storage.engine.dispose()
    rows = table(whole)
    assert {Point(**trial.params) for trial in trials if trial.user_attrs["round"] == 1} == set(
        config.grid().points()
    )
    assert [tuple(trial.params[axis] for axis in AXES) for trial in trials] == [
        tuple(float(row[axis]) for axis in AXES) for row in rows
    ]
    assert [f"{trial.value:.6f}" for trial in trials] == [row["miou"] for row in rows]
    results = [TaskResult.decode(trial.user_attrs) for trial in tasks]
    counts = [one for result in results for one in result.counts]
    assert len(counts) == len(rows)
    # The first row of each of the three images is void.
    assert {one.confusion.shape[:2] for one in counts} == {(1, 3)}
    assert {int(one.confusion.sum()) for one in counts} == {3 * 11 * 16}


def test_folder_in_use(tmp_path, dataset, scores, config, whole):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "notes.txt").write_text("mine")
    other = dataclasses.replace(config, rounds=1, w1=(2.0,), theta_alpha=(4.0,))
    with pytest.raises(InputError, match=r"holds study\.db of an earlier search; give --resume, --overwrite"):
        search(dataset, dataset.ids, scores, config, out)
    with pytest.raises(InputError, match=r"created with w1 = \[1\.0, 3\.0\], now it is \[2\.0\]"):
        search(dataset, dataset.ids, scores, other, out, resume=True)
    with pytest.raises(InputError, match="exclude each other"):
        search(dataset, dataset.ids, scores, other, out, resume=True, overwrite=True)
    with pytest.raises(
        InputError, match="must be at most 2, the number of images"
    ):  # found before anything is removed
        search(dataset, dataset.ids[:2], scores, other, out, overwrite=True)
    assert same_results(out, whole)
    search(dataset, dataset.ids, scores, other, out, overwrite=True)
    assert len(table(out)) == 1
    assert (out / "notes.txt").read_text() == "mine"


def test_resume_with_other_scores_is_refused(tmp_path, dataset, config, whole):
    shutil.copytree(whole, tmp_path / "out")
    changed = ((image_id, 0.5 * logits) for image_id, logits in noisy_logits(dataset))
    again = write_scores(tmp_path / "scores", changed, CLASSES, False, "noise")
    with pytest.raises(InputError, match="created with digest of images, labels and scores"):
        search(dataset, dataset.ids, again, config, tmp_path / "out", resume=True)


def test_a_study_file_that_is_none(tmp_path, dataset, scores, config):
    (tmp_path / "study.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match=r"study\.db: not an Optuna study"):
        search(dataset, dataset.ids, scores, config, tmp_path, resume=True)


def test_resume_where_nothing_began_starts(tmp_path, dataset, scores, config):
    few = dataclasses.replace(config, rounds=1, w1=(1.0,), theta_alpha=(4.0,))
    (tmp_path / "study.db").touch()  # the kill came before the first page
    search(dataset, dataset.ids, scores, few, tmp_path, resume=True)
    assert len(table(tmp_path)) == 1


def test_outputs_without_a_study_cannot_be_resumed(tmp_path, dataset, scores, config):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "best.yaml").write_text("crf: {}")
    with pytest.raises(InputError, match=r"no study\.db to resume"):
        search(dataset, dataset.ids, scores, config, tmp_path / "out", resume=True)


def test_results_of_another_study_cannot_be_resumed(tmp_path, dataset, scores, config, whole):
    shutil.copytree(whole, tmp_path / "out")
    other = dataclasses.replace(config, study="other")
    with pytest.raises(InputError, match=r"study\.db: holds no search 'other', so what is in the folder"):
        search(dataset, dataset.ids, scores, other, tmp_path / "out", resume=True)
    assert same_results(tmp_path / "out", whole)


def never(*args):
    raise AssertionError("long work began")


def test_bad_input_is_found_before_long_work(tmp_path, dataset, config, monkeypatch):
    monkeypatch.setattr(run_tasks, "sweep_labels", never)
    scores = write_scores(tmp_path / "scores", noisy_logits(dataset), CLASSES, False, "noise")
    out = tmp_path / "out"
    last = draw_images(dataset.ids, config)[-1]

    with pytest.raises(InputError, match=r"search\.images is 3, must be at most 2"):
        search(dataset, dataset.ids[:2], scores, config, out)
    with pytest.raises(InputError, match="1 image ids occur twice"):
        search(dataset, [*dataset.ids, "p0"], scores, config, out)
    with pytest.raises(InputError, match="no image 'x0'"):
        search(dataset, ["x0", "x1", "x2"], scores, config, out)

    (tmp_path / "scores" / f"{last}.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=rf"{last}\.npz: cannot be read"):
        search(dataset, dataset.ids, scores, config, out)
    np.savez(tmp_path / "scores" / f"{last}.npz", scores=np.zeros((CLASSES + 1, 2, 2), np.float16))
    with pytest.raises(InputError, match=rf"{last}\.npz: scores have shape \(4, 2, 2\)"):
        search(dataset, dataset.ids, scores, config, out)
    (tmp_path / "scores" / f"{last}.npz").unlink()
    with pytest.raises(InputError, match=f"no scores for image '{last}'"):
        search(dataset, dataset.ids, ScoreFolder(tmp_path / "scores"), config, out)
    sheet = tmp_path / "scores" / "scores.yaml"
    sheet.write_text(yaml.safe_dump(yaml.safe_load(sheet.read_text()) | {"num_classes": 5}))
    with pytest.raises(InputError, match="scores of 5 classes, must be 3, as many as"):
        search(dataset, dataset.ids, ScoreFolder(tmp_path / "scores"), config, out)
    assert not out.exists()


class Mislabeled(TinyDataset):
    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample._replace(labels=torch.full_like(sample.labels, self.label))


@pytest.mark.parametrize(("label", "message"), [(CLASSES, "labels holds 3"), (255, "all pixels.*void")])
def test_bad_labels(tmp_path, scores, config, label, message, monkeypatch):
    monkeypatch.setattr(run_tasks, "sweep_labels", never)
    dataset = Mislabeled(label)
    with pytest.raises(InputError, match=message):
        search(dataset, dataset.ids, scores, config, tmp_path / "out")


def test_draw_is_seeded_and_in_order():
    ids = [f"{i:03}" for i in range(200)]
    drawn = draw_images(ids, SearchConfig())
    assert len(set(drawn)) == 100
    assert drawn == sorted(drawn)
    assert drawn == draw_images(ids, SearchConfig())
    assert drawn != draw_images(ids, SearchConfig(seed=11))


def test_tiny(tmp_path):
    dataset = TinyDataset(1, (4, 8))
    scores = write_scores(tmp_path / "s", noisy_logits(dataset), CLASSES, False, "x")
    config = SearchConfig(
        images=1, w1=(2.0,), theta_alpha=(5.0,), theta_beta=(9.0,), rounds=3, iterations=1, w2=0.0
    )
    best = search(dataset, dataset.ids, scores, config, tmp_path / "out")
    assert (best.w1, best.theta_alpha, best.theta_beta, best.w2) == (2.0, 5.0, 9.0, 0.0)
    assert len(table(tmp_path / "out")) == 1
