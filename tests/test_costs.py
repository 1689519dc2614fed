"""What arms cost: measured side by side, and the memory of each by itself."""

import csv
import math
import os
import subprocess
import time
from functools import partial

import pytest
import torch

from crfnet.data import DataConfig, Sample, load_dataset
from crfnet.data.config import ToyConfig
from crfnet.evaluation.evaluator import Evaluation
from crfnet.pipeline import measure_costs as module
from crfnet.pipeline import peak_memory
from crfnet.pipeline.cost import Cost
from crfnet.pipeline.measure_costs import MEASURED_IMAGES, image_costs, measure_costs
from crfnet.pipeline.peak_memory import peak_memory_alone
from crfnet.report import ArmResult

SAMPLE = Sample("a", torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.int64))


def holding(megabytes, after=0.0):
    """What a child process builds: a predictor that needs so much memory, and waits."""

    def predict(sample):
        memory = torch.ones(megabytes * 2**18)
        time.sleep(after)
        return sample.labels + int(memory[0] < 0)

    return predict


def ending(status):
    os._exit(status)


def build_in(calls, name, seconds=0.0, work=0.0):
    def predict(sample):
        calls.append((name, sample.id))
        time.sleep(seconds)
        end = time.process_time() + work
        while time.process_time() < end:
            pass
        return sample.labels

    return predict


def samples(number):
    return [SAMPLE._replace(id=str(i)) for i in range(number)]


def test_every_arm_on_one_image_before_any_on_the_next():
    calls = []
    costs, load = image_costs({name: build_in(calls, name) for name in "abc"}, samples(4))
    warm, measured = calls[:3], calls[3:]
    assert warm == [("a", "0"), ("b", "0"), ("c", "0")]
    assert [id for _, id in measured] == [*"000", *"111", *"222", *"333"]
    turns = ["".join(name for name, _ in measured[i : i + 3]) for i in range(0, 12, 3)]
    assert turns == ["abc", "bca", "cab", "abc"]  # none always behind the same
    assert [(each.arm, each.image) for each in costs] == measured
    assert load > 0


def test_wall_clock_and_processors_are_told_apart():
    slow = {"waits": build_in([], "waits", seconds=0.05), "works": build_in([], "works", work=0.05)}
    costs, _ = image_costs(slow, samples(2))
    for each in costs:
        assert each.seconds >= 0.045
        assert (each.cpu_seconds < 0.03) == (each.arm == "waits")


def test_no_image_is_begun_when_the_time_is_over(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    costs, _ = image_costs({"a": build_in([], "a")}, samples(9))
    assert [each.image for each in costs] == ["0", "1", "2"]


def test_load_where_nobody_tells(monkeypatch):
    monkeypatch.delattr(os, "getloadavg")
    assert math.isnan(image_costs({"a": build_in([], "a")}, samples(1))[1])


@pytest.fixture(scope="module")
def peaks():
    """The memory of three arms, the second of which ends before it is built."""
    arms = {"small": partial(holding, 50), "none": partial(ending, 3), "large": partial(holding, 350)}
    return peak_memory_alone(arms, SAMPLE, limit=60.0)


def test_memory_of_each_arm_is_its_own(peaks):
    """The larger one's is not that of the smaller, whichever is first, nor that of this process."""
    assert peaks["large"] - peaks["small"] == pytest.approx(300, abs=30)
    assert peaks["small"] > 100  # the libraries
    assert math.isnan(peaks["none"])


def test_what_cannot_be_measured_is_told_once(caplog, monkeypatch):
    unknown = peak_memory_alone({"a": lambda: None}, SAMPLE, limit=60.0)  # is not picklable
    assert math.isnan(unknown["a"])
    assert "peak memory is not measured" in caplog.text
    failed = subprocess.CalledProcessError(1, "python", stderr=b"first\nModuleNotFoundError: no x\n")
    monkeypatch.setattr(peak_memory.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(failed))
    assert math.isnan(peak_memory_alone({"a": partial(holding, 1)}, SAMPLE, limit=60.0)["a"])
    assert "peak memory is not measured: ModuleNotFoundError: no x" in caplog.text
    assert "first" not in caplog.text


def test_an_arm_that_hangs_is_given_up(caplog):
    started = time.monotonic()
    peaks = peak_memory_alone({"slow": partial(holding, 1, after=500.0)}, SAMPLE, limit=1.0)
    assert math.isnan(peaks["slow"])
    assert time.monotonic() - started < 200
    assert "peak memory of slow is not measured" in caplog.text


def test_costs_of_arms(tmp_path, monkeypatch):
    """Medians over images evenly among those that were scored; a finished folder is read."""
    dataset = load_dataset(DataConfig(name="toy", toy=ToyConfig(train=1, val=40, size=(32, 32))), "val")
    scored = Evaluation(dataset.num_classes, 1)
    for sample in dataset:
        scored.add(sample.id, sample.labels.clamp(max=1), sample.labels)
    arms = [ArmResult(name, scored, *[math.nan] * 4) for name in ("a", "b", "read")]
    calls = []
    builds = {name: partial(build_in, calls, name) for name in "ab"}
    monkeypatch.setattr(module, "peak_memory_alone", lambda arms, *_, **__: {"a": 100.0, "b": 200.0})
    found = measure_costs(tmp_path, arms, builds, dataset)
    with (tmp_path / "per_image.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    ids = list(dict.fromkeys(row["image"] for row in rows))
    assert ids == [dataset.ids[i * 40 // MEASURED_IMAGES] for i in range(MEASURED_IMAGES)]
    mine = sorted(float(row["seconds"]) for row in rows if row["arm"] == "a")
    assert found[0].seconds_per_image == pytest.approx((mine[7] + mine[8]) / 2)
    assert [arm.peak_memory_mb for arm in found[:2]] == [100.0, 200.0]
    assert found[0].machine_load == found[1].machine_load > 0
    assert math.isnan(found[2].seconds_per_image)  # nothing to build
    number = len(calls)
    assert measure_costs(tmp_path, arms, builds, dataset)[:2] == found[:2]
    assert len(calls) == number
    assert measure_costs(tmp_path / "no", arms, {}, dataset) == arms
    assert not (tmp_path / "no").exists()


def test_a_run_on_a_cpu_beside_a_gpu_measures_its_own_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with Cost() as cost:
        pass
    assert cost.peak_mb > 0
