"""The search for a domain transform's widths: a grid, a finer one, and going on after a kill."""

import csv

import pytest

from crfnet.domain_transform import DomainTransform, DomainTransformConfig
from crfnet.domain_transform.config_file import load_domain_transform
from crfnet.errors import InputError
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.score_cache import write_scores
from crfnet.search import DomainTransformSearch, search_domain_transform
from crfnet.search import domain_transform as module
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits

CONFIG = DomainTransformSearch(sigma_s=(2.0, 8.0), sigma_r=(20.0, 80.0), rounds=2)


@pytest.fixture
def images(tmp_path):
    dataset = TinyDataset(3)
    return dataset, write_scores(tmp_path / "scores", noisy_logits(dataset), CLASSES, False, "noise")


def search(images, folder, **changes):
    dataset, scores = images
    structure = DomainTransformConfig(**changes)
    return search_domain_transform(dataset, dataset.ids, scores, CONFIG, structure, folder)


def test_best_point_and_table(images, tmp_path):
    dataset, scores = images
    best = search(images, tmp_path / "out")
    assert load_domain_transform(tmp_path / "out/best.yaml") == best
    with (tmp_path / "out/table.csv").open() as file:
        rows = {(float(r["sigma_s"]), float(r["sigma_r"])): float(r["miou"]) for r in csv.DictReader(file)}
    assert len(rows) == 4 + 8  # around a corner all but the corner itself are new
    assert max(rows, key=rows.get) == (best.sigma_s, best.sigma_r)
    for point, miou in rows.items():
        layer = DomainTransform(DomainTransformConfig(sigma_s=point[0], sigma_r=point[1]))
        total = 0
        for image_id, sample in zip(dataset.ids, (dataset[i] for i in range(3)), strict=True):
            logits = scores.logits(image_id, tuple(sample.labels.shape))
            predicted = layer(logits, sample.image[None])[0].argmax(0)
            total = total + confusion_matrix(predicted, sample.labels, CLASSES)
        assert float(metrics(total).miou) == pytest.approx(miou, abs=1e-6)


def test_a_killed_search_counts_nothing_twice(images, tmp_path, monkeypatch):
    search(images, tmp_path / "whole")
    calls, count = [], module._counts

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return count(*arguments)

    monkeypatch.setattr(module, "_counts", killed)
    with pytest.raises(KeyboardInterrupt):
        search(images, tmp_path / "out")
    search(images, tmp_path / "out")
    assert len(calls) == 3 + 4
    for name in ("table.csv", "best.yaml", "images.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_and_damaged_counts_are_counted_anew(images, tmp_path):
    search(images, tmp_path / "out")
    for path in (tmp_path / "out/counts").iterdir():
        path.write_bytes(path.read_bytes()[:20])
    assert search(images, tmp_path / "out") == search(images, tmp_path / "other")
    five = search(images, tmp_path / "out", iterations=5)
    assert five == search(images, tmp_path / "five", iterations=5)


def test_refused(images, tmp_path):
    with pytest.raises(InputError, match="edges is 'learned', must be image in a search"):
        search(images, tmp_path, edges="learned", layers=("x",))
    with pytest.raises(InputError, match="sigma_s"):
        DomainTransformSearch(sigma_s=(3.0, 2.0))
    with pytest.raises(InputError, match="rounds"):
        DomainTransformSearch(rounds=0)
