import math

import numpy as np
import pytest

from robostack.errors import ConfigError
from robostack.evaluation.paired import Paired, PairedScores
from robostack.evaluation.stats import wilson


def test_counts_are_those_of_the_episodes():
    pair = Paired.of([True, True, False, False, True], [True, False, True, False, True])
    assert pair == Paired(both=2, first=1, second=1, neither=1)
    assert pair.n == 5
    assert pair.difference == 0.0


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ConfigError, match="same seeds"):
        Paired.of([True], [True, False])
    with pytest.raises(ConfigError, match="same seeds"):
        Paired.of([], [])


def test_the_interval_is_that_of_the_paper():
    found = Paired(both=36, second=12, first=2, neither=0).interval()  # Newcombe 1998, table III, method 10
    assert found.low == pytest.approx(0.0569, abs=2e-4)
    assert found.high == pytest.approx(0.3404, abs=2e-4)


def test_exchanging_the_two_mirrors_the_interval():
    for cells in ((30, 5, 2, 3), (0, 4, 9, 1), (7, 0, 0, 3)):
        both, first, second, neither = cells
        one = Paired(both, first, second, neither).interval()
        other = Paired(both, second, first, neither).interval()
        assert one.low == pytest.approx(-other.high)
        assert one.high == pytest.approx(-other.low)


def test_equal_outcomes_are_non_inferior_as_soon_as_there_are_enough_of_them():
    assert not Paired(9, 0, 0, 1).non_inferior(0.05)
    assert Paired(180, 0, 0, 20).non_inferior(0.05)
    assert not Paired(160, 20, 0, 20).non_inferior(0.05)


def test_mcnemar_is_a_sign_test_of_the_discordant_pairs():
    assert Paired(5, 0, 0, 5).mcnemar() == 1.0
    assert Paired(5, 0, 6, 5).mcnemar() == pytest.approx(2 * 0.5**6)
    assert Paired(5, 3, 3, 5).mcnemar() == 1.0


def test_the_interval_covers_at_least_nearly_its_confidence():
    rng, truth, covered, rounds = np.random.default_rng(0), 0.05, 0, 600
    shares = [0.75, 0.05, 0.10, 0.10]  # both, first, second, neither
    for _ in range(rounds):
        pair = Paired(*(int(v) for v in rng.multinomial(100, shares)))
        low, high = pair.interval()
        covered += low <= truth <= high
    assert covered / rounds > 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    assert wilson(covered, rounds).high > 0.95


def test_a_margin_must_be_a_share():
    with pytest.raises(ConfigError, match="margin"):
        Paired(1, 1, 1, 1).non_inferior(0.0)


def test_scores_are_compared_by_the_paired_t_test():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(1)
    first = rng.uniform(size=30)
    second = first + rng.normal(-0.02, 0.1, size=30)
    theirs = ttest_rel(second, first).confidence_interval(0.95)
    pair = PairedScores.of(first.tolist(), second.tolist())
    assert pair.difference == pytest.approx(second.mean() - first.mean())
    assert pair.interval() == pytest.approx((theirs.low, theirs.high))


def test_scores_that_hardly_differ_are_non_inferior():
    first = [0.5, 0.7, 0.9, 0.8]
    assert PairedScores.of(first, [v - 0.04 for v in first]).non_inferior(0.05)
    assert not PairedScores.of(first, [v - 0.06 for v in first]).non_inferior(0.05)
    assert not PairedScores.of(first, [0.9, 0.3, 1.0, 0.7]).non_inferior(0.05)


@pytest.mark.parametrize(("first", "second"), [([0.1, 0.2], [0.1]), ([0.1], [0.2]), ([], [])])
def test_scores_that_cannot_be_paired_are_refused(first, second):
    with pytest.raises(ConfigError, match="same seeds, two or more"):
        PairedScores.of(first, second)
