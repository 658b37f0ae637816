import numpy as np
import pytest

from robostack.data.arrays import EpisodeArrays
from robostack.data.idle import idle_rows
from robostack.types import Features

PATH = [0.0, 0.5, 0.5, 0.5, 0.5, 1.0]  # Commands: move, wait for three rows, move.


def episodes(command, measured=None, objects=None, count=1):
    features = Features(("ee.x",), ("cube.x",), ("ee.x",), (), "ee_pose", 20.0, "toy")
    late = [command[0], *command[:-1]]
    columns = (measured or late, objects or [0.0] * len(command), command)
    state, objects, action = (np.tile(np.array(c, np.float32), count)[:, None] for c in columns)
    ends = len(command) * np.arange(1, count + 1)
    return EpisodeArrays(state, objects, action, ends, features, "task", "wait")


def test_a_row_waits_when_its_command_is_the_last_one_and_the_robot_is_there():
    # The robot arrives one row after the command; row 4 repeats the command before the robot is told to leave.
    assert idle_rows(episodes(PATH)).tolist() == [False, False, True, True, True, False]
    measured = [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    assert idle_rows(episodes(PATH, measured)).tolist() == [False, False, True, True, True, False]
    slower = [0.0, 0.0, 0.2, 0.4, 0.5, 0.5]
    assert idle_rows(episodes(PATH, slower)).tolist() == [False, False, False, False, True, False]


def test_an_expert_that_waits_for_an_object_to_move_does_not_wait_for_nothing():
    falling = [0.3, 0.3, 0.3, 0.2, 0.1, 0.1]
    assert idle_rows(episodes(PATH, objects=falling)).tolist() == [False, False, False, False, True, False]


def test_the_first_row_of_every_episode_acts():
    rest = episodes([0.5] * 4, count=3)
    assert idle_rows(rest).tolist() == [False, True, True, True] * 3


def test_small_changes_count_by_the_range_of_their_column():
    still = episodes([0.0, 1.0, 1.01, 1.02, 2.0])
    assert idle_rows(still, 0.01).tolist() == [False, False, True, True, False]
    assert not idle_rows(still, 0.001).any()


def test_careful_motion_is_not_waiting():
    steady = [0.0, 1.0, *np.linspace(1.01, 1.05, 5), 2.0]
    assert not idle_rows(episodes(steady)).any()
    braking = [0.0, 1.0, 1.04, 1.06, 1.07, 1.076, 2.0]
    assert not idle_rows(episodes(braking, braking)).any()


def test_gathering_speed_is_waiting_as_long_as_it_is_slow():
    start = [0.0, 1.0, 1.0, 1.0, 1.006, 1.024, 1.08, 1.5, 2.0]
    assert np.flatnonzero(idle_rows(episodes(start))).tolist() == [2, 3, 4, 5]
    late = [0.0, 0.0, 0.5, 0.8, 0.9, 1.0, 1.0, 1.06, 1.5]  # The robot arrives when the command already leaves.
    assert np.flatnonzero(idle_rows(episodes(start, late))).tolist() == [4, 5]


def test_an_episode_begins_at_rest_and_acts_in_its_first_row():
    start = [0.0, 0.003, 0.012, 0.1, 1.0]
    assert np.flatnonzero(idle_rows(episodes(start))).tolist() == [1, 2]


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_without_a_share_and_of_a_single_row_nothing_waits(share):
    assert not idle_rows(episodes([0.5]), share).any()
    assert not idle_rows(episodes([0.5, 0.5]), 0.0).any()
