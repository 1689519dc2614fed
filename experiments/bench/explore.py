"""Times what `crfnet explore` takes from a slider to a picture on its way to the browser, without a browser.

    python experiments/bench/explore.py [SCORES.npz IMAGES] [--images 8] [--threads 2] [--crf best.yaml]

On the built-in photo, and on images of SCORES.npz and IMAGES as of `mean_field_cpu.py`. A page is opened in a
document of its own, one slider is moved at a time, and the time is taken until the picture at full size is
packed as the message that the server sends: wall and processor seconds (of all threads). ``first`` are
widths that were not seen yet, ``again`` ones whose lattice is kept. Then the parts of a change of w1, in
processor time alone. Medians over the images and repeats; run it on a quiet machine.
"""

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from bokeh.document import Document
from bokeh.protocol import Protocol
from header import print_header
from mean_field_cpu import load

from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.explore import Picture, Session
from crfnet.explore.page import Page
from crfnet.explore.painting import painted
from crfnet.photo import example_photo

Timed = dict[str, list[tuple[float, float]]]  #: wall and processor seconds, by what changed
Result = TypeVar("Result")
PATIENCE = 60.0


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print_header()
    logging.getLogger("bokeh").setLevel(logging.ERROR)
    crf = CRFConfig() if options.crf is None else load_crf_config(options.crf)
    for name, sessions in (("the built-in photo", photos()), ("images with scores", scored(options))):
        times: Timed = defaultdict(list)
        parts: dict[str, list[float]] = defaultdict(list)
        for number, session in enumerate(sessions):
            if number == 0 and name == "the built-in photo":
                changes(session, crf, defaultdict(list), 1)  # compiles
            changes(session, crf, times, options.repeats)
            in_parts(session, crf, parts, options.repeats)
        if times:
            table(name, times, parts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--corners", action="store_true", help="the scores' corners are the image's")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--every", type=int, default=3, help="every so many-th image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--crf", type=Path, help="the parameters to start from")
    return parser.parse_args()


def photos() -> Iterator[Session]:
    image, logits, names = example_photo()
    yield Session(image[0], logits, names=names)


def scored(options: argparse.Namespace) -> Iterator[Session]:
    if options.scores is None or options.folder is None:
        return
    for number in range(0, options.images * options.every, options.every):
        image, logits = load(options, number)
        yield Session(image[0], logits)


def changes(session: Session, crf: CRFConfig, times: Timed, repeats: int) -> None:
    """Moves the sliders of a page of its own, and notes how long each picture takes."""
    with opened(session, crf) as page:
        with clock(times["image"]):
            page.start()
            page.wait()
        for turn in range(1, repeats + 1):
            for name, step in (("w1", 0.25), ("iterations", -1 if turn % 2 else 1), ("theta_gamma", 0.5)):
                page.move(name, step, times[name])
            page.move("theta_beta", 0.5, times["theta_beta, first"])
            page.move("theta_beta", -0.5, times["theta_beta, again"])
            page.move("theta_beta", 0.5, times["theta_beta, again"])
            page.move("theta_alpha", 1, times["theta_alpha, first"])


class opened:  # noqa: N801 - a context manager
    """A page in a document whose changes are packed as a server packs them."""

    def __init__(self, session: Session, crf: CRFConfig) -> None:
        self._document, self._protocol = Document(), Protocol()
        self._page = Page(self._document, session, crf, "a benchmark", Path())

    def __enter__(self) -> "opened":
        self._document.on_change(self._pack)
        return self

    def __exit__(self, *_: object) -> None:
        self._page.redraw.close()

    def start(self) -> None:
        self._page.start()

    def move(self, name: str, step: float, times: list[tuple[float, float]]) -> None:
        """Move a slider by a step, and wait for the picture."""
        slider = self._page.sliders[name]
        with clock(times):
            slider.value = slider.value + step
            self.wait()

    def wait(self) -> None:
        """Run what the thread hands to the document until the picture at full size is there."""
        self._page.status.text = ""
        end = time.perf_counter() + PATIENCE
        while "full size</b>" not in self._page.status.text:
            for callback in self._document.session_callbacks:
                self._document.remove_next_tick_callback(callback)
                callback.callback()
            if time.perf_counter() > end:
                raise TimeoutError(self._page.status.text)
            time.sleep(0.001)

    def paint(self, picture: Picture) -> None:
        """The colors of a picture alone."""
        session = self._page._session
        painted(session.image, picture.labels, session.colors, 0.5)

    def draw(self, picture: Picture) -> None:
        """All that the page shows of a picture, and its message."""
        self._page._draw(picture, False)

    def _pack(self, event: object) -> None:
        if hasattr(event, "to_serializable"):
            self._protocol.create("PATCH-DOC", [event])


class clock:  # noqa: N801 - a context manager
    """Appends wall and processor seconds to a list."""

    def __init__(self, times: list[tuple[float, float]]) -> None:
        self._times = times

    def __enter__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, processor = self._begin
        self._times.append((time.perf_counter() - wall, time.process_time() - processor))


def in_parts(session: Session, crf: CRFConfig, parts: dict[str, list[float]], repeats: int) -> None:
    """Processor seconds of each thing that a change of w1 asks for."""
    session.solve(crf)
    with opened(session, crf) as page:
        for _ in range(repeats):
            picture = timed(parts["labels, lattice kept"], lambda: session.solve(crf))
            timed(parts["colors over the image"], partial(page.paint, picture))
            timed(parts["the same with legend, text, message"], partial(page.draw, picture))


def timed(seconds: list[float], do: Callable[[], Result]) -> Result:
    """What ``do`` gives; its processor seconds are appended."""
    begin = time.process_time()
    result = do()
    seconds.append(time.process_time() - begin)
    return result


def table(name: str, times: Timed, parts: dict[str, list[float]]) -> None:
    print(f"\n{name}:\n\n| change | wall s | worst | processor s |\n| --- | ---: | ---: | ---: |")
    for what, seconds in times.items():
        wall, processor = np.array(seconds).T
        print(f"| {what} | {np.median(wall):.3f} | {wall.max():.3f} | {np.median(processor):.3f} |")
    print("\n| part of a change of w1 | processor ms |\n| --- | ---: |")
    for what, each in parts.items():
        print(f"| {what} | {1000 * np.median(each):.1f} |")


if __name__ == "__main__":
    main()
