"""Checkpoints of an older version load: potentials were called kernels, parameters of variants were flat."""

import pytest
import torch

from crfnet.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_crf,
    load_model,
    read_checkpoint,
    save_checkpoint,
)
from crfnet.checkpoints.convert import convert_file
from crfnet.crf import CRFConfig, FrankWolfe
from crfnet.crf.filters import LocalFilter, PermutohedralFilter
from crfnet.crf.inference import MeanField
from crfnet.files.weight_files import write_safetensors
from crfnet.models import ModelConfig
from crfnet.segmenter import build_segmenter

MODEL = ModelConfig(backbone="resnet18", width=0.125)
#: What an older checkpoint has of the CRF, whatever was chosen.
FLAT = {
    "w1": 3.5, "theta_alpha": 40.0, "theta_beta": 6.0, "w2": 2.0, "theta_gamma": 3.0,
    "normalization": "after", "unary_weight": 1.0, "compatibility": "potts", "weights": "scalar",
    "inference": "mean_field", "iterations": 7, "train_iterations": 4, "damping": 0.25,
    "regularizer": "entropy", "step": "fixed", "alpha": 0.5, "lam": 1.0, "tolerance": 0.01, "prune": 0.0,
    "recompute": True, "filter": "local", "rows": 64, "eps": 1e-4, "window": 5, "pool": 2,
    "learn_theta": True, "learn_weights": True, "learn_compatibility": True,
}  # fmt: skip


def older(model, **changes):
    """A checkpoint as it was written then."""
    state = {name.replace("crf.potentials.", "crf.kernels."): v for name, v in model.state_dict().items()}
    assert any(name.startswith("crf.kernels.") for name in state)
    settings = {f"crf.{name}": value for name, value in {**FLAT, **changes}.items()} | {"lr": 0.1}
    return Checkpoint(step=3, seconds=1.0, settings=settings, model=state, optimizer={}, random={})


@pytest.mark.parametrize(
    ("changes", "filter", "inference"),
    [
        ({}, LocalFilter(5, 2), MeanField(damping=0.25, tolerance=0.01, recompute=True)),
        (
            {"filter": "permutohedral", "inference": "frank_wolfe", "damping": 0.0},
            PermutohedralFilter(64),
            FrankWolfe(alpha=0.5, tolerance=0.01, recompute=True),
        ),
    ],
)
def test_an_older_checkpoint_is_the_same_model(tmp_path, changes, filter, inference):
    path = tmp_path / "checkpoint.pt"
    model = build_segmenter(MODEL, 3, CRFConfig(w1=3.5, theta_alpha=40.0))
    save_checkpoint(path, older(model, **changes))
    config = checkpoint_crf(path)
    assert config == CRFConfig(
        3.5, 40.0, 6.0, 2.0, filter=filter, inference=inference, iterations=7, train_iterations=4
    )
    other = build_segmenter(MODEL, 3, config)
    load_model(other, path)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    settings = read_checkpoint(path)["settings"]
    assert settings["lr"] == 0.1
    assert {"crf.rows", "crf.damping", "crf.window", "crf.alpha"}.isdisjoint(settings)


def test_older_weights_in_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    model = build_segmenter(MODEL, 3, CRFConfig())
    checkpoint = older(model)
    write_safetensors(path, checkpoint["model"], {"format": "crfnet", "settings": checkpoint["settings"]})
    found = convert_file(path)
    assert found.model.keys() == model.state_dict().keys()
    assert found.settings["crf.local.window"] == 5
