"""What the real pydensecrf answered: an image of 11 x 17 pixels, sets of points in 1 to 8 dimensions."""

from pathlib import Path

import numpy as np
import pytest

from crfnet.pydensecrf import densecrf as dcrf
from tests.pydensecrf.dense_reference import NORMALIZATIONS


@pytest.fixture
def golden(extra_data: Path):
    return np.load(extra_data / "pydensecrf_golden.npz")


def image_crf(golden, normalization, kind):
    first, second = {
        "potts": (3, 10),
        "diag": (golden["diag_compat"], 2 * golden["diag_compat"]),
        "matrix": (golden["matrix_compat"], 2 * golden["matrix_compat"]),
    }[kind]
    crf = dcrf.DenseCRF2D(17, 11, 4, device="cpu")
    crf.setUnaryEnergy(golden["U"])
    options = {"kernel": dcrf.DIAG_KERNEL, "normalization": getattr(dcrf, normalization)}
    crf.addPairwiseGaussian(sxy=3, compat=first, **options)
    crf.addPairwiseBilateral((80, 60), (13, 10, 12), golden["img"], second, **options)
    return crf


@pytest.mark.filterwarnings("ignore:compat is an array")
@pytest.mark.parametrize("kind", ["potts", "diag", "matrix"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_image(golden, normalization, kind):
    crf = image_crf(golden, normalization, kind)
    expected = golden[f"Q_{normalization}_{kind}_5"]
    q = np.array(crf.inference(5))
    assert (q.argmax(0) == expected.argmax(0)).all()
    assert np.abs(q - expected).max() <= 1e-4
    stepped, tmp1, tmp2 = crf.startInference()
    divergences = [crf.klDivergence(stepped)]
    for _ in range(5):
        crf.stepInference(stepped, tmp1, tmp2)
        divergences.append(crf.klDivergence(stepped))
    np.testing.assert_allclose(divergences, golden[f"KL_{normalization}_{kind}"], rtol=1e-4)
    assert np.abs(stepped - golden[f"Qstep_{normalization}_{kind}_5"]).max() <= 1e-4


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 6, 8])
def test_points(golden, dimensions, labels):
    name = f"{dimensions}_{labels}"
    crf = dcrf.DenseCRF(50, labels, device="cpu")
    crf.setUnaryEnergy(golden[f"gen_U_{name}"])
    crf.addPairwiseEnergy(golden[f"gen_F_{name}"], 4)
    q, expected = np.array(crf.inference(5)), golden[f"gen_Q_{name}"]
    assert (q.argmax(0) == expected.argmax(0)).all()
    assert np.abs(q - expected).max() <= 1e-4
