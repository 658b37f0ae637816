import itertools

import numpy as np
import pytest

from policies.accel.bac import Add, Run, Sum, bubbled, schedule, uniform, unroll
from robostack.errors import ConfigError


def similarities(K, seed):
    x = np.cumsum(np.random.default_rng(seed).normal(size=(K, 6)), axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def served(similarity, calls, *, consecutive):
    """Value of a schedule, from its definition."""
    K, total = len(similarity), 0.0
    for a, b in zip(calls, [*calls[1:], K], strict=True):
        for t in range(a, b):
            if consecutive:
                total += similarity[t - 1, t] if t > a else 0.0
            else:
                total += similarity[a, t]
    return total


@pytest.mark.parametrize("consecutive", [False, True])
@pytest.mark.parametrize("K", [1, 2, 5, 8, 10])
def test_the_schedule_is_the_best_of_all(K, consecutive):
    for seed, M in itertools.product(range(3), range(1, K + 1)):
        similarity = similarities(K, seed)
        calls = schedule(similarity, M, consecutive=consecutive)
        assert len(calls) == M
        assert calls[0] == 0
        every = itertools.combinations(range(1, K), M - 1)
        best = max(served(similarity, (0, *rest), consecutive=consecutive) for rest in every)
        assert served(similarity, calls, consecutive=consecutive) == pytest.approx(best, abs=1e-12)


def test_as_many_updates_as_calls_update_always():
    assert schedule(similarities(7, 0), 7) == schedule(similarities(7, 0), 99) == tuple(range(7))
    with pytest.raises(ConfigError, match="updates=0"):
        schedule(similarities(7, 0), 0)


def test_the_uniform_schedule_is_spread_evenly():
    assert uniform(10, 5) == (0, 2, 4, 6, 8)
    assert uniform(10, 3) == (0, 3, 6)
    assert uniform(3, 9) == (0, 1, 2)


def test_the_union_gives_bad_blocks_the_calls_of_feedforward_blocks_at_and_above_their_layer():
    updates = ((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6))  # Two layers of self-, cross-attention, feed-forward.
    out = bubbled(updates, [9.0, 0.0, 0.0, 0.0, 8.0, 0.0], worst=2)
    assert out == ((0, 1, 3, 6), (0, 2), (0, 3), (0, 4), (0, 5, 6), (0, 6))
    assert bubbled(updates, [9.0, 0.0, 0.0, 0.0, 8.0, 0.0], worst=1) == updates
    assert all(set(a) <= set(b) for a, b in zip(updates, bubbled(updates, [1.0] * 6, 6), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_unrolled_code_adds_the_latest_value_of_every_block_in_every_call(seed):
    rng, K, B = np.random.default_rng(seed), 6, 9
    updates = tuple(
        (0, *sorted(rng.choice(np.arange(1, K), rng.integers(0, K - 1), replace=False).tolist())) for _ in range(B)
    )
    slots = {}
    for call, code in enumerate(unroll(updates, K)):
        stream = np.zeros(B)
        for instruction in code:
            match instruction:
                case Run(block, slot):
                    value = np.eye(B)[block] * (call + 1)
                    if slot is not None:
                        slots[slot] = value
                    stream = stream + value
                case Sum(of, into):
                    slots[into] = sum(slots[s] for s in of)
                case Add(slot):
                    stream = stream + slots[slot]
        latest = [max(c for c in when if c <= call) + 1 for when in updates]
        np.testing.assert_array_equal(stream, latest)


def test_neighbours_that_stay_stale_are_summed_once():
    code = unroll(((0,), (0,), (0, 1, 2)), 3)
    assert code[1] == (Sum((0, 1), 3), Add(3), Run(2, None))
    assert code[2] == (Add(3), Run(2, None))
