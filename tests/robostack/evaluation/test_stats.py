import math

import numpy as np
import pytest

from robostack.errors import ConfigError
from robostack.evaluation.stats import binomial_cdf, clopper_pearson, wilson


@pytest.mark.parametrize(
    ("method", "k", "n", "low", "high"),
    [
        (wilson, 61, 64, 0.871, 0.984),
        (wilson, 93, 100, 0.863, 0.966),
        (clopper_pearson, 45, 50, 0.782, 0.967),
        (clopper_pearson, 10, 10, 0.692, 1.0),
        (clopper_pearson, 8, 10, 0.444, 0.975),
        (clopper_pearson, 18, 20, 0.683, 0.988),
    ],
)
def test_published_values(method, k, n, low, high):
    assert method(k, n) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@pytest.mark.parametrize("n", [1, 2, 7, 50, 2000])
def test_intervals_hold_the_rate_mirror_and_grow_with_k_and_confidence(method, n):
    ks = range(n + 1) if n <= 50 else (0, 1, 999, 1999, 2000)
    last = (-1.0, -1.0)
    for k in ks:
        low, high = method(k, n)
        assert 0.0 <= low <= k / n <= high <= 1.0
        assert (low, high) > last
        last = (low, high)
        mirrored = method(n - k, n)
        assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-12)
        wider = method(k, n, 0.99)
        assert wider.low <= low
        assert wider.high >= high


def coverages(method, n, rates):
    intervals = [method(k, n) for k in range(n + 1)]
    inside = np.array([[low <= p <= high for low, high in intervals] for p in rates])
    binomial = np.array([[math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] for p in rates])
    return (inside * binomial).sum(axis=1)


@pytest.mark.parametrize(("n", "least", "mean"), [(10, 0.914, 0.956), (20, 0.925, 0.959), (50, 0.922, 0.953)])
def test_wilson_covers_95_percent_on_average_and_clopper_pearson_everywhere(n, least, mean):
    rates = np.linspace(0.05, 0.95, 61)
    covered = coverages(wilson, n, rates)
    assert covered.mean() == pytest.approx(mean, abs=0.01)
    assert covered.min() > least - 0.015
    assert coverages(clopper_pearson, n, rates).min() >= 0.95


def test_bounds_of_clopper_pearson_put_k_exactly_into_the_tails():
    low, high = clopper_pearson(713, 1000)
    assert 1 - binomial_cdf(712, 1000, low) == pytest.approx(0.025, abs=1e-12)
    assert binomial_cdf(713, 1000, high) == pytest.approx(0.025, abs=1e-12)


def test_the_binomial_cdf_is_that_of_exact_arithmetic():
    for k in range(-1, 13):
        exact = sum(math.comb(12, i) * 0.3**i * 0.7 ** (12 - i) for i in range(k + 1))
        assert binomial_cdf(k, 12, 0.3) == pytest.approx(min(exact, 1.0), abs=1e-14)
    assert binomial_cdf(3, 12, 0.0) == 1.0
    assert binomial_cdf(3, 12, 1.0) == 0.0


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0), "at least one episode"), ((5, 4), "between 0 and 4"), ((-1, 4), "between 0"), ((1, 4, 95.0), "0.95")],
)
def test_impossible_counts_are_named(method, arguments, message):
    with pytest.raises(ConfigError, match=message):
        method(*arguments)
