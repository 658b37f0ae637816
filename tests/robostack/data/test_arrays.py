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


# Several datasets as one.


def other_task(arrays, **changes):
    rows = [np.concatenate([column, column[:2]]) for column in (arrays.state, arrays.environment_state, arrays.action)]
    made = EpisodeArrays(*rows, np.array([4, 5, 9]), arrays.features, "other", "lift the cube")
    return replace(made, **changes)


def with_looks(arrays, cameras=(("front", 4, 6),), value=3):
    n = len(arrays.action)
    images = {name: np.full((n, h, w, 3), value, np.uint8) for name, h, w in cameras}
    points = np.full((n, 5, 6), value, np.float32)
    return replace(arrays, images=images, points=points, features=replace(arrays.features, cameras=cameras, points=5))


def test_one_dataset_stays_as_it_is(arrays):
    assert EpisodeArrays.concatenate([arrays]) is arrays
    assert arrays.instructions == ("push the cube",) * 2


def test_datasets_of_several_tasks_keep_the_instruction_of_each_episode(arrays):
    both = EpisodeArrays.concatenate([arrays, other_task(arrays)]).check()
    assert both.instructions == ("push the cube",) * 2 + ("lift the cube",) * 3
    assert (both.task_id, both.language) == ("", "")
    assert both.ends.tolist() == [3, 7, 11, 12, 16]
    for name in ("state", "environment_state", "action"):
        np.testing.assert_array_equal(getattr(both, name)[:7], getattr(arrays, name))
        np.testing.assert_array_equal(getattr(both, name)[7:14], getattr(arrays, name))


def test_datasets_of_one_task_stay_of_that_task(arrays):
    both = EpisodeArrays.concatenate([arrays, other_task(arrays, task_id="task", language="push the cube")])
    assert (both.task_id, both.language, both.languages) == ("task", "push the cube", ())


def test_pictures_and_points_are_joined_on_the_disk(arrays):
    both = EpisodeArrays.concatenate([with_looks(arrays), with_looks(other_task(arrays), value=7)]).check()
    assert isinstance(both.images["front"], np.memmap)
    assert both.images["front"].shape == (16, 4, 6, 3)
    assert both.images["front"][[6, 7], 0, 0, 0].tolist() == both.points[[6, 7], 0, 0].tolist() == [3, 7]
    assert both.features == with_looks(arrays).features


def test_what_was_not_loaded_need_not_agree(arrays):
    cameras = replace(arrays.features, cameras=(("front", 4, 6),), points=9)
    both = EpisodeArrays.concatenate([arrays, other_task(arrays, features=cameras)])
    assert both.features == arrays.features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment_state": ("ball.x",)}, "environment_state: only one has cube.x, ball.x"),
        ({"rate_hz": 10.0}, "rate_hz: 20.0 != 10.0"),
        ({"robot": "ur5e"}, "robot: toy != ur5e"),
        ({"state": ("ee.y", "ee.x")}, r"state: \('ee.x', 'ee.y'\) != \('ee.y', 'ee.x'\)"),
    ],
)
def test_datasets_that_do_not_go_together_are_refused_by_what_differs(arrays, change, message):
    odd = other_task(arrays, features=replace(arrays.features, **change))
    with pytest.raises(DataError, match=f"^b does not go with a .*{message}") as caught:
        EpisodeArrays.concatenate([arrays, odd], ["a", "b"])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="^dataset 2 does not go with dataset 1"):
        EpisodeArrays.concatenate([arrays, odd])


def test_instructions_that_do_not_fit_the_episodes_are_refused(arrays):
    with pytest.raises(DataError, match="3 instructions do not fit 2 episodes"):
        replace(arrays, languages=("a", "b", "c")).check()


def test_the_fingerprint_is_of_several_instructions_too(arrays):
    one, two = (replace(arrays, languages=("push", name)) for name in ("pull", "lift"))
    assert len({arrays.fingerprint(), one.fingerprint(), two.fingerprint()}) == 3
