import math

import numpy as np
import pytest

from robostack.errors import ConfigError, InvalidAction
from robostack.runtime.action_queue import MODES, ActionQueue
from robostack.types import ActionChunk

DT = 0.05


def chunk(t0, *values, dt=DT):
    return ActionChunk(t0, dt, np.array(values, float)[:, None])


def queue(**settings):
    return ActionQueue(DT, 1, **settings)


def filled(*chunks, **settings):
    out = queue(**settings)
    for c in chunks:
        out.push(c, c.t0_s)
    return out


def played(q, first, last):
    """Commands at steps first .. last; None where starved."""
    taken = [q.take(step * DT) for step in range(first, last + 1)]
    return [None if a is None else pytest.approx(a.item()) for a in taken]


def test_action_k_is_due_k_periods_after_the_first():
    assert played(filled(chunk(1.0, 5, 6, 7)), 20, 22) == [5, 6, 7]


def test_the_clock_and_not_the_number_of_calls_advances_the_plan():
    q = filled(chunk(0.0, 0, 1, 2, 3, 4))
    assert [q.take(t).item() for t in (0.0, 0.01, 0.024, 0.11, 0.19)] == [0, 0, 0, 2, 4]


def test_actions_that_are_past_when_a_chunk_comes_have_no_effect():
    q = queue()
    assert q.push(chunk(0.0, 0, 1, 2, 3), now_s=2 * DT)
    assert q.counters.dropped == 2
    assert played(q, 2, 3) == [2, 3]


def test_a_chunk_that_is_past_altogether_changes_nothing():
    q = filled(chunk(5 * DT, 50, 60))
    assert not q.push(chunk(0.0, 0, 1, 2), now_s=5 * DT)
    assert q.counters.stale == 1
    assert played(q, 5, 6) == [50, 60]


def test_a_starved_queue_says_so_and_never_repeats_an_action():
    q = filled(chunk(0.0, 0, 1))
    assert played(q, 0, 4) == [0, 1, None, None, None]
    assert (q.counters.taken, q.counters.starved) == (2, 3)
    assert q.last.item() == 1


def test_an_empty_queue_and_one_whose_plan_lies_ahead_are_starved():
    assert queue().take(0.0) is None
    assert filled(chunk(5 * DT, 1)).take(0.0) is None


def test_a_newer_chunk_replaces_from_its_first_action_on():
    q = filled(chunk(0.0, 0, 1, 2, 3, 4))
    q.push(chunk(3 * DT, 30, 40), now_s=0.0)
    assert played(q, 0, 5) == [0, 1, 2, 30, 40, None]


def test_the_end_of_a_newer_chunk_does_not_bring_an_older_one_back():
    q = filled(chunk(0.0, *range(9)), chunk(1 * DT, 10, 20))
    assert played(q, 1, 4) == [10, 20, None, None]


@pytest.mark.parametrize("m", [0.0, 0.01, 0.7])
def test_an_ensemble_weighs_by_age_the_oldest_most(m):
    q = filled(chunk(0.0, 1, 1, 1), chunk(DT, 10, 10), chunk(2 * DT, 100), mode="ensemble", m=m)
    w = [math.exp(-m * i) for i in range(3)]
    expected = (w[0] * 1 + w[1] * 10 + w[2] * 100) / sum(w)
    assert played(q, 2, 2) == [expected]


def test_an_ensemble_averages_only_what_is_due_now():
    q = filled(chunk(0.0, 1, 2), chunk(DT, 10, 20, 30), mode="ensemble", m=0.0)
    assert played(q, 1, 4) == [6, 20, 30, None]


def test_weighted_chunks_merge_one_after_the_other():
    q = filled(chunk(0.0, 1, 1, 1), chunk(DT, 10, 10), chunk(2 * DT, 100), mode="weighted", new_weight=0.7)
    assert played(q, 2, 2) == [0.3 * (0.3 * 1 + 0.7 * 10) + 0.7 * 100]


@pytest.mark.parametrize("mode", MODES)
def test_chunks_that_agree_are_merged_into_themselves(mode):
    plan = np.sin(np.arange(20.0))
    q = filled(*(chunk(k * DT, *plan[k : k + 8]) for k in range(10)), mode=mode)
    assert played(q, 9, 16) == plan[9:17].tolist()


def test_the_rest_of_the_plan_ends_at_the_first_gap_and_takes_nothing():
    q = filled(chunk(0.0, 0, 1, 2, 3))
    assert q.rest(2 * DT).tolist() == [[2], [3]]
    assert q.rest(4 * DT).shape == (0, 1)
    assert q.counters.taken == q.counters.starved == 0


def test_a_chunk_that_begins_with_a_jump_is_rejected_and_the_old_plan_goes_on():
    q = filled(chunk(0.0, 0, 1, 2), jump=5.0)
    q.take(0.0)
    assert not q.push(chunk(DT, 7, 8), now_s=DT)
    assert q.counters.rejected == 1
    assert played(q, 1, 2) == [1, 2]
    assert q.push(chunk(3 * DT, 7, 8), now_s=3 * DT)  # now it is within reach
    assert played(q, 3, 3) == [7]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (chunk(0.0, 1, np.nan), "NaN or infinite"),
        (chunk(np.nan, 1), "NaN or infinite"),
        (ActionChunk(0.0, DT, np.zeros((3, 2))), r"shape \(3, 2\).*1 action columns"),
        (ActionChunk(0.0, DT, np.zeros((2, 3, 1))), r"shape \(2, 3, 1\)"),
        (chunk(0.0, 1, dt=0.1), "0.1 s between actions does not fit a loop of 0.05 s"),
    ],
)
def test_a_chunk_that_must_not_be_executed_is_refused_and_the_plan_stays(bad, reason):
    q = filled(chunk(0.0, 0, 1))
    with pytest.raises(InvalidAction, match=reason):
        q.push(bad, now_s=0.0)
    assert played(q, 0, 1) == [0, 1]


def test_an_unknown_way_to_merge_is_refused():
    with pytest.raises(ConfigError, match="'mean'.*replace, ensemble, weighted"):
        queue(mode="mean")


def test_cleared_is_as_new():
    q = filled(chunk(0.0, 0, 1))
    q.take(0.0)
    q.clear()
    assert q.take(0.0) is None
    assert q.last is None
    assert (q.counters.pushed, q.counters.starved) == (0, 1)


def test_what_is_taken_may_be_changed():
    q = filled(chunk(0.0, 3))
    q.take(0.0)[:] = 9
    assert q.take(0.0).item() == 3
    assert q.last.item() == 3


def test_any_sequence_of_chunks_and_times_obeys_the_clock():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    event = st.tuples(st.integers(0, 6), st.integers(-8, 8), st.integers(1, 10))  # pause, offset of t0, length

    @hypothesis.settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @hypothesis.given(events=st.lists(event, max_size=12), mode=st.sampled_from(MODES))
    def law(events, mode):
        """Every action's value is the step at which it is due, so merging cannot hide a wrong time."""
        q, now, ends = queue(mode=mode), 0, -(10**6)
        for pause, offset, length in events:
            for _ in range(pause):
                action = q.take(now * DT)
                assert action is None or action.item() == pytest.approx(now)
                now += 1
            first = now + offset
            accepted = q.push(chunk(first * DT, *range(first, first + length)), now * DT)
            assert accepted == (first + length > now)
            ends = max(ends, first + length)
        assert all(q.take(step * DT) is None for step in range(max(now, ends), max(now, ends) + 3))
        c = q.counters
        assert c.pushed + c.stale == len(events)

    law()
