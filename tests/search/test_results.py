import pytest
import torch

from crfnet.crf import CRFConfig
from crfnet.errors import InputError
from crfnet.search import SearchConfig, load_crf_config
from crfnet.search.grid import Grid, Point
from crfnet.search.results import best_config, write_best, write_heatmap, write_table
from crfnet.search.study import Scored


def test_best_yaml_fills_the_config(tmp_path):
    config = SearchConfig(w2=2.0, theta_gamma=1.5, iterations=7, normalization="symmetric")
    crf = best_config(Point(2.5, 60.0, 5.0), config)
    assert crf == CRFConfig(2.5, 60.0, 5.0, 2.0, 1.5, "symmetric", iterations=7)
    write_best(tmp_path / "best.yaml", crf, ["source: two\nlines: [x", "mIoU"])
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# source: two lines: [x\n# mIoU\ncrf:\n  w1: 2.5\n")
    assert load_crf_config(tmp_path / "best.yaml") == crf


def test_defaults_and_integers(tmp_path):
    (tmp_path / "c.yaml").write_text("crf: {w1: 3, learn_theta: false, compatibility: matrix}")
    expected = CRFConfig(w1=3.0, learn_theta=False, compatibility="matrix")
    assert load_crf_config(tmp_path / "c.yaml") == expected
    assert type(load_crf_config(tmp_path / "c.yaml").w1) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crf: {sigma: 3}", "unknown key crf.sigma; known are w1, theta_alpha"),
        ("crf: {w1: '3'}", "crf.w1 is '3'; expected a finite number"),
        ("crf: {w1: true}", "crf.w1 is True"),
        ("crf: {w1: .nan}", "crf.w1 is nan"),
        ("crf: {iterations: 2.5}", "crf.iterations is 2.5; expected an integer"),
        ("crf: {learn_theta: 1}", "crf.learn_theta is 1; expected true or false"),
        ("crf: {normalization: both}", "crf.normalization is 'both'; expected one of after, symmetric"),
        ("crf: {normalization: [after]}", "crf.normalization is"),
        ("crf: {theta_beta: -1}", "theta_beta"),
        ("crf: {1: 2}", "unknown key crf.1"),
        ("crf: 3", "expected the one key crf"),
        ("w1: 3", "holds w1; expected the one key crf"),
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


def test_table(tmp_path):
    confusion = torch.tensor([[6, 2], [0, 2]])  # IoU 6/8 and 2/4
    write_table(tmp_path / "t.csv", [Scored(2, Point(2.5, 55.0, 5.0), confusion, 1.25)])
    assert (tmp_path / "t.csv").read_bytes() == (
        b"round,w1,theta_alpha,theta_beta,miou,pixel_accuracy,seconds\n2,2.5,55,5,0.625000,0.800000,1.250\n"
    )


def test_heatmap_of_one_point_and_of_uneven_rounds(tmp_path):
    one = Grid((1.0,), (2.0,), (3.0,))
    write_heatmap(tmp_path / "one.png", [one], {Point(1, 2, 3): 0.5}, Point(1, 2, 3))
    two = Grid((1.0, 2.0), (2.0, 3.0, 4.0), (3.0,))
    miou = {point: 0.1 * i for i, point in enumerate(two.points())}
    write_heatmap(tmp_path / "two.png", [one, two], miou, Point(2, 4, 3))
    for name in ("one.png", "two.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
