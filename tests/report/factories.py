"""Arms on a few small scenes, with everything that stages leave in their folders, and a report of them."""

import dataclasses
import json
from pathlib import Path

import torch
from PIL import Image

from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.labels import VOC_PALETTE
from crfnet.report import ENERGY_FILE, ArmResult, EnergyTrace, write_energy_traces, write_report

CLASSES = ("background", "cat", "dog")
CONFIG = EvaluationConfig(max_width=3, draws=40, seed=1)
SHIFTS = {"unary": 3, "posthoc": 2, "joint": 0, "unary+": 2, "posthoc+": 1}
CRF = {"w1": 4.0, "theta_alpha": 49.0, "theta_beta": 5.0, "normalization": "after"}


def scene(index, void=True):
    """Image, labels and each arm's prediction: an object that worse arms shift further; sizes differ."""
    labels = torch.zeros(12 + index % 2 * 4, 16, dtype=torch.int64)
    labels[3:9, 4 + index % 3 : 10] = 1 + index % 2
    truth = labels.clone()
    if void:
        truth[3:9, 9:11] = 255
    predictions = {name: labels.roll(shift * (1 + index % 2), 1) for name, shift in SHIFTS.items()}
    return (labels * 80).expand(3, -1, -1).byte(), truth, predictions


def make_arms(void=True, images=10, names=tuple(SHIFTS)):
    evaluations = {name: Evaluation(3, CONFIG.max_width) for name in names}
    for index in range(images):
        _, truth, predictions = scene(index, void)
        for name in names:
            evaluations[name].add(f"im{index}", predictions[name], truth)
    return [
        ArmResult(
            name,
            evaluations[name],
            seconds_per_image=0.25,
            train_seconds=1234.0,
            search_seconds=float("nan"),
            peak_memory_mb=512.0,
            crf=None if name.startswith("unary") else CRF,
            search_ids=("s1", "s2") if name.startswith("posthoc") else (),
        )
        for name in names
    ]


def write(folder, arms, samples=(0, 1), **changes):
    given = {
        "title": "A title",
        "class_names": CLASSES,
        "palette": VOC_PALETTE[:3],
        "facts": {"command": "crfnet compare a | b", "commit": "abc123"},
        "strip_samples": [(f"im{i}", *scene(i)) for i in samples],
        "config": CONFIG,
    }
    return write_report(folder, arms, **(given | changes))


def with_folders(arms, root: Path):
    """The arms with their counts, a heat map, a training log and energies on disk."""
    searched, trained = root / "posthoc/search", root / "joint/train"
    for folder in (searched, trained):
        folder.mkdir(parents=True)
    Image.new("RGB", (40, 30), (68, 1, 84)).save(searched / "heatmap.png")
    lines = [
        {"step": step, "loss": 1.0, "crf": {"w1": 3.0 - step, "theta_beta": [4.0, 6.0 + step], "mu": [[0.0]]}}
        for step in (1, 2, 3)
    ]
    (trained / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 4, "cr')
    there = []
    for arm in arms:
        folder = root / arm.name / "predictions"
        folder.mkdir(parents=True)
        arm.evaluation.save(folder / "evaluation.npz")
        places = {"folder": folder}
        if arm.crf is not None:
            write_energy_traces(folder / ENERGY_FILE, [EnergyTrace("im0", [2.0, 1.5, 1.25], [0.5, 0.125])])
            places |= {"search_folder": searched}
        if arm.name == "joint":
            places |= {"train_folder": trained}
        there.append(dataclasses.replace(arm, **places))
    return there
