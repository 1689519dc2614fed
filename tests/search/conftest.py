from pathlib import Path

import pytest

from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, ledger, results
from tests.search.pictures import CLASSES, Pictures, noisy_logits
from tests.search.searcher import whole


@pytest.fixture(scope="package", autouse=True)
def _quick_pictures():
    """Heat-maps have tests of their own, and searches in other processes draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "write_heatmap", lambda path, ledger: path.write_bytes(b"picture"))
        yield


@pytest.fixture(scope="package", autouse=True)
def _units_of_one_lattice():
    """On all images; searches in other processes have other units, and the same tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "LATTICES", 1)
        patch.setattr(ledger, "IMAGES", 1000)
        yield


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> ScoreFolder:
    return write_scores(tmp_path_factory.mktemp("scores"), noisy_logits(pictures), CLASSES, False, "noise")


@pytest.fixture(scope="module")
def config() -> SearchConfig:
    return SearchConfig(
        images=3, w1=(1.0, 3.0), theta_alpha=(4.0, 8.0), theta_beta=(10.0,), rounds=2, iterations=2
    )


@pytest.fixture(scope="package")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The search of `tests.search.searcher`, done by one process on SQLite."""
    root = tmp_path_factory.mktemp("undisturbed")
    whole(root, "whole")
    return root / "whole"
