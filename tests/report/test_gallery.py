"""Which images the gallery shows, and by which score."""

import torch

from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.report import ArmResult, largest_changes, shown_images
from crfnet.report.closeup import Window, border_window, cut
from crfnet.report.gallery import gallery


def test_close_up_at_the_border_that_changed_most():
    """Two squares; the second is lost by one arm. Where nothing differs the most border is shown."""
    labels = torch.zeros(100, 120, dtype=torch.int64)
    labels[10:20, 10:20] = 1
    labels[70:80, 90:100] = 1
    before = labels.clone()
    before[70:80, 90:100] = 0
    before[40:50, 40:60] = 1  # far from every border
    top, left, height, width = border_window(labels, before, labels)
    assert (height, width) == (30, 30)
    assert cut(labels, Window(top, left, height, width)).sum() == 100  # the whole second square
    void = labels.clone()
    void[60:90, 80:110] = 255
    assert border_window(void, before, labels).top != top  # what is void is no difference
    same = border_window(labels, labels, labels)
    assert cut(labels, same).sum() == 100  # a whole square
    assert border_window(labels[:8, :9], before[:8, :9], labels[:8, :9]) == (0, 0, 8, 9)
    picture = torch.arange(12).view(1, 3, 4)
    assert cut(picture, Window(1, 2, 2, 2)).tolist() == [[[6, 7], [10, 11]]]


def test_pictures_by_pixel_accuracy():
    """Image u gains 2 of 16 pixels, image v one, but that is all of a class: which gains more?"""
    a, b = Evaluation(2, 1), Evaluation(2, 1)
    labels = torch.tensor([[0] * 15 + [1]])
    for arm, rows in ((a, ([1] * 2 + [0] * 13 + [1], [0] * 16)), (b, ([0] * 15 + [1], [0] * 15 + [1]))):
        for id, row in zip("uv", rows, strict=True):
            arm.add(id, torch.tensor([row]), labels)
    by = EvaluationConfig(gallery="pixel_accuracy")
    assert largest_changes(a, b, 1) == ("v",)  # a rare class found
    assert largest_changes(a, b, 1, by) == ("u",)  # more pixels right
    arms = [ArmResult(name, each, *[1.0] * 4) for name, each in (("posthoc", a), ("joint", b))]
    assert shown_images(arms, 1, by) == ("u",)
    image = torch.zeros(3, 1, 16, dtype=torch.uint8)
    sample = ("u", image, labels, {"posthoc": labels, "joint": labels})
    shown = gallery(arms, ("posthoc", "joint"), [sample], [(0, 0, 0), (9, 9, 9)], ["x", "y"], by)
    assert shown.table.header[1] == "pixel accuracy of `posthoc`"
    assert shown.table.rows == [["u", "87.50", "100.00", "+12.50"]]
    (change,) = shown.changes
    assert change.window == (0, 0, 1, 1)
    assert [*change.close] == ["image", "truth", "posthoc", "joint"]
