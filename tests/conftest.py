"""Seeded tests on fresh memory filled with NaN; extra data found through CRFNET_DATA."""

import os
import signal
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Read when triton is imported. Only tests that ask for the kernels get them: `crfnet.kernels.using`.
    os.environ.setdefault("TRITON_INTERPRET", "1")


if "PYTEST_XDIST_WORKER" in os.environ:
    # One process a core: threads of several processes on the same cores slow one another many times over.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so; commands that tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Slow tests run only where ``-m`` asks for them."""
    if not config.getoption("-m"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run by hand with -m slow"))


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state; `torch.empty` holds NaN, so unwritten output shows."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def operators(monkeypatch):
    """Evaluation goes through operators everywhere, as on a GPU and where numba is missing."""
    from crfnet.crf.inference import label_by_label

    monkeypatch.setattr(label_by_label, "usable", lambda unary: False)


@pytest.fixture(scope="session")
def extra_data() -> Path:
    """The folder of research data that the project does not ship; tests that need it skip without it."""
    folder = os.environ.get("CRFNET_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CRFNET_DATA is not set")
    return Path(folder)
