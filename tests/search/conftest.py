from pathlib import Path

import pytest

from crfnet.files import write_atomically
from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, leaderboard, result_files
from tests.search.search_processes import run_search
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits


@pytest.fixture(scope="package", autouse=True)
def _no_heatmaps():
    """Heat maps have tests of their own, and searches in other processes draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_files, "write_heatmap", lambda path, _: write_atomically(path, b"picture"))
        yield


@pytest.fixture(scope="package", autouse=True)
def _tasks_of_one_lattice():
    """On all images; searches in other processes have other tasks, and the same tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaderboard, "LATTICES_PER_TASK", 1)
        patch.setattr(leaderboard, "IMAGES_PER_TASK", 1000)
        yield


@pytest.fixture(scope="module")
def dataset() -> TinyDataset:
    return TinyDataset()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory, dataset: TinyDataset) -> ScoreFolder:
    return write_scores(tmp_path_factory.mktemp("scores"), noisy_logits(dataset), CLASSES, False, "noise")


@pytest.fixture(scope="module")
def config() -> SearchConfig:
    return SearchConfig(
        images=3, w1=(1.0, 3.0), theta_alpha=(4.0, 8.0), theta_beta=(10.0,), rounds=2, iterations=2
    )


@pytest.fixture(scope="package")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The search of `tests.search.search_processes`, done by one process on SQLite."""
    root = tmp_path_factory.mktemp("undisturbed")
    run_search(root, "out")
    return root / "out"
