"""Samplers: which points are evaluated next. A new one is a function here and a line in `SAMPLERS`.

A sampler is a pure function of the config, the round and the metrics so far, in order. Every process that
shares a search, and one that resumes after a kill, therefore proposes the same points.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crfnet.search.config import SearchConfig
from crfnet.search.grid import AXES, Grid, Point, finer_grid, first_best

__all__ = ["SAMPLERS", "TPE_BATCH", "Sampler"]

#: (config, round from 1, metrics so far in order) -> points of that round; none ends the search.
Sampler = Callable[[SearchConfig, int, Mapping[Point, float]], Sequence[Point]]

#: Points that TPE proposes at once, so that they can be evaluated together; its first round is random.
TPE_BATCH = 8


def _propose_grid(config: SearchConfig, round_number: int, metrics: Mapping[Point, float]) -> Sequence[Point]:
    """Propose DeepLab's coarse grid, then finer ones around the best so far."""
    if round_number > config.rounds:
        return ()
    coarse = config.grid()
    if round_number == 1:
        return coarse.points()
    return finer_grid(coarse, first_best(metrics), round_number).points()


def _propose_random(
    config: SearchConfig, round_number: int, metrics: Mapping[Point, float]
) -> Sequence[Point]:
    """Propose all trials at once, every axis uniform between its smallest and its largest value."""
    del metrics
    if round_number > 1:
        return ()
    generator = np.random.default_rng(config.seed)
    return [_uniform_point(config.grid(), generator) for _ in range(config.random.trials)]


def _propose_tpe(config: SearchConfig, round_number: int, metrics: Mapping[Point, float]) -> Sequence[Point]:
    """Propose batches of Optuna's tree-structured Parzen estimator, given all metrics so far."""
    import optuna
    from optuna.trial import create_trial

    batch_size = min(TPE_BATCH, config.tpe.trials - TPE_BATCH * (round_number - 1))
    if batch_size <= 0:
        return ()
    if round_number == 1:
        generator = np.random.default_rng(config.seed)
        return [_uniform_point(config.grid(), generator) for _ in range(batch_size)]
    distributions = _distributions(config.grid())
    sampler = optuna.samplers.TPESampler(seed=config.seed + round_number, n_startup_trials=TPE_BATCH)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
    for point, metric in metrics.items():
        if not math.isnan(metric):
            params = {name: getattr(point, name) for name in distributions}
            study.add_trial(create_trial(params=params, distributions=distributions, value=metric))
    fixed = {name: values[0] for name, values in config.grid()._asdict().items() if len(values) == 1}
    proposed = [study.ask(fixed_distributions=distributions).params for _ in range(batch_size)]
    return [_rounded_point(fixed | params) for params in proposed]


SAMPLERS: dict[str, Sampler] = {"grid": _propose_grid, "random": _propose_random, "tpe": _propose_tpe}


def _uniform_point(grid: Grid, generator: np.random.Generator) -> Point:
    values: dict[str, Any] = {}
    for name, axis in grid._asdict().items():
        if name == "iterations":
            values[name] = int(generator.integers(axis[0], axis[-1] + 1))
        else:
            values[name] = generator.uniform(axis[0], axis[-1])
    return _rounded_point(values)


def _distributions(grid: Grid) -> dict[str, Any]:
    """Optuna's distribution of every axis with more than one value."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: (IntDistribution if name == "iterations" else FloatDistribution)(axis[0], axis[-1])
        for name, axis in grid._asdict().items()
        if len(axis) > 1
    }


def _rounded_point(values: Mapping[str, Any]) -> Point:
    """The point rounded to four significant digits; more is not worth writing down."""
    given = {name: float(f"{values[name]:.4g}") for name in AXES if name != "iterations"}
    return Point(**given, iterations=int(values["iterations"]))
