"""Matrices of CRF-as-RNN layers: our marginals are those of their update, for each convention."""

import numpy as np
import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF, reference
from crfnet.crf.crfasrnn import NAMES, from_crfasrnn, to_crfasrnn
from crfnet.crf.features import bilateral_features, spatial_features
from crfnet.crf.layer import PRESETS
from crfnet.errors import InputError
from tests.tolerances import assert_close

LABELS = 4
CONVENTIONS = ("pytorch", "keras", "caffe")
F64 = torch.float64
SMALL = CRFConfig(
    w1=5.0, theta_alpha=3.0, theta_beta=60.0, w2=3.0, theta_gamma=1.5, weights="full",
    compatibility="matrix", filter="exact", iterations=5,
)  # fmt: skip


def _state():
    """Asymmetric and of no order, so that a transpose, a swap or a sign shows."""
    return {name: torch.randn(LABELS, LABELS) for name in NAMES}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_marginals_are_those_of_their_update(convention):
    state = _state()
    crf = from_crfasrnn(state, convention, SMALL).double().eval()
    logits = torch.randn(2, LABELS, 5, 6, dtype=F64)
    image = 255 * torch.rand(2, 3, 5, 6, dtype=F64)
    theta = crf.parameters_by_name()
    place = spatial_features(5, 6, theta["theta_gamma"], dtype=F64, device=image.device)
    points = bilateral_features(image, theta["theta_alpha"], theta["theta_beta"])
    spatial, bilateral = (reference.normalized_kernel_matrix(f, "after") for f in (place, points))
    w_s, w_b, c = (state[name].double() for name in NAMES)
    unary = logits.flatten(2)
    current = unary
    for _ in range(5):
        q = current.softmax(1)
        message_passing = w_s @ (q @ spatial.mT) + w_b @ (q @ bilateral.mT)
        pairwise = c @ message_passing
        current = unary + pairwise if convention == "pytorch" else unary - pairwise
    assert_close(crf.marginals(logits, image).flatten(2), current.softmax(1), "layer", F64)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_round_trip_is_exact(convention):
    state = _state()
    if convention == "caffe":
        state = {name: matrix[None, None] for name, matrix in state.items()}
    crf = from_crfasrnn(state, convention)
    back = to_crfasrnn(crf, convention)
    assert tuple(back) == NAMES
    for name in NAMES:
        assert torch.equal(back[name], state[name])
        assert not back[name].requires_grad
    again = from_crfasrnn(back, convention)
    for matrix in back.values():  # they are copies
        matrix.zero_()
    assert all(float(parameter.detach().abs().sum()) > 0 for parameter in again.parameters())
    assert all(torch.equal(a, b) for a, b in zip(crf.parameters(), again.parameters(), strict=True))


def test_conventions_differ_by_the_sign_of_the_compatibility():
    state = _state()
    mu = {c: from_crfasrnn(state, c).compatibility.mu.detach() for c in CONVENTIONS}
    assert torch.equal(mu["pytorch"], -state["compatibility_matrix"])
    assert torch.equal(mu["keras"], state["compatibility_matrix"])
    assert torch.equal(mu["caffe"], mu["keras"])


@pytest.mark.parametrize(("convention", "sign"), [("pytorch", 1), ("keras", -1), ("caffe", -1)])
def test_their_start_has_the_marginals_of_our_preset(convention, sign):
    identity = torch.eye(LABELS)
    start = dict(zip(NAMES, (3 * identity, 5 * identity, sign * identity), strict=True))
    logits, image = torch.randn(1, LABELS, 4, 5), 255 * torch.rand(1, 3, 4, 5)
    theirs = from_crfasrnn(start, convention).eval()
    ours = DenseCRF.preset("crfasrnn", LABELS).eval()
    assert_close(theirs(logits, image), ours(logits, image), "layer", torch.float32)
    assert theirs.config == PRESETS["crfasrnn"]


@pytest.mark.parametrize("prefix", ["", "crfrnn.", "module.crfrnn.", "crfrnn/"])
@pytest.mark.parametrize("suffix", ["", ":0"])
def test_names_within_a_whole_model(prefix, suffix):
    state = _state()
    whole = {f"{prefix}{name}{suffix}": matrix.numpy() for name, matrix in state.items()}
    whole["fcn.conv.weight"] = np.zeros((2, 2))
    whole["crfrnn.extra_compatibility_matrix"] = np.zeros((2, 2))
    crf = from_crfasrnn(whole, "keras")
    assert torch.equal(crf.compatibility.mu.detach(), state["compatibility_matrix"])


def test_half_and_double_precision_become_single():
    state = {name: matrix.double() for name, matrix in _state().items()}
    assert {p.dtype for p in from_crfasrnn(state).parameters()} == {torch.float32}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is not among .*, must be there once"),
        (torch.zeros(4, 3), r"has shape \(4, 3\), must be \(l, l\)"),
        (torch.zeros(2, 4, 4), r"has shape \(2, 4, 4\), must be \(l, l\)"),
        (torch.zeros(4), r"has shape \(4,\), must be \(l, l\)"),
        (torch.zeros(1, 1, 1, 1), r"has shape \(1, 1, 1, 1\), must be \(l, l\) with l >= 2"),
        (torch.full((4, 4), torch.nan), "holds NaN or infinity, must be finite"),
    ],
)
def test_bad_matrices_are_refused(name, value, message):
    state = {**_state(), name: value}
    if value is None:
        del state[name]
    with pytest.raises(InputError, match=f"from_crfasrnn: {name} {message}"):
        from_crfasrnn(state)


def test_matrices_of_different_classes_or_there_twice_are_refused():
    with pytest.raises(InputError, match="bilateral_ker_weights is of 3 classes, compatibility_matrix of 4"):
        from_crfasrnn({**_state(), "bilateral_ker_weights": torch.eye(3)})
    with pytest.raises(InputError, match=r"compatibility_matrix is 2 times \(.*\), must be there once"):
        from_crfasrnn({**_state(), "crfrnn.compatibility_matrix": torch.eye(4)})
    with pytest.raises(InputError, match="spatial_ker_weights is not among none"):
        from_crfasrnn({})


def test_unknown_convention_is_refused():
    message = "convention is 'torch', must be one of pytorch, keras, caffe"
    read, write = (getattr(f, "__wrapped__", f) for f in (from_crfasrnn, to_crfasrnn))  # past the type check
    with pytest.raises(InputError, match=f"from_crfasrnn: {message}"):
        read(_state(), "torch")
    with pytest.raises(InputError, match=f"to_crfasrnn: {message}"):
        write(DenseCRF.preset("crfasrnn", 2), "torch")


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "scalar"},
        {"compatibility": "symmetric"},
        {"normalization": "symmetric"},
        {"w1": 0.0},
        {"w2": 0.0},
    ],
)
def test_crf_of_another_structure_is_refused(change):
    with pytest.raises(
        InputError, match=r"to_crfasrnn: a CRF of potentials .* must be one bilateral and one spatial"
    ):
        to_crfasrnn(DenseCRF.preset("crfasrnn", LABELS, **change))
    config = DenseCRF.preset("crfasrnn", LABELS, **change).config
    with pytest.raises(InputError, match="from_crfasrnn: "):
        from_crfasrnn(_state(), "pytorch", config)
