import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.search import SearchConfig, sweep
from tests.tolerances import assert_close

WEIGHTS = (1.0, 2.5, 6.0)


def case(height: int = 9, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 4, height, width), torch.randint(0, 80, (1, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("w2", [3.0, 0.0])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_same_as_the_layer_for_each_weight(normalization, w2):
    logits, image = case()
    config = SearchConfig(w2=w2, theta_gamma=1.5, iterations=3, normalization=normalization)
    large_sums = normalization == "none"
    weights = tuple(w / 50 for w in WEIGHTS) if large_sums else WEIGHTS
    swept = sweep.sweep_w1(logits, image, weights, 5.0, 20.0, config)
    for w1, log_q in zip(weights, swept, strict=True):
        layer = DenseCRF(
            4,
            CRFConfig(
                w1=w1,
                theta_alpha=5.0,
                theta_beta=20.0,
                w2=w2,
                theta_gamma=1.5,
                iterations=3,
                normalization=normalization,
            ),
        ).eval()
        with torch.no_grad():
            expected = layer(logits, image)
        assert_close(log_q[None], expected, "layer", torch.float32)


def test_weights_in_turns_change_nothing(monkeypatch):
    logits, image = case(5, 4)
    together = sweep.sweep_w1(logits, image, WEIGHTS, 3.0, 20.0, SearchConfig(iterations=2))
    monkeypatch.setattr(sweep, "_LARGEST_STACK", 1)
    in_turns = sweep.sweep_w1(logits, image, WEIGHTS, 3.0, 20.0, SearchConfig(iterations=2))
    assert_close(in_turns, together, "layer", torch.float32)
    assert together.shape == (3, 4, 5, 4)


def test_one_pixel_one_weight():
    logits, image = case(1, 1)
    log_q = sweep.sweep_w1(logits, image, (4.0,), 3.0, 20.0, SearchConfig(iterations=1, w2=0.0))
    # The only pixel is its own only neighbour, so K~ Q = Q.
    q = logits.softmax(1)
    assert_close(log_q, (logits + 4 * q).log_softmax(1), "layer", torch.float32)


def test_no_gradient_and_inputs_untouched():
    logits, image = case(4, 4)
    logits.requires_grad_()
    before = logits.detach().clone()
    log_q = sweep.sweep_w1(logits, image, WEIGHTS, 3.0, 20.0, SearchConfig(iterations=2))
    assert not log_q.requires_grad
    assert torch.equal(logits.detach(), before)
