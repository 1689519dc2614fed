"""Where a search ended, by the files that it leaves."""

import dataclasses

import pytest

from crfnet.crf.config import CRFConfig
from crfnet.crf.config_file import save_crf_config
from crfnet.report.search_edges import Edge, arms_at_edges, search_edges
from tests.report.factories import make_arms

TABLE = "round,w1,theta_alpha,theta_beta,w2,theta_gamma,iterations,miou\n"
ROWS = ((4, 10, 4), (8, 20, 8), (16, 40, 16))


def searched(folder, w1, theta_alpha, theta_beta, more=()):
    """The files of a search over three values of each, and of further rounds, that chose these."""
    folder.mkdir(parents=True)
    rows = [f"1,{a},{b},{c},3,3,10,0.5\n" for a, b, c in (*ROWS, *more)]
    (folder / "table.csv").write_text(TABLE + "".join(rows))
    save_crf_config(
        folder / "best.yaml", CRFConfig(w1=w1, theta_alpha=theta_alpha, theta_beta=theta_beta), []
    )
    return folder


def test_the_last_value_of_an_axis_is_an_edge(tmp_path):
    assert search_edges(searched(tmp_path / "a", 16.0, 20.0, 4.0)) == [
        Edge("search", "w1", 16.0, largest=True),
        Edge("search", "theta_beta", 4.0, largest=False),
    ]
    assert search_edges(searched(tmp_path / "b", 8.0, 20.0, 8.0)) == []  # w2 and others were not searched
    finer = searched(tmp_path / "c", 16.0, 20.0, 8.0, [(14, 20, 8), (18, 20, 8)])
    assert search_edges(finer) == []  # the second round went beyond, and came back
    further = searched(tmp_path / "d", 18.0, 20.0, 8.0, [(14, 20, 8), (18, 20, 8)])
    assert search_edges(further) == [Edge("search", "w1", 18.0, largest=True)]
    none = searched(tmp_path / "e", 0.0, 20.0, 8.0, [(0, 20, 8)])
    assert search_edges(none) == []  # no weight is less than none


def test_there_is_nothing_below_one_iteration(tmp_path):
    (tmp_path / "table.csv").write_text("iterations,miou\n1,0.5\n10,0.4\n")
    save_crf_config(tmp_path / "best.yaml", CRFConfig(iterations=1), [])
    assert search_edges(tmp_path) == []
    save_crf_config(tmp_path / "best.yaml", CRFConfig(iterations=10), [])
    assert [edge.name for edge in search_edges(tmp_path)] == ["iterations"]


def test_a_domain_transform_has_edges_too(tmp_path):
    (tmp_path / "table.csv").write_text("sigma_s,sigma_r,miou\n10,15,0.5\n20,30,0.4\n")
    (tmp_path / "best.yaml").write_text("domain_transform: {sigma_s: 10.0, sigma_r: 30.0}\n")
    found = search_edges(tmp_path)
    assert [each.beyond for each in found] == [
        '--domain_transform_search.sigma_s "[2.5,5,10]"',
        '--domain_transform_search.sigma_r "[30,60,120]"',
    ]


@pytest.mark.parametrize("content", ["", "no,such,table\n1,2\n", "w1\nx\n", None])
def test_other_files_say_nothing(content, tmp_path):
    searched(tmp_path / "a", 16.0, 20.0, 4.0)
    if content is None:
        (tmp_path / "a/best.yaml").unlink()
    else:
        (tmp_path / "a/table.csv").write_text(content)
    assert search_edges(tmp_path / "a") == []
    assert search_edges(tmp_path / "nowhere") == []


def test_a_search_counts_once_and_seeds_together(tmp_path):
    """That of `posthoc` is where joint training began; of a repeat another edge is added."""
    first, other = (searched(tmp_path / name, 16.0, 20.0, 8.0) for name in "ab")
    second = searched(tmp_path / "c", 8.0, 40.0, 8.0)
    unary, posthoc, joint, _, plus = make_arms()
    repeat = dataclasses.replace(posthoc, search_folder=second)
    posthoc = dataclasses.replace(posthoc, search_folder=first, repeats=[repeat])
    joint = dataclasses.replace(joint, search_folder=first)
    plus = dataclasses.replace(plus, search_folder=other)
    w1, alpha = Edge("search", "w1", 16.0, largest=True), Edge("search", "theta_alpha", 40.0, largest=True)
    assert arms_at_edges([unary, posthoc, joint, plus]) == {(w1, alpha): ["posthoc"], (w1,): ["posthoc+"]}
