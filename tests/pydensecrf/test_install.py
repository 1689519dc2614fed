"""`install()`: ours is what ``import pydensecrf`` finds from then on, whatever was there before."""

import importlib
import importlib.util
import sys
import types
import warnings

import pytest

import crfnet.pydensecrf
from crfnet.pydensecrf import densecrf, eigen, utils


@pytest.fixture(autouse=True)
def _modules(monkeypatch):
    """`sys.modules` without any pydensecrf, put back afterwards."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] != "pydensecrf"}
    monkeypatch.setattr(sys, "modules", kept)


def test_every_form_of_import():
    crfnet.pydensecrf.install()
    assert importlib.import_module("pydensecrf.densecrf") is densecrf
    spaces = {}
    exec(
        "import pydensecrf\n"
        "import pydensecrf.densecrf as dcrf\n"
        "import pydensecrf.eigen\n"
        "from pydensecrf import utils, densecrf\n"
        "from pydensecrf.utils import unary_from_softmax\n"
        "from pydensecrf.densecrf import DenseCRF2D, DIAG_KERNEL\n",
        spaces,
    )
    assert spaces["dcrf"] is spaces["densecrf"] is densecrf
    assert spaces["pydensecrf"].eigen is eigen
    assert spaces["utils"] is utils
    assert spaces["unary_from_softmax"] is utils.unary_from_softmax
    assert spaces["DenseCRF2D"] is densecrf.DenseCRF2D
    assert importlib.util.find_spec("pydensecrf") is not None
    with pytest.raises(ModuleNotFoundError, match="pydensecrf"):
        importlib.import_module("pydensecrf.nothing")


def test_again_changes_nothing():
    crfnet.pydensecrf.install()
    before = dict(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crfnet.pydensecrf.install()
    assert dict(sys.modules) == before


def test_one_that_is_installed_is_passed_over(tmp_path, monkeypatch):
    package = tmp_path / "pydensecrf"
    package.mkdir()
    for name in ("__init__", "densecrf"):
        (package / f"{name}.py").write_text("raise ImportError('the other one')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="the other one"):
        importlib.import_module("pydensecrf.densecrf")
    crfnet.pydensecrf.install()
    assert importlib.import_module("pydensecrf.densecrf") is densecrf


def test_one_that_is_imported_is_replaced_aloud():
    for name in ("pydensecrf", "pydensecrf.densecrf", "pydensecrf.other"):
        sys.modules[name] = types.ModuleType(name)
    with pytest.warns(UserWarning, match="pydensecrf has been imported already"):
        crfnet.pydensecrf.install()
    assert importlib.import_module("pydensecrf.densecrf") is densecrf
    assert "pydensecrf.other" not in sys.modules


def test_the_names_of_the_modules():
    """All that the original's modules offer."""
    assert (
        {
            *("DenseCRF", "DenseCRF2D", "Unary", "ConstUnary", "LogisticUnary", "eigen"),
            *("NormalizationType", "NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER"),
            *("NORMALIZE_SYMMETRIC", "KernelType", "CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL"),
        }
        == set(densecrf.__all__)
        <= set(dir(densecrf))
    )
    assert {"MatrixXf", "VectorXf", "matrixXf", "vectorXf"} == set(eigen.__all__) <= set(dir(eigen))
    assert {
        *("unary_from_labels", "compute_unary", "unary_from_softmax", "softmax_to_unary"),
        *("create_pairwise_gaussian", "create_pairwise_bilateral"),
        *("_create_pairwise_gaussian_2d", "_create_pairwise_bilateral_2d"),
    } <= set(dir(utils))
