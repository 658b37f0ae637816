"""Two policies on the same seeds: is the second one worse?

Episodes are paired by seed, so that a difference of rates is judged by the episodes in which the two disagree, and one
of scores by the differences per episode (Student's t). McNemar (1947), exact form; Newcombe (1998), Improved confidence
intervals for the difference between binomial proportions based on paired data, Statistics in Medicine 17, method 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from robostack.errors import ConfigError
from robostack.evaluation.stats import Interval, binomial_cdf, wilson


@dataclass(frozen=True)
class Paired:
    """Counts over the common seeds.

    Attributes:
        both, first, second, neither: episodes in which both, only the first, only the second, none succeeded.
    """

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: Sequence[bool], second: Sequence[bool]) -> Paired:
        """Count two lists of outcomes, one entry per seed; raises ConfigError unless they match."""
        if len(first) != len(second) or not first:
            raise ConfigError(f"{len(first)} and {len(second)} episodes cannot be paired: run both on the same seeds")
        pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
        counts = [pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))]
        return cls(*counts)

    @property
    def n(self) -> int:
        """Episodes of each."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """Success rate of the second less that of the first."""
        return (self.second - self.first) / self.n

    def interval(self, confidence: float = 0.95) -> Interval:
        """Newcombe's interval of ``difference``, within [-1, 1]."""
        k1, k2, n = self.both + self.second, self.both + self.first, self.n
        p1, p2 = k1 / n, k2 / n
        low1, high1 = wilson(k1, n, confidence)
        low2, high2 = wilson(k2, n, confidence)
        phi = self._correlation()

        def reach(a: float, b: float) -> float:
            return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

        return Interval(
            max(-1.0, self.difference - reach(p1 - low1, high2 - p2)),
            min(1.0, self.difference + reach(high1 - p1, p2 - low2)),
        )

    def mcnemar(self) -> float:
        """Two-sided exact p-value of "neither is better"."""
        discordant = self.first + self.second
        return min(1.0, 2 * binomial_cdf(min(self.first, self.second), discordant, 0.5)) if discordant else 1.0

    def non_inferior(self, margin: float, alpha: float = 0.05) -> bool:
        """Whether the second is worse by less than ``margin``, at one-sided level ``alpha``.

        Raises:
            ConfigError: a margin that is not in (0, 1).
        """
        return _above(self.interval(1 - 2 * alpha).low, margin)

    def _correlation(self) -> float:
        """Newcombe's phi: corrected for continuity where it would shorten the interval."""
        a, b, c, d = self.both, self.second, self.first, self.neither
        product = (a + b) * (c + d) * (a + c) * (b + d)
        if product == 0:
            return 0.0
        cross = a * d - b * c
        return (max(cross - self.n / 2, 0.0) if cross > 0 else cross) / math.sqrt(product)


@dataclass(frozen=True)
class PairedScores:
    """Differences of a score over the common seeds, the second's less the first's; at least two."""

    differences: tuple[float, ...]

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> PairedScores:
        """Subtract two lists of scores, one entry per seed; raises ConfigError unless they match."""
        if len(first) != len(second) or len(first) < 2:
            counts = f"{len(first)} and {len(second)}"
            raise ConfigError(f"scores of {counts} episodes cannot be paired: run both on the same seeds, two or more")
        return cls(tuple(b - a for a, b in zip(first, second, strict=True)))

    @property
    def difference(self) -> float:
        """Mean score of the second less that of the first."""
        return fmean(self.differences)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Student's interval of ``difference``."""
        from scipy.stats import t

        n = len(self.differences)
        half = float(t.ppf(0.5 + confidence / 2, n - 1)) * stdev(self.differences) / math.sqrt(n)
        return Interval(self.difference - half, self.difference + half)

    def non_inferior(self, margin: float, alpha: float = 0.05) -> bool:
        """As ``Paired.non_inferior``; ``margin`` in units of the score."""
        return _above(self.interval(1 - 2 * alpha).low, margin)


def _above(bound: float, margin: float) -> bool:
    if not 0 < margin < 1:
        raise ConfigError(f"margin={margin}: must be between 0 and 1, usually 0.05")
    return bound > -margin
