import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robostack.data.sequence import SequenceSampler

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=6)
WINDOW = st.tuples(st.integers(1, 4), st.integers(0, 15)).map(lambda v: (v[0], v[0] + v[1]))


def all_windows(sampler):
    return sampler.gather(np.arange(len(sampler)))


@given(lengths=LENGTHS, window=WINDOW)
@settings(max_examples=100, deadline=None)
def test_windows_never_cross_an_episode_and_make_every_row_current_once(lengths, window):
    ends = np.cumsum(lengths)
    obs, act = all_windows(SequenceSampler(ends, *window))
    episode = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    for rows in (obs, act):
        assert (episode[rows] == episode[obs[:, -1:]]).all()
        steps = np.diff(rows, axis=1)
        assert ((steps == 0) | (steps == 1)).all()
    np.testing.assert_array_equal(obs[:, -1], np.arange(ends[-1]))
    np.testing.assert_array_equal(act[:, window[0] - 1], obs[:, -1])


@given(lengths=LENGTHS, window=WINDOW, before=st.integers(0, 3), after=st.integers(0, 14))
@settings(max_examples=100, deadline=None)
def test_gather_agrees_with_the_loop_of_the_definition(lengths, window, before, after):
    To, Tp = window
    before, after = min(before, To - 1), min(after, Tp - To)
    expected, start = [], 0
    for length in lengths:
        firsts = range(-before, length - Tp + after + 1)
        expected += [[start + min(max(first + i, 0), length - 1) for i in range(Tp)] for first in firsts]
        start += length
    sampler = SequenceSampler(np.cumsum(lengths), To, Tp, pad_before=before, pad_after=after)
    assert len(sampler) == len(expected)
    _, act = all_windows(sampler)
    np.testing.assert_array_equal(act, np.array(expected).reshape(-1, Tp))


def test_the_first_observation_and_the_last_action_are_repeated():
    obs, act = all_windows(SequenceSampler(np.array([5, 9]), 2, 4))
    np.testing.assert_array_equal(obs[5], [5, 5])
    np.testing.assert_array_equal(act[5], [5, 5, 6, 7])
    np.testing.assert_array_equal(act[4], [3, 4, 4, 4])


def test_only_the_chosen_episodes_are_indexed():
    obs, _ = all_windows(SequenceSampler(np.array([3, 7, 9]), 2, 4, episodes=np.array([0, 2])))
    assert set(obs[:, -1]) == {0, 1, 2, 7, 8}


def test_a_window_longer_than_every_episode_is_padded():
    obs, act = all_windows(SequenceSampler(np.array([1]), 2, 16))
    assert obs.tolist() == [[0, 0]]
    assert act.tolist() == [[0] * 16]


def test_a_prediction_shorter_than_the_observation_is_a_programmers_mistake():
    with pytest.raises(AssertionError):
        SequenceSampler(np.array([5]), 3, 2)


def test_later_rows_run_from_the_current_one_to_the_last_of_the_episode():
    windows = SequenceSampler(np.array([5, 12]), To=2, Tp=4)
    indices = np.arange(len(windows))
    now, last = windows.gather(indices)[0][:, -1], np.repeat([4, 11], [5, 7])
    np.testing.assert_array_equal(windows.later(indices, np.zeros(12)), now)
    np.testing.assert_array_equal(windows.later(indices, np.ones(12)), last)
    middle = windows.later(indices, np.full(12, 0.5))
    assert ((now <= middle) & (middle <= last)).all()


def test_actions_outside_of_their_episode_are_marked():
    sampler = SequenceSampler(np.array([5, 9]), 2, 4)
    marked = sampler.padded(np.array([5, 4, 1]))
    np.testing.assert_array_equal(marked, [[True, False, False, False], [False, False, True, True], [False] * 4])


@given(lengths=LENGTHS, window=WINDOW, seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_rows_to_skip_are_left_out_of_the_actions_that_follow_and_of_nothing_else(lengths, window, seed):
    ends, To = np.cumsum(lengths), window[0]
    skip = np.random.default_rng(seed).uniform(size=ends[-1]) < 0.4
    plain, skipping = SequenceSampler(ends, *window), SequenceSampler(ends, *window, skip=skip)
    (obs, past), (seen, acted) = all_windows(plain), all_windows(skipping)
    np.testing.assert_array_equal(seen, obs)
    np.testing.assert_array_equal(acted[:, : To - 1], past[:, : To - 1])
    stops = ends[np.searchsorted(ends, obs[:, -1], side="right")]
    padded = skipping.padded(np.arange(len(seen)))[:, To - 1 :]
    for now, stop, rows, outside in zip(obs[:, -1], stops, acted[:, To - 1 :], padded, strict=True):
        follow = [row for row in range(now, stop) if not skip[row] or row == stop - 1]
        assert rows.tolist() == (follow + [stop - 1] * len(rows))[: len(rows)]
        assert outside.tolist() == [i >= len(follow) for i in range(len(rows))]
