"""Confidence intervals of a success rate from k successes in n trials.

Wilson (1927) is what we display: it is short and covers its confidence on average. Clopper and Pearson (1934) is what
gates use: it covers at least its confidence at every true rate. See Brown, Cai and DasGupta (2001) for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

from robostack.errors import ConfigError


class Interval(NamedTuple):
    """Bounds of a rate, both in [0, 1]."""

    low: float
    high: float


def wilson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (Brown, Cai and DasGupta 2001, eq. 4).

    Raises:
        ConfigError: no trials, k outside 0..n, or a confidence outside (0, 1).
    """
    _check(k, n, confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, shrink = k / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / shrink
    # At the edges the bound is the rate itself; rounding must not move it past.
    return Interval(0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's exact interval: its bounds are the rates at which k would just be in a tail of (1-c)/2.

    Raises:
        ConfigError: no trials, k outside 0..n, or a confidence outside (0, 1).
    """
    _check(k, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _root(lambda p: 1 - binomial_cdf(k - 1, n, p) - tail)
    high = 1.0 if k == n else _root(lambda p: tail - binomial_cdf(k, n, p))
    return Interval(low, high)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p); summed over the shorter side in log space, so that no term overflows."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0.0:
        return 1.0
    if p >= 1.0:
        return 0.0
    if k > n // 2:
        return 1.0 - binomial_cdf(n - k - 1, n, 1.0 - p)
    log_p, log_q, all_ways = math.log(p), math.log1p(-p), math.lgamma(n + 1)
    terms = (
        math.exp(all_ways - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(k + 1)
    )
    return min(math.fsum(terms), 1.0)


def _root(increasing: Callable[[float], float]) -> float:
    """Root in [0, 1] of an increasing function, by bisection to the last bit."""
    low, high, middle = 0.0, 1.0, 0.5
    while low < middle < high:
        low, high = (middle, high) if increasing(middle) < 0 else (low, middle)
        middle = (low + high) / 2
    return middle


def _check(k: int, n: int, confidence: float) -> None:
    if n < 1:
        raise ConfigError(f"a success rate needs at least one episode, got {n}: set the number of episodes above 0")
    if not 0 <= k <= n:
        raise ConfigError(f"{k} successes of {n} episodes: must be between 0 and {n}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: must be between 0 and 1, usually 0.95")
