"""Numbers as a report writes them: – where nothing defines or measured them."""

import math

from crfnet.evaluation.bootstrap import Interval

__all__ = ["number", "percent", "points", "seconds", "signed", "with_range"]


def percent(value: float) -> str:
    """A fraction in per cent."""
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of fractions in points, with its sign."""
    return "–" if math.isnan(value) else f"{100 * value:+.2f}"


def points(found: Interval) -> str:
    """A difference in points with its interval, where it has one."""
    if math.isnan(found.low):
        return signed(found.estimate)
    return f"{signed(found.estimate)} [{signed(found.low)}, {signed(found.high)}]"


def with_range(found: Interval) -> str:
    """The interval of a fraction in per cent, to stand behind it; nothing where there is none."""
    return "" if math.isnan(found.low) else f" [{percent(found.low)}, {percent(found.high)}]"


def number(value: float) -> str:
    """Three significant digits, all digits of a large number."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """A time with its unit: milliseconds, seconds from 0.1 on, minutes from two on, hours from two on."""
    if math.isnan(value):
        return "–"
    if value < 0.1:
        return f"{number(1000 * value)} ms"
    if value < 120:
        return f"{number(value)} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
