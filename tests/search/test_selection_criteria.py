import dataclasses
import typing

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.boundary import boundary_f, contour_matches
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.score_cache import write_scores
from crfnet.search import SearchConfig, search
from crfnet.search.config import BoundaryCriterion, TrimapCriterion
from crfnet.search.counting import PointCounts, count_predictions
from crfnet.search.sampling import SAMPLERS
from crfnet.search.selection_criteria import CRITERIA
from tests.evaluation.by_hand import trimap_confusions
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits


def test_the_tables_hold_what_a_config_may_say():
    hints = typing.get_type_hints(SearchConfig)
    assert set(typing.get_args(hints["criterion"])) == set(CRITERIA)
    assert set(typing.get_args(hints["sampler"])) == set(SAMPLERS)


def cases(number: int = 3):
    for k in range(number):
        labels = torch.zeros(14, 17 + k, dtype=torch.long)
        labels[4:9, 3 : 8 + k] = 1
        labels[:, 12:] = 2
        labels[0] = 255
        prediction = labels.clamp(max=2).roll(k + 1, 1)
        yield labels, prediction


def evaluate(config: SearchConfig) -> float:
    counted = [count_predictions([prediction], labels, 3, config) for labels, prediction in cases()]
    together = PointCounts.concatenate_images(counted)
    assert together.confusion.shape == (1, 3, 3, 3)
    return float(CRITERIA[config.criterion].metric(together.criterion[0].sum(0)))


def test_miou():
    total = sum(confusion_matrix(prediction, labels, 3) for labels, prediction in cases())
    assert evaluate(SearchConfig()) == float(metrics(total).miou)


@pytest.mark.parametrize("band", ["void", "change"])
@pytest.mark.parametrize("width", [1, 3])
def test_trimap(width, band):
    total = sum(
        trimap_confusions(prediction, labels, 3, band, width)[width - 1] for labels, prediction in cases()
    )
    config = SearchConfig(criterion="trimap", trimap=TrimapCriterion(width, band))
    assert evaluate(config) == float(metrics(total).miou)


@pytest.mark.parametrize("theta", [1.0, 2.5])
def test_boundary(theta):
    each = [boundary_f(contour_matches(prediction, labels, 3, theta)) for labels, prediction in cases()]
    total = sum(each)
    config = SearchConfig(criterion="boundary", boundary=BoundaryCriterion(theta))
    assert evaluate(config) == pytest.approx(float(total[0] / total[1]), abs=1e-8)
    assert 0 < evaluate(config) < 1


def test_counts_as_text_and_back():
    confusion = torch.randint(0, 2**31 - 1, (2, 3, 4, 4), dtype=torch.int32)
    other = torch.randint(0, 9, (2, 3, 4), dtype=torch.int32)
    for given in (PointCounts(confusion, confusion), PointCounts(other, confusion)):
        back = PointCounts.decode(given.encode())
        assert torch.equal(back.criterion, given.criterion)
        assert torch.equal(back.confusion, given.confusion)
        assert torch.equal(given.select_point(1).criterion, given.criterion[1:2])
    assert set(PointCounts(confusion, confusion).encode()) == {"confusion"}


@pytest.mark.parametrize("criterion", ["trimap", "boundary"])
def test_searched_by_it(tmp_path, dataset, scores, config, criterion):
    small = dataclasses.replace(
        config, rounds=1, theta_alpha=(4.0,), criterion=criterion, trimap=TrimapCriterion(2)
    )
    search(dataset, dataset.ids, scores, small, tmp_path)
    head, *rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    label = CRITERIA[criterion].label
    assert head[7:10] == [label.replace(" ", "_"), "miou", "pixel_accuracy"]
    assert (
        f"# {label}: {100 * max(float(row[7]) for row in rows):.3f} %" in (tmp_path / "best.yaml").read_text()
    )


def test_nothing_to_score_by(tmp_path):
    class Plain(TinyDataset):
        def __getitem__(self, index: int):
            sample = super().__getitem__(index)
            return sample._replace(labels=torch.zeros_like(sample.labels))

    dataset = Plain(2)
    scores = write_scores(tmp_path / "s", noisy_logits(dataset), CLASSES, False, "x")
    config = SearchConfig(images=2, criterion="trimap")
    with pytest.raises(InputError, match=r"search\.criterion is 'trimap', but no pixel of the images"):
        search(dataset, dataset.ids, scores, config, tmp_path / "out")
