"""What is copied from the page does what the page shows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crfnet.crf.config_file import load_crf_config
from crfnet.crf.filters import ExactFilter, LocalFilter
from crfnet.crf.inference import FrankWolfe, MeanField
from crfnet.crf.layer import PRESETS, CRFConfig, DenseCRF
from crfnet.explore.snippets import SNIPPETS, as_pydensecrf, as_python, as_yaml
from tests.explore.test_session import CRF, scene

CONFIGS = [
    CRF,
    CRFConfig(),
    *PRESETS.values(),
    CRFConfig(w1=0.0, theta_alpha=math.inf, filter=ExactFilter(eps=1e-3), unary_weight=0.8),
    CRFConfig(filter=LocalFilter(window=7, pool=2), inference=MeanField(damping=0.25), w2=0.0),
    CRFConfig(inference=FrankWolfe()),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_yaml_and_python_say_the_same_configuration(tmp_path, config):
    path = tmp_path / "crf.yaml"
    path.write_text(as_yaml(config, 4))
    assert load_crf_config(path) == config
    image, logits = scene()
    names = {"image": image[None], "logits": logits}
    exec(as_python(replace(config, iterations=1), 4), names)
    assert names["config"] == replace(config, iterations=1)
    assert names["labels"].shape == (1, *image.shape[1:])


@pytest.mark.parametrize("normalization", ["after", "symmetric", "before", "none"])
@pytest.mark.parametrize("change", [{}, {"w1": 0.0}, {"w2": 0.0}, {"unary_weight": 0.6}], ids=str)
def test_pydensecrf_gives_the_same_labels(normalization, change):
    config = replace(CRF, **{"w1": 2.0, "spatial": "permutohedral", "normalization": normalization, **change})
    image, logits = scene()
    code = as_pydensecrf(config, 4)
    assert "differs" not in code
    names = {"image": image.permute(1, 2, 0).numpy(), "logits": logits[0].numpy()}
    exec(code.replace("import pydensecrf.densecrf", "import crfnet.pydensecrf.densecrf"), names)
    with torch.no_grad():
        wanted = DenseCRF(4, config).eval().map(logits, image[None])[0].numpy()
    assert np.mean(names["labels"] != wanted) < 0.002
    assert np.mean(logits[0].argmax(0).numpy() != wanted) > 0.02


def test_what_pydensecrf_does_not_know_is_said():
    for config, said in (
        (CRFConfig(), "spatial separable"),
        (CRFConfig(filter="exact"), "filter ExactFilter"),
        (CRFConfig(inference=MeanField(damping=0.5)), "damping=0.5"),
        (CRFConfig(inference=FrankWolfe()), "FrankWolfe"),
        (PRESETS["crfasrnn"], "compatibility"),
        (PRESETS["convcrf"], "first step"),
    ):
        lines = [line for line in as_pydensecrf(config, 4).splitlines() if line.startswith("# differs")]
        assert any(said in line for line in lines), said
    assert set(SNIPPETS) == {"YAML", "Python", "pydensecrf"}
