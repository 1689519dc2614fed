import csv
import math

import numpy as np
import pytest
import torch

from crfnet.crf import CRFConfig
from crfnet.crf.config_file import load_crf_config, save_crf_config
from crfnet.errors import InputError
from crfnet.search import SearchConfig
from crfnet.search.config import DrawnPoints
from crfnet.search.counting import PointCounts
from crfnet.search.grid import Point
from crfnet.search.heatmap import _cell_text, _cell_values, write_heatmap
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.result_files import best_config, write_folds, write_table
from crfnet.search.task_queue import TaskResult


def test_best_yaml_fills_the_config(tmp_path):
    config = SearchConfig(normalization="symmetric", prune=1e-4)
    crf = best_config(Point(2.5, 60.0, 5.0, 2.0, 1.5, 7), config)
    expected = CRFConfig(2.5, 60.0, 5.0, 2.0, 1.5, "symmetric", iterations=7, prune=1e-4)
    assert crf == expected
    save_crf_config(tmp_path / "best.yaml", crf, ["source: two\nlines: [x", "mIoU"])
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# source: two lines: [x\n# mIoU\ncrf:\n  w1: 2.5\n")
    assert load_crf_config(tmp_path / "best.yaml") == crf


def test_defaults_and_integers(tmp_path):
    (tmp_path / "c.yaml").write_text("crf: {w1: 3, learn_theta: false, compatibility: matrix, memory: null}")
    expected = CRFConfig(w1=3.0, learn_theta=False, compatibility="matrix")
    assert load_crf_config(tmp_path / "c.yaml") == expected
    assert type(load_crf_config(tmp_path / "c.yaml").w1) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crf: {sigma: 3}", "unknown key crf.sigma .known: crf.w1, crf.theta_alpha"),
        ("crf: {w1: three}", "crf.w1 is three, must be a number"),
        ("crf: {w1: true}", "crf.w1 is True"),
        ("crf: {w1: .nan}", "crf.w1 is nan"),
        ("crf: {iterations: 2.5}", "crf.iterations is 2.5, must be an integer"),
        ("crf: {learn_theta: 1}", "crf.learn_theta is 1, must be true or false"),
        ("crf: {normalization: both}", "crf.normalization is both, must be one of after, symmetric"),
        ("crf: {normalization: [after]}", "crf.normalization is"),
        ("crf: {theta_beta: -1}", "theta_beta"),
        ("crf: {memory: 0.5}", "crf.memory is 0.5, must be an integer"),
        ("crf: {1: 2}", "must be a string, got: 1"),
        ("crf: 3", "must be the one key crf"),
        ("w1: 3", "holds w1, must be the one key crf"),
        ("crf: {}\nmodel: x", "holds crf, model"),
        ("", "holds None"),
        ("crf: {", "cannot be read as YAML"),
    ],
)
def test_bad_file(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_crf_config(tmp_path / "c.yaml")
    assert str(caught.value).startswith(str(tmp_path / "c.yaml"))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"c\.yaml: cannot be read"):
        load_crf_config(tmp_path / "c.yaml")


def finished_search(config: SearchConfig) -> Leaderboard:
    """A finished search whose point number k gets k of the first image's 12 pixels right, 2 k of 24 after."""
    leaderboard = Leaderboard(config, config.images)
    round_number = 1
    while leaderboard.propose(round_number):
        for task in leaderboard.tasks(0, config.images):
            counts = []
            for point in task.points:
                k = list(leaderboard.candidates).index(point) % 12
                right = torch.tensor([[k, 12 - k], [0, 0]], dtype=torch.int32)
                confusion = torch.stack([right, *(2 * right for _ in range(config.images - 1))])[None]
                counts.append(PointCounts(confusion, confusion))
            leaderboard.add_result(task, TaskResult(tuple(counts), 3.0))
        round_number += 1
    return leaderboard


def test_table(tmp_path):
    config = SearchConfig(images=2, w1=(2.5,), theta_alpha=(55.0,), theta_beta=(4.0, 5.0), rounds=1)
    write_table(tmp_path / "t.csv", finished_search(config))
    assert (tmp_path / "t.csv").read_bytes() == (
        b"round,w1,theta_alpha,theta_beta,w2,theta_gamma,iterations,miou,pixel_accuracy,images,seconds\n"
        b"1,2.5,55,4,3,3,10,0.000000,0.000000,2,3.000\n"
        b"1,2.5,55,5,3,3,10,0.041667,0.083333,2,3.000\n"
    )


def test_folds_table(tmp_path):
    config = SearchConfig(images=3, w1=(1.0, 2.0), theta_alpha=(5.0,), theta_beta=(4.0,), rounds=1, folds=3)
    leaderboard = finished_search(config)
    write_folds(tmp_path / "f.csv", leaderboard, ["a", "b", "c"])
    lines = list(csv.reader((tmp_path / "f.csv").read_text().splitlines()))
    assert [line[0] for line in lines] == ["fold", "1", "2", "3", "all"]
    assert sorted(line[-1] for line in lines[1:4]) == ['["a"]', '["b"]', '["c"]']
    assert {line[2] for line in lines[1:]} == {"2"}
    assert {line[8] for line in lines[1:]} == {line[9] for line in lines[1:]} == {"0.041667"}


@pytest.mark.parametrize(
    "changes",
    [
        {"w1": (1.0,), "theta_alpha": (2.0,), "theta_beta": (3.0,), "rounds": 1},
        {
            "w1": (1.0, 2.0),
            "theta_alpha": (2.0, 3.0, 4.0),
            "theta_beta": (3.0,),
            "w2": (1.0, 2.0),
            "rounds": 2,
        },
        {"sampler": "random", "random": DrawnPoints(3)},
    ],
)
def test_heatmap(tmp_path, changes):
    write_heatmap(tmp_path / "h.png", finished_search(SearchConfig(images=1, **changes)))
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_of_the_heatmap_is_the_best_of_the_parameters_not_on_its_axes():
    metrics = {
        Point(1.0, alpha, beta, w2=w2): metric
        for alpha, beta, w2, metric in [
            (4.0, 2.0, 1.0, 70.0),
            (4.0, 2.0, 3.0, 71.0),
            (8.0, 2.0, 1.0, 69.0),
            (8.0, 2.0, 3.0, math.nan),  # eliminated
            (4.0, 3.0, 1.0, math.nan),
            (4.0, 3.0, 3.0, math.nan),
        ]
    }
    expected = [[71.0, 69.0], [math.nan, math.nan]]  # (8, 3) is no point of the round
    np.testing.assert_array_equal(_cell_values(list(metrics), metrics), expected)


def test_heatmap_tells_cells_within_a_point_apart():
    values = (71.16, 71.22, math.nan)
    assert [_cell_text(value, (71.1, 71.3)) for value in values] == ["71.16", "71.22", "-"]
    assert [_cell_text(value, (60.0, 72.0)) for value in values] == ["71.2", "71.2", "-"]
