"""Who may look at which images: one view of all of them, and with folds one more for each fold.

A view chooses its points on its own images alone, from the first round to the last: its finer grids lie
around its own winners, its race drops what cannot win on its images. What a fold's view says about the images
outside it is honest therefore. Views share the points that several of them ask for.
"""

from dataclasses import dataclass, field

import numpy as np

from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point

__all__ = ["Fold", "folds_of"]


@dataclass
class Fold:
    """One choice among points.

    Attributes:
        images: those that it chooses on, as positions in the order of visit, increasing.
        held_out: the others: a fold; empty for the view of all images.
        points: what it asked for so far and has not dropped, in the order that decides ties.
        dropped: what it dropped in a race.
        rounds: what it asked for in each round, dropped or not.
    """

    images: list[int]
    held_out: list[int]
    points: list[Point] = field(default_factory=list)
    dropped: set[Point] = field(default_factory=set)
    rounds: list[list[Point]] = field(default_factory=list)

    def seen(self, images: int) -> list[int]:
        """Those of its images that are among the first `images` of the order of visit."""
        return [i for i in self.images if i < images]


def folds_of(images: int, config: SearchConfig) -> list[Fold]:
    """The view of all `images`, then one for each fold; the seed draws folds of equal size, but for 1."""
    everything = list(range(images))
    found = [Fold(everything, [])]
    if config.folds:
        order = np.random.default_rng([config.seed, 2]).permutation(images).tolist()
        for k in range(config.folds):
            fold = set(order[k :: config.folds])
            found.append(Fold([i for i in everything if i not in fold], sorted(fold)))
    return found
