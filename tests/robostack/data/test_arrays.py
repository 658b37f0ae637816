from dataclasses import replace

import numpy as np
import pytest

from robostack.data.arrays import EpisodeArrays
from robostack.errors import DataError
from robostack.types import Features


@pytest.fixture
def arrays():
    features = Features(("ee.x", "ee.y"), ("cube.x",), ("ee.x", "ee.y", "gripper"), (), "ee_pose", 20.0, "toy")
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=(7, d)).astype(np.float32) for d in (2, 1, 3)]
    return EpisodeArrays(*columns, np.array([3, 7]), features, "task", "push the cube")


def test_good_arrays_pass(arrays):
    assert arrays.check() is arrays


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_reported_with_its_column_and_episode(arrays, value):
    arrays.action[4, 1] = value
    with pytest.raises(DataError, match=r"action 'ee.y' is (nan|inf) in episode 1 \(row 4\)"):
        arrays.check()


def test_an_empty_dataset_is_refused(arrays):
    empty = replace(arrays, state=arrays.state[:0], environment_state=arrays.environment_state[:0],
                    action=arrays.action[:0], ends=arrays.ends[:0])  # fmt: skip
    with pytest.raises(DataError, match="empty"):
        empty.check()


@pytest.mark.parametrize("ends", [[3, 3, 7], [3, 6], [7, 3]])
def test_ends_that_do_not_partition_the_rows_are_refused(arrays, ends):
    with pytest.raises(DataError, match="must increase up to the 7 rows"):
        replace(arrays, ends=np.array(ends)).check()


def test_a_width_that_contradicts_the_features_is_refused(arrays):
    with pytest.raises(DataError, match=r"'state' has shape \(7, 1\), but the features name 2 columns"):
        replace(arrays, state=arrays.state[:, :1]).check()


def test_the_fingerprint_changes_with_any_value(arrays):
    before = arrays.fingerprint()
    arrays.state[0, 0] += 1e-6
    assert arrays.fingerprint() != before
