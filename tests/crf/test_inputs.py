"""Every row of the table of arguments in crfnet/crf/README.md: what is taken, what is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import crfnet.crf
from crfnet.crf.checks import check_image_range, check_input
from crfnet.crf.config import CRFConfig
from crfnet.crf.filters import ExactFilter
from crfnet.crf.inputs import as_tensor, beside
from crfnet.crf.layer import DenseCRF
from crfnet.crf.loss import DenseCRFLoss, check_loss_input
from crfnet.crf.potentials import FeaturePotential

README = Path(crfnet.crf.__file__).with_name("README.md")
L, H, W = 3, 4, 5


def logits(*shape: int) -> Tensor:
    return torch.randn(shape or (1, L, H, W), generator=torch.Generator().manual_seed(0))


def image(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape or (1, 3, H, W), generator=torch.Generator().manual_seed(1)).float()


def crf(**options: object) -> DenseCRF:
    config = CRFConfig(theta_alpha=3.0, theta_beta=60.0, filter=ExactFilter(), iterations=2)
    return DenseCRF(L, config, **options).eval()


def loss() -> DenseCRFLoss:
    return DenseCRFLoss(weight=0.1, sigma_rgb=60.0, sigma_xy=3.0, filter=ExactFilter(), scale=1.0)


def same(given: Callable[[], Tensor], expected: Callable[[], Tensor], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(given().float(), expected().float(), atol=tolerance, rtol=tolerance)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "numpy": lambda x: x.numpy(),
    "numpy float64": lambda x: x.numpy().astype("f8"),
    "numpy big-endian": lambda x: x.numpy().astype(">f4"),
    "read-only": lambda x: read_only(x.numpy()),
    "backwards": lambda x: x.numpy()[..., ::-1].copy()[..., ::-1],
    "every other": lambda x: np.repeat(x.numpy(), 2, -1)[..., ::2],
}
AS_IMAGE = FORMS | {
    "uint8": lambda x: x.byte(),
    "numpy uint8": lambda x: x.numpy().astype("u1"),
    "int64": lambda x: x.long(),
    "numpy uint16": lambda x: x.numpy().astype("u2"),
    "uint16": lambda x: x.to(torch.uint16),
    "float16": lambda x: x.half(),
    "float64": lambda x: x.double(),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits(form: str) -> None:
    same(lambda: crf()(FORMS[form](logits()), image()), lambda: crf()(logits(), image()))
    same(lambda: crf().marginals(FORMS[form](logits()), image()), lambda: crf().marginals(logits(), image()))
    assert torch.equal(crf().map(FORMS[form](logits()), image()), crf().map(logits(), image()))
    p = logits().softmax(1)
    same(lambda: loss()(FORMS[form](p), image()), lambda: loss()(p, image()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types_of_logits(dtype: torch.dtype) -> None:
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert crf()(logits().to(dtype), image()).dtype == wanted
    assert loss()(logits().softmax(1).to(dtype), image()).dtype == wanted


@pytest.mark.parametrize("form", AS_IMAGE)
def test_images(form: str) -> None:
    given = AS_IMAGE[form](image())
    same(lambda: crf()(logits(), given), lambda: crf()(logits(), image()))
    p = logits().softmax(1)
    same(lambda: loss()(p, given), lambda: loss()(p, image()))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(channels: int) -> None:
    """In the loss as in the layer: gray is the color that three equal channels have at sqrt(3) theta."""
    p, given = logits().softmax(1), image(1, channels, H, W)
    assert crf()(logits(), given).isfinite().all()
    assert loss()(p, given).isfinite()
    if channels == 1:
        wider = DenseCRFLoss(0.1, 60.0 * 3**0.5, 3.0, 1.0, ExactFilter())
        same(lambda: loss()(p, given), lambda: wider(p, given.expand(1, 3, H, W)))


def test_another_device() -> None:
    """What has no values stays, and is refused; what has is copied."""
    assert beside("image", image(), logits()).device == logits().device
    assert beside("image", image().to("meta"), logits()).is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_copied_to_the_logits() -> None:
    layer, mask = crf().cuda(), torch.ones(1, H, W, dtype=torch.bool)
    answer = layer(logits().cuda(), image().byte(), mask=mask, spacing=(1, 2))
    assert answer.is_cuda
    same(answer.cpu, lambda: crf()(logits(), image(), mask=mask, spacing=(1, 2)), 1e-4)
    assert layer(logits().numpy(), image().numpy()).is_cuda
    p = logits().softmax(1)
    same(lambda: loss()(p.cuda(), image(), mask).cpu(), lambda: loss()(p, image(), mask), 1e-4)


@pytest.mark.parametrize(
    ("change", "image_range"),
    [
        (lambda x: x / 255 * 2000 - 1000, (-1000, 1000)),  # Hounsfield units
        (lambda x: (x - 127.5) / 42.5, (-3.0, 3.0)),  # z-scores
        (lambda x: x / 255, (0, 1)),
        (lambda x: (x * 257).numpy().astype("u2"), [0, 65535]),
        (lambda x: (x * 8 - 1000).numpy().astype("i2"), np.array([-1000, 1040])),
    ],
)
def test_image_range(change: Callable[[Tensor], Tensor], image_range: object) -> None:
    options = {"image_range": tuple(image_range)}
    given, p = change(image()), logits().softmax(1)
    same(lambda: crf()(logits(), given, **options), lambda: crf()(logits(), image()), 1e-4)
    same(lambda: loss()(p, given, **options), lambda: loss()(p, image()), 1e-3)
    same(lambda: crf().trace(logits(), given, **options).free_energy[-1], lambda: energy(image()), 1e-3)
    with pytest.raises(ValueError, match=r"image: values from .* or give image_range=\(lowest, highest\)\)"):
        crf()(logits(), given)


def energy(given: Tensor) -> Tensor:
    return crf().trace(logits(), given).free_energy[-1]


def test_values_beyond_the_range_are_cut_off() -> None:
    air, metal = image() * 0 - 2000.0, image() * 0 + 9000.0
    half = torch.where(torch.arange(W) < 2, air, metal)
    cut = torch.where(torch.arange(W) < 2, 0.0 * air, 255.0 + 0 * air)
    answers = [crf()(logits(), half, image_range=(-1000, 1000)), crf()(logits(), cut)]
    assert torch.equal(*answers)
    nothing_but_air = image() * 1e-3 - 1000  # within one of the 256 steps
    assert crf()(logits(), nothing_but_air, image_range=(-1000, 1000)).isfinite().all()


@pytest.mark.parametrize(
    "spacing", [(2, 0.5, 1), [2, 0.5, 1], np.array([2, 0.5, 1]), np.array([[2, 0.5, 1]])]
)
def test_spacing_of_a_volume(spacing: object) -> None:
    volume, scores = image(1, 1, 2, 3, 4), logits(1, L, 2, 3, 4)
    expected = crf()(scores, volume, spacing=torch.tensor([2, 0.5, 1]))
    same(lambda: crf()(scores, volume, spacing=spacing), lambda: expected)
    assert not torch.allclose(crf()(scores, volume), expected)


@pytest.mark.parametrize("spacing", [2, 2.0, np.float32(2), (2, 2), torch.tensor(2), np.array([2, 2])])
def test_one_spacing_for_every_axis(spacing: object) -> None:
    expected = crf()(logits(), image(), spacing=torch.tensor([2.0, 2.0]))
    same(lambda: crf()(logits(), image(), spacing=spacing), lambda: expected)


def test_a_copy_to_the_host_is_waited_for(monkeypatch) -> None:
    """Which reads it at once."""
    asked: list[bool] = []

    def to(self: Tensor, device: object, non_blocking: bool = False) -> Tensor:
        asked.append(non_blocking)
        return self

    monkeypatch.setattr(Tensor, "to", to)
    beside("image", torch.zeros(2), torch.zeros(3))
    assert asked == [False]


def test_mask_and_features_of_numpy() -> None:
    mask = torch.ones(1, H, W, dtype=torch.bool)
    mask[0, 0] = False
    same(lambda: crf()(logits(), image(), mask=mask.numpy()), lambda: crf()(logits(), image(), mask=mask))
    p = logits().softmax(1)
    same(lambda: loss()(p, image(), mask.numpy()), lambda: loss()(p, image(), mask))
    named = crf(potentials={"depth": FeaturePotential(1.0, [1.0, 1.0], source="depth", num_classes=L)})
    given = image(1, 2, H, W) / 99
    same(
        lambda: named(logits(), features={"depth": given.numpy()}),
        lambda: named(logits(), features={"depth": given}),
    )


def check(**change: object) -> None:
    """What the layer does with an argument, without the shapes that are checked while testing."""
    given = {"logits": logits(), "image": image(), **change}
    check_input(given.pop("logits"), given.pop("image"), L, **given)


REFUSED = {
    "`logits`, `probabilities`": [
        (lambda: check(logits=logits().long()), "logits: torch.int64, must be floating point"),
        (lambda: check(logits=logits() * np.nan), "logits: contain NaN"),
        (lambda: as_tensor("logits", [["a"]]), "logits: a list of <U1, must hold real numbers"),
        (lambda: as_tensor("logits", [[1, 2], [1]]), "logits: .*inhomogeneous"),
        (
            lambda: check_input(logits(L, H, W), image(1, 3, H, W), H),
            r"image: .*these logits \(b, l, n\) have no batch axis: give logits\[None\]",
        ),
        (lambda: check_loss_input(logits(), image(), None, 1.0), r"probabilities: .* must be in 0\.\.1"),
    ],
    "`image`": [
        (lambda: check(image=image() / 255), "image: values from 0"),
        (lambda: check(image=image().movedim(1, -1)), r"channels come last: give image.movedim\(-1, 1\)"),
        (lambda: check(image=image()[0].movedim(0, -1)), r"give image.movedim\(-1, 0\)\[None\]"),
        (lambda: check(image=image()[0]), r"it has no batch axis: give image\[None\]"),
        (lambda: check(image=image() > 9), "image: torch.bool, must be uint8 or floating point"),
    ],
    "`image` on another device": [
        (lambda: check(image=image().to("meta")), "image: on meta, must be where the logits are, cpu"),
    ],
    "`image_range`": [
        (
            lambda: check(image_range=(1, 0)),
            r"image_range is \(1, 0\), must be \(lowest, highest\), two finite numbers",
        ),
        (lambda: check(image_range=7), "image_range is 7, must be"),
        (lambda: check(image_range=(0, float("inf"))), "image_range is .0, inf., must be"),
        (lambda: check(image_range=(-9, -1)), r"image: values from .* must not be all outside image_range"),
        (lambda: check(image=image() * np.nan, image_range=(0, 1)), "image: contains NaN"),
        (lambda: check_image_range(image() > 9, (0, 1)), "image: torch.bool, must be real numbers"),
    ],
    "`mask`": [
        (lambda: check(mask=torch.ones(1, H, W)), "mask: torch.float32 of shape .* must be torch.bool"),
        (lambda: check(mask=torch.zeros(1, H, W, dtype=torch.bool)), "mask: image 0 has no pixel inside"),
    ],
    "`spacing`": [
        (lambda: check(spacing=torch.ones(3)), r"spacing: .* of shape \(3,\), must be"),
        (
            lambda: check(spacing=torch.tensor([1.0, 0])),
            "spacing: values from 0 to 1, must be finite and > 0",
        ),
    ],
    "`features`": [
        (lambda: check(features={"f": image()[0]}), r"features 'f': shape \(3, 4, 5\), must be"),
        (lambda: check(features={"f": image().long()}), "features 'f': torch.int64, must be floating point"),
    ],
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_in_one_line(row: str) -> None:
    for call, words in REFUSED[row]:
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_table_has_these_rows() -> None:
    text = README.read_text(encoding="utf-8")
    table = text[text.index("| argument |") :].split("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table] == list(REFUSED)
