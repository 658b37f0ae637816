from dataclasses import replace

import pytest
import torch

from policies.frame import Frame, supports_gripper_frame


@pytest.fixture
def features(demos):
    return demos.features


@pytest.mark.parametrize("frame", ["world", "gripper"])
def test_mapping_actions_back_to_the_world_is_the_identity(features, frame):
    f = Frame(features, frame)
    actions, state = torch.randn(3, 16, 10), torch.randn(3, 2, 10)
    torch.testing.assert_close(f.to_world(f.actions(actions, f.origin(state)), f.origin(state)), actions)


def test_the_origin_is_the_gripper_of_the_last_observation(features):
    state = torch.randn(3, 2, 10)
    torch.testing.assert_close(Frame(features, "gripper").origin(state)[:, :3], state[:, 1, :3])


def test_only_positions_move_with_the_origin(features):
    f = Frame(features, "gripper")
    origin = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    assert f.actions(torch.zeros(1, 1, 10), origin)[0, 0].tolist() == [-1, -2, -3, 0, 0, 0, 0, 0, 0, 0]
    expected = [-1, -2, -3, 0, 0, 0, 0, 0, 0] * 2
    assert f.objects(torch.zeros(1, 1, 18), origin)[0, 0].tolist() == expected


def test_shifting_the_whole_scene_leaves_the_gripper_frame_unchanged(features):
    f, shift = Frame(features, "gripper"), torch.tensor([0.1, -0.2, 0.3])
    state, objects = torch.randn(2, 2, 10), torch.randn(2, 2, 18)
    moved_state, moved = state.clone(), objects.clone()
    moved_state[..., :3] += shift
    moved[..., :3] += shift
    moved[..., 9:12] += shift
    torch.testing.assert_close(f.objects(moved, f.origin(moved_state)), f.objects(objects, f.origin(state)))


def test_joint_space_data_stays_in_the_world_frame(features):
    joints = tuple(f"joint{i}" for i in range(7))
    features = replace(features, state=joints, action=joints, control_mode="joint_pos")
    assert not supports_gripper_frame(features)
    f = Frame(features, "gripper")
    assert not f.relative
    objects = torch.randn(2, 2, 18)
    assert f.objects(objects, f.origin(torch.randn(2, 2, 7))) is objects


def test_a_planar_task_has_the_gripper_frame_in_its_plane(features):
    planar = replace(features, state=("ee.x", "ee.y"), action=("ee.x", "ee.y"), environment_state=("t0.x", "t0.y"))
    f = Frame(planar, "gripper")
    assert f.relative
    origin = f.origin(torch.tensor([[[7.0, 8.0], [1.0, 2.0]]]))
    assert origin.tolist() == [[1.0, 2.0, 0.0, 0.0]]
    assert f.actions(torch.zeros(1, 1, 2), origin).tolist() == [[[-1.0, -2.0]]]
    assert f.objects(torch.zeros(1, 1, 2), origin).tolist() == [[[-1.0, -2.0]]]
