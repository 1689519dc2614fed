"""Times the evaluation of label maps: confusions, both trimap bands at 40 widths, Boundary IoU, boundary F.

    python experiments/bench/evaluation.py [--images 100] [--classes 21] [--element square] [--device cpu]

The label maps are made up: blobs of all classes on 500 x 375 pixels with a void ribbon around each, and the
prediction is the truth with every border moved by noise (harder than VOC, whose images show 2 or 3 classes).
Prints the time as a whole and of each part, and what is kept in memory per image. On a busy machine the
processor time is the better measure.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from header import print_header
from torch import Tensor

from crfnet.evaluation.boundary import boundary_tallies, contour_matches
from crfnet.evaluation.confusion import confusion_matrix, pair_map
from crfnet.evaluation.dilation import ELEMENTS, changes, dilation_radius
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.trimap import BANDS, MAX_WIDTH, band_distance, count_shells
from crfnet.labels import VOID

SIZE = (375, 500)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--element", choices=ELEMENTS, default="square")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    maps = [tuple(each.to(device) for each in label_maps(i, options.classes)) for i in range(options.images)]
    print_header()
    print(
        f"{options.device}, {options.images} images of {SIZE[1]} x {SIZE[0]}, {options.classes} classes, "
        f"{options.element}, widths 1..{MAX_WIDTH}"
    )
    if device.type == "cuda":
        Evaluation(options.classes, MAX_WIDTH, options.element).add("warm-up", *maps[0])
    evaluation = Evaluation(options.classes, MAX_WIDTH, options.element)
    start, worked = time.perf_counter(), time.process_time()
    for i, (prediction, labels) in enumerate(maps):
        evaluation.add(str(i), prediction, labels)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    kept = sum(bytes_of(image) for image in evaluation._images.values()) / len(maps) / 1024
    print(f"together: {seconds:.2f} s, {worked:.2f} s of processor time; {kept:.0f} kB kept per image")
    found = evaluation.metrics()
    print(
        f"mIoU {float(found.miou):.3f}, Boundary IoU {evaluation.boundary_iou()[0]:.3f}, "
        f"boundary F {evaluation.boundary_f():.3f}"
    )
    print("| part alone | ms per image |\n| --- | --- |")
    for name, part in parts(evaluation).items():
        print(f"| {name} | {1000 * timed(part, maps[:20]):.1f} |")


def parts(evaluation: Evaluation) -> dict[str, Callable[[Tensor, Tensor], object]]:
    classes, config = evaluation.num_classes, evaluation.boundary
    d, theta = config.iou_pixels(*SIZE), config.f_pixels(*SIZE)
    found: dict[str, Callable[[Tensor, Tensor], object]] = {
        "confusion matrix": lambda p, y: confusion_matrix(p, y, classes)
    }
    for band in BANDS:
        found[f"trimap, {band} band"] = lambda p, y, band=band: count_shells(
            pair_map(p, y, classes), band_distance(y, band, evaluation.element, MAX_WIDTH), classes, MAX_WIDTH
        )
    found[f"Boundary IoU, d = {d}"] = lambda p, y: boundary_tallies(p, y, classes, d)
    found[f"boundary F, theta = {theta:.2f}"] = lambda p, y: contour_matches(p, y, classes, theta)
    return found


def timed(part: Callable[[Tensor, Tensor], object], maps: list[tuple[Tensor, Tensor]]) -> float:
    start = time.perf_counter()
    for prediction, labels in maps:
        part(prediction, labels)
    return (time.perf_counter() - start) / len(maps)


def label_maps(seed: int, classes: int) -> tuple[Tensor, Tensor]:
    """Prediction and truth."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, 9, 12, generator=generator)
    noise = torch.randn(1, classes, 47, 63, generator=generator)
    scores, fine = (F.interpolate(x, SIZE, mode="bilinear", align_corners=False)[0] for x in (coarse, noise))
    labels = scores.argmax(0)
    ribbon = dilation_radius(changes(labels, diagonal=False), "square", 1) <= 1
    return (scores + 0.15 * fine).argmax(0), labels.masked_fill(ribbon, VOID)


def bytes_of(image: object) -> int:
    """Bytes of all tensors in a nest of dataclasses and dicts."""
    if isinstance(image, Tensor):
        return image.numel() * image.element_size()
    inside = image.values() if isinstance(image, dict) else vars(image).values()
    return sum(bytes_of(each) for each in inside)


if __name__ == "__main__":
    main()
