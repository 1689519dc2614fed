"""What crfnet demo is to show: a network that learns, blurred at borders, and a CRF that finds them again."""

from importlib.resources import files
from pathlib import Path

import torch

from crfnet.crf.layer import CRFConfig
from crfnet.data import load_dataset
from crfnet.evaluation.evaluator import Evaluation
from crfnet.pipeline.build import build_run_segmenter
from crfnet.pipeline.run_config import load_run
from crfnet.training import train

DEMO = Path(str(files("crfnet.pipeline"))) / "demo.yaml"


def test_a_third_of_the_demos_training_learns_what_a_crf_sharpens(tmp_path):
    run = load_run(DEMO, ["--train.iterations", "160"])
    train_set, val = load_dataset(run.data, "train"), load_dataset(run.data, "val")
    before = torch.get_num_threads()
    torch.set_num_threads(run.threads)
    try:
        train(build_run_segmenter(run, 6, None, None), train_set, run.train, tmp_path, seed=run.seed)
    finally:
        torch.set_num_threads(before)
    crf = CRFConfig(w1=8.0, theta_alpha=20.0, theta_beta=8.0)
    arms = {}
    for name, parameters in {"unary": None, "posthoc": crf}.items():
        model = build_run_segmenter(run, 6, tmp_path / "checkpoint.pt", parameters).eval()
        arms[name] = Evaluation(6, max_width=3)
        with torch.no_grad():
            for sample in (val[index] for index in range(20)):
                arms[name].add(sample.id, model(sample.image[None]).argmax(1)[0], sample.labels)
    unary, posthoc = (arm.metrics() for arm in arms.values())
    assert unary.miou > 0.6
    assert unary.per_class_iou.min() > 0.3
    assert posthoc.miou > unary.miou + 0.04
