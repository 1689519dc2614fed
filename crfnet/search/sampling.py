"""Which points are tried next. A new sampler is a function here and a line in `SAMPLERS`.

A sampler is a pure function of the config, the round and the scores so far, in order. Every process that
shares a search, and one that goes on after a kill, therefore asks for the same points.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crfnet.search.config import SearchConfig
from crfnet.search.grid import AXES, Grid, Point, finer_grid, first_best

__all__ = ["SAMPLERS", "TPE_BATCH", "Sampler"]

#: (config, round from 1, scores so far in order) -> points of that round; none ends the search.
Sampler = Callable[[SearchConfig, int, Mapping[Point, float]], Sequence[Point]]

#: Points that TPE asks for at once, so that they can be scored side by side; its first round is random.
TPE_BATCH = 8


def _grid(config: SearchConfig, number: int, scores: Mapping[Point, float]) -> Sequence[Point]:
    """DeepLab's coarse grid, then finer ones around the best so far."""
    if number > config.rounds:
        return ()
    coarse = config.grid()
    return coarse.points() if number == 1 else finer_grid(coarse, first_best(scores), number).points()


def _random(config: SearchConfig, number: int, scores: Mapping[Point, float]) -> Sequence[Point]:
    """All trials at once, every axis uniform between its smallest and its largest value."""
    del scores
    if number > 1:
        return ()
    generator = np.random.default_rng(config.seed)
    return [_uniform(config.grid(), generator) for _ in range(config.random.trials)]


def _tpe(config: SearchConfig, number: int, scores: Mapping[Point, float]) -> Sequence[Point]:
    """Batches of Optuna's tree-structured Parzen estimator, told everything that is known so far."""
    import optuna
    from optuna.trial import create_trial

    size = min(TPE_BATCH, config.tpe.trials - TPE_BATCH * (number - 1))
    if size <= 0:
        return ()
    if number == 1:
        generator = np.random.default_rng(config.seed)
        return [_uniform(config.grid(), generator) for _ in range(size)]
    ranges = _ranges(config.grid())
    sampler = optuna.samplers.TPESampler(seed=config.seed + number, n_startup_trials=TPE_BATCH)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
    for point, score in scores.items():
        if not math.isnan(score):
            params = {name: getattr(point, name) for name in ranges}
            study.add_trial(create_trial(params=params, distributions=ranges, value=score))
    fixed = {name: values[0] for name, values in config.grid()._asdict().items() if len(values) == 1}
    asked = [study.ask(fixed_distributions=ranges).params for _ in range(size)]
    return [_point(fixed | params) for params in asked]


SAMPLERS: dict[str, Sampler] = {"grid": _grid, "random": _random, "tpe": _tpe}


def _uniform(grid: Grid, generator: np.random.Generator) -> Point:
    values: dict[str, Any] = {}
    for name, axis in grid._asdict().items():
        if name == "iterations":
            values[name] = int(generator.integers(axis[0], axis[-1] + 1))
        else:
            values[name] = generator.uniform(axis[0], axis[-1])
    return _point(values)


def _ranges(grid: Grid) -> dict[str, Any]:
    """Optuna's distribution of every axis with more than one value."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: (IntDistribution if name == "iterations" else FloatDistribution)(axis[0], axis[-1])
        for name, axis in grid._asdict().items()
        if len(axis) > 1
    }


def _point(values: Mapping[str, Any]) -> Point:
    """A point to four significant digits, as it is worth writing down, within the ranges all the same."""
    given = {name: float(f"{values[name]:.4g}") for name in AXES if name != "iterations"}
    return Point(**given, iterations=int(values["iterations"]))
