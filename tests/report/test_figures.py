"""Figures: what was drawn, without any global plotting state."""

import sys

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.bootstrap import Interval
from crfnet.labels import VOC_PALETTE
from crfnet.report import energy_curves, image_strip, metric_figures, training_curves
from crfnet.report.class_gains import class_gain_blocks, control_pairs
from crfnet.report.document import png_of
from crfnet.report.energy_curves import EnergyTrace, energy_figure, read_energy_traces
from crfnet.report.html import svg_of
from crfnet.report.image_strip import error_picture, strip_figure
from crfnet.report.metric_figures import arm_styles, class_figure, trimap_figure
from crfnet.report.metric_intervals import class_metric, difference_name, trimap_metric
from crfnet.report.training_curves import parameter_figure, read_training_log


def scores_of(names, band, max_width):
    """Estimates w / 100 + 0.1 per arm, intervals of half width 0.05."""
    scores = {}
    for width in range(1, max_width + 1):
        for index, name in enumerate(names):
            value = width / 100 + index / 10
            for metric in ("miou", "pixel_accuracy"):
                scores[name, trimap_metric(band, metric, width)] = Interval(value - 0.05, value + 0.05, value)
            gain = Interval(index / 10 - 0.01, index / 10 + 0.01, index / 10)
            scores[difference_name(name, names[0]), trimap_metric(band, "miou", width)] = gain
    return scores


def test_trimap_figure_draws_every_arm():
    names = ("unary", "joint", "mine")
    figure = trimap_figure(scores_of(names, "void", 4), names, "void", 4)
    miou, accuracy, gain = figure.axes
    assert [line.get_label() for line in miou.lines] == list(names)
    assert len({line.get_color() for line in miou.lines}) == 3
    assert miou.lines[1].get_xdata().tolist() == [1, 2, 3, 4]
    assert miou.lines[1].get_ydata().tolist() == pytest.approx([11, 12, 13, 14])
    assert len(miou.collections) == len(accuracy.collections) == 3  # the intervals
    assert gain.lines[-1].get_ydata().tolist() == pytest.approx([20, 20, 20, 20])
    shaded = gain.collections[-1].get_paths()[0].vertices[:, 1]
    assert (shaded.min(), shaded.max()) == pytest.approx((19, 21))


def test_one_arm_has_no_panel_of_gains():
    figure = trimap_figure(scores_of(["unary"], "change", 2), ["unary"], "change", 2)
    assert len(figure.axes) == 2


def test_class_figure_draws_every_bar_with_its_interval():
    scores = {
        (arm, class_metric(name)): Interval(value - 0.1, value + 0.1, value)
        for arm, value in (("unary", 0.25), ("joint", 0.5))
        for name in ("sky", "sea", "sun")
    }
    scores["joint", class_metric("sun")] = Interval(float("nan"), float("nan"), float("nan"))
    (panel,) = class_figure(scores, ["unary", "joint"], ["sky", "sea", "sun"]).axes
    assert [bar.get_width() for bar in panel.patches[:5]] == pytest.approx([25, 25, 25, 50, 50])
    middles = [bar.get_y() + bar.get_height() / 2 for bar in panel.patches[:5]]
    assert middles == pytest.approx([-0.2, 0.8, 1.8, 0.2, 1.2])
    (low, at), (high, _) = panel.collections[1].get_segments()[1]
    assert (low, high, at) == pytest.approx((40, 60, 1.2))
    assert [label.get_text() for label in panel.get_yticklabels()] == ["sky", "sea", "sun"]


def test_parameters_over_training(report):
    _, folder, _, _ = report
    history = read_training_log(folder / "joint/train/log.jsonl")
    assert history == {"w1": ([1, 2, 3], [2.0, 1.0, 0.0]), "theta_beta": ([1, 2, 3], [5.5, 6.0, 6.5])}
    figure = parameter_figure({"seed 0": history, "seed 4": {"x": ([1], [1.0]), "w1": ([1, 2], [7.0, 8.0])}})
    assert [panel.get_title() for panel in figure.axes] == ["w1", "theta_beta, 0..255", "x"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[1, 5.5], [2, 6.0], [3, 6.5]]
    first, second = figure.axes[0].lines
    assert second.get_xydata().tolist() == [[1, 7.0], [2, 8.0]]
    assert first.get_linestyle() != second.get_linestyle()
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["seed 0", "seed 4"]
    assert parameter_figure({"seed 0": history}).axes[0].get_legend() is None


def test_energy_over_iterations(report, tmp_path):
    _, folder, _, _ = report
    (found,) = read_energy_traces(folder / "joint/predictions/energy/energy.csv")
    assert found == EnergyTrace("im0", [2.0, 1.5, 1.25], [0.5, 0.125])
    left, right = energy_figure({"posthoc": [found, found], "joint": [found]}).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[0, -0.5, -0.75]] * 3
    assert right.lines[2].get_xydata().tolist() == [[1, 0.5], [2, 0.125]]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["posthoc", "joint"]
    (tmp_path / "bad.csv").write_text("image,iteration\na,1\n")
    with pytest.raises(InputError, match="cannot be read as energies"):
        read_energy_traces(tmp_path / "bad.csv")


def test_every_arm_has_its_own_look():
    names = ("unary", "posthoc", "joint", "unary+", "posthoc+", "a", "b", "c", "d")
    colors = [style["color"] for style in arm_styles(names).values()]
    assert len(set(colors)) == len(names)


def test_error_picture():
    image = torch.zeros(3, 1, 3, dtype=torch.uint8)
    picture = error_picture(image, torch.tensor([[0, 0, 255]]), torch.tensor([[0, 1, 1]]))
    assert picture[:, 0].T.tolist() == [[140, 140, 140], [213, 94, 0], [255, 255, 255]]


@pytest.mark.parametrize("errors", [False, True])
def test_strip_holds_every_cell_in_place(errors):
    labels = torch.tensor([[0, 1, 255], [1, 1, 0]])
    predictions = {"unary": labels % 255, "joint": labels % 2}
    image = torch.randint(256, (3, 2, 3), dtype=torch.uint8)
    tall = [torch.cat([each, each, each], -2) for each in (image, labels, *predictions.values())]
    samples = [
        ("one", image, labels, predictions),
        ("two", *tall[:2], dict(zip(predictions, tall[2:], strict=True))),
    ]
    figure = strip_figure(samples, ["unary", "joint"], VOC_PALETTE, ["sky", "sea"], errors=errors)
    (panel,) = figure.axes
    assert len(panel.images) == 2 * 2 * 4  # whole and close up
    assert (panel.images[0].get_array() == image.permute(1, 2, 0).numpy()).all()
    left, right, bottom, top = panel.images[8].get_extent()
    assert (top - bottom) / (right - left) == pytest.approx(6 / 3)
    bottoms = [panel.images[row].get_extent()[2] for row in (0, 4, 8, 12)]
    tops = [panel.images[row].get_extent()[3] for row in (4, 8, 12)]
    assert all(top < bottom for top, bottom in zip(tops, bottoms, strict=False))  # rows below one another
    frames = [each for each in panel.patches if not each.get_fill()]
    assert len(frames) == 2 * 2 * 4  # black and white, in every whole picture
    x, y = frames[0].get_xy()
    left, right, bottom, top = panel.images[0].get_extent()
    assert (x, y) == pytest.approx((left, bottom))  # so small an image is all of its close-up
    assert frames[0].get_width() == pytest.approx(right - left)
    width, height = figure.get_size_inches()
    assert panel.get_xlim() == (0, width)
    assert panel.get_ylim() == (0, height)
    assert min(extent for each in panel.images for extent in each.get_extent()) > 0
    assert [text.get_text() for text in panel.texts] == ["image", "truth", "unary", "joint", "one", "two"]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["sky", "sea", "void"]


def test_no_global_plotting_state(monkeypatch):
    """Drawing and saving neither uses pyplot nor brings it in, whoever else may have."""
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    figure = trimap_figure(scores_of(["unary"], "void", 2), ["unary"], "void", 2)
    assert png_of(figure).startswith(b"\x89PNG")
    assert svg_of(figure, "name", "alt").startswith("<svg ")
    assert "matplotlib.pyplot" not in sys.modules
    used = [
        getattr(value, "__name__", "")
        for module in (metric_figures, training_curves, energy_curves, image_strip)
        for value in vars(module).values()
    ]
    assert "matplotlib.pyplot" not in used


def gains_of(pairs):
    """Of three classes: a sure gain of 5 points, a sure loss of 2, and one that is not sure."""
    gains = {"sky": (0.04, 0.06), "sea": (-0.03, -0.01), "sun": (-0.01, 0.03)}
    return {
        (difference_name(*pair), class_metric(name)): Interval(low, high, (low + high) / 2)
        for pair in pairs
        for name, (low, high) in gains.items()
    }


def test_class_gains_tell_sure_ones_from_others():
    names, classes = ["unary", "posthoc", "joint", "unary+", "posthoc+"], ["sky", "sea", "sun"]
    pairs = control_pairs(names)
    assert pairs == [("posthoc", "unary"), ("posthoc+", "unary+"), ("joint", "unary+"), ("joint", "posthoc+")]
    bullets, plot = class_gain_blocks(names, gains_of(pairs), classes)
    assert bullets.items[0] == (
        "`posthoc` − `unary`: surely gains for 1 of 3 classes (sky +5.00); "
        "surely loses for 1 of 3 classes (sea -2.00)."
    )
    assert len(plot.figure.axes) == 4
    panel = plot.figure.axes[0]
    bars = panel.patches[:3]
    assert [bar.get_width() for bar in bars] == pytest.approx([5, -2, 1])
    assert len({bar.get_facecolor() for bar in bars}) == 3
    (lines,) = panel.collections
    assert lines.get_segments()[0][:, 0] == pytest.approx([4, 6])
    assert len(png_of(plot.figure)) > 10_000


def test_class_gains_name_the_largest():
    classes = [f"c{i}" for i in range(8)]
    gains = {
        ("mine - unary", class_metric(name)): Interval(i / 100 + 0.01, i / 100 + 0.03, i / 100 + 0.02)
        for i, name in enumerate(classes)
    }
    (text,) = class_gain_blocks(["unary", "mine"], gains, classes)[0].items
    assert "gains for 8 of 8 classes (c7 +9.00, c6 +8.00, c5 +7.00, c4 +6.00, c3 +5.00 and 3 more)" in text
    assert "loses for 0 of 8 classes." in text


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["unary"], []),
        (["unary", "posthoc", "mine"], [("posthoc", "unary"), ("mine", "unary")]),
        (["mine", "other"], [("other", "mine")]),
        (["unary", "joint"], [("joint", "unary")]),
        (["unary", "unary+"], [("unary+", "unary")]),
    ],
)
def test_every_arm_has_something_to_be_compared_with(names, pairs):
    assert control_pairs(names) == pairs
