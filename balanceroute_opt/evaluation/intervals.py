"""Confidence intervals of a mean over a few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import InputError

__all__ = ["mean_and_half_width", "t_quantile"]


def mean_and_half_width(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of Student's t-interval around it (nan for fewer than two values).

    Not finite if a value is not finite.
    """
    n = len(values)
    mean = math.fsum(values) / n if n and all(map(math.isfinite, values)) else (sum(values) / n if n else math.nan)
    if n < 2 or not math.isfinite(mean):
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, t_quantile(level, n - 1) * math.sqrt(variance / n)


def t_quantile(level: float, freedom: int) -> float:
    """The t with ``P(|T| < t) = level`` for Student's T with `freedom` degrees of freedom.

    By bisection on the finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level!r}")
    if freedom < 1:
        raise InputError(f"degrees of freedom must be >= 1, got {freedom}")
    low, high = 0.0, math.pi / 2  # of the angle arctan(t / sqrt(freedom))
    for _ in range(100):
        middle = (low + high) / 2
        if _within(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """``P(|T| < sqrt(freedom) * tan(angle))``."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    # Odd: cos + 2/3 cos^3 + 2*4/(3*5) cos^5 ...; even: 1 + 1/2 cos^2 + 1*3/(2*4) cos^4 ...
    for j in range(freedom // 2):
        total += term
        term *= (2 * j + 1 + odd) / (2 * j + 2 + odd) * math.cos(angle) ** 2
    scaled = math.sin(angle) * total
    return 2 / math.pi * (angle + scaled) if odd else scaled
