"""Cross-validation folds of a search, each with its own choice among the points.

A fold chooses on its selection images alone, from the first round to the last: its finer grids lie around its
own best points, its race eliminates what cannot win on its images. The criterion on its held-out images is
therefore unbiased. Points that several folds propose are evaluated once.
"""

from dataclasses import dataclass, field

import numpy as np

from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point

__all__ = ["Fold", "make_folds"]


@dataclass
class Fold:
    """Some images to choose on, the images held out, and what was chosen so far.

    Attributes:
        selection_images: positions in the evaluation order, increasing.
        held_out_images: the other images; empty for the choice on all images.
        points: those proposed so far and not eliminated, in the order that decides ties.
        eliminated: points that lost the race.
        rounds: the points proposed in each round, eliminated or not.
    """

    selection_images: list[int]
    held_out_images: list[int]
    points: list[Point] = field(default_factory=list)
    eliminated: set[Point] = field(default_factory=set)
    rounds: list[list[Point]] = field(default_factory=list)

    def seen(self, num_images: int) -> list[int]:
        """Its selection images among the first `num_images` of the evaluation order."""
        return [i for i in self.selection_images if i < num_images]


def make_folds(num_images: int, config: SearchConfig) -> list[Fold]:
    """The choice on all images, then a fold per held-out part; the seed draws parts of equal size."""
    everything = list(range(num_images))
    folds = [Fold(everything, [])]
    if config.folds:
        order = np.random.default_rng([config.seed, 2]).permutation(num_images).tolist()
        for k in range(config.folds):
            held_out = set(order[k :: config.folds])
            folds.append(Fold([i for i in everything if i not in held_out], sorted(held_out)))
    return folds
