"""Which images the gallery shows, and by which score."""

import torch

from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.report import ArmResult, largest_changes, shown_images
from crfnet.report.gallery import gallery


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
    shown = gallery(arms, [sample], [(0, 0, 0), (9, 9, 9)], ["x", "y"], by)
    assert shown.table.header[1] == "pixel accuracy of `posthoc`"
    assert shown.table.rows == [["u", "87.50", "100.00", "+12.50"]]
