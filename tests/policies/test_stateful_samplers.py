"""What holds for every sampler when it acts in a policy, tick after tick, whatever it remembers."""

from dataclasses import replace

import numpy as np
import pytest

from policies.samplers import RTI, SAMPLERS

STATEFUL = [n for n in SAMPLERS if isinstance(SAMPLERS[n], RTI)]


def drive(policy, observe, rows, seeds, resets=(), ticks=4):
    """Chunks of every tick; lanes of ``resets`` begin a new episode before the tick that is named there."""
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    chunks = []
    for tick in range(ticks):
        for lane in [lane for when, lane in resets if when == tick]:
            policy.reset(np.arange(len(seeds)) == lane, np.array(seeds))
        chunks.append(policy.infer(replace(observe(*(r + tick for r in rows)), t_s=tick / 20.0)).actions)
    return chunks


@pytest.mark.parametrize("name", [*STATEFUL, "dpmpp5"])
def test_the_order_of_the_episodes_changes_nothing(policy, observe, name):
    policy.use_sampler(replace(SAMPLERS[name], tau=0.5) if name == "rti" else name)
    rows, seeds, order = (5, 40, 90), (1, 2, 3), [2, 0, 1]
    straight = drive(policy, observe, rows, seeds)
    permuted = drive(policy, observe, [rows[i] for i in order], [seeds[i] for i in order])
    for a, b in zip(straight, permuted, strict=True):
        np.testing.assert_allclose(b, a[order], atol=5e-5)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_new_episode_in_one_lane_knows_nothing_of_the_last_and_the_others_nothing_of_it(policy, observe, name):
    policy.use_sampler(name)
    whole = drive(policy, observe, (5, 40), (1, 2))
    broken = drive(policy, observe, (5, 40), (1, 2), resets=((2, 0),))
    for a, b in zip(whole, broken, strict=True):
        np.testing.assert_array_equal(b[1], a[1])
    anew = drive(policy, observe, (7, 40), (1, 2), ticks=1)
    np.testing.assert_allclose(broken[2][0], anew[0][0], atol=5e-5)
    assert policy.evaluations().tolist() == [10, 10]


def test_two_decisions_at_the_same_instant_are_both_from_noise(policy, observe):
    policy.use_sampler("rti")
    policy.reset(np.ones(1, bool), np.array([1]))
    for _ in range(2):
        policy.infer(observe(5))
        assert policy.evaluations().tolist() == [10]


def test_choosing_a_sampler_forgets_the_episodes_of_the_last(policy, observe):
    policy.use_sampler("rti")
    drive(policy, observe, (5,), (1,))
    policy.use_sampler("rti3")
    with pytest.raises(AssertionError, match="reset 1 lanes before infer"):
        policy.infer(observe(5))
    drive(policy, observe, (5,), (1,))
    assert policy.evaluations().tolist() == [3]
