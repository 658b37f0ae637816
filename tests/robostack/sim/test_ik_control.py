import numpy as np
import pytest

from robostack.errors import InvalidAction
from robostack.sim.cards import load_robot, robots
from robostack.sim.control import Controller
from robostack.sim.env import TaskEnv
from robostack.sim.ik import IKSolver
from robostack.sim.rotation import rot6d
from robostack.task.spec import TaskSpec
from simgen.propose import propose


@pytest.fixture(scope="module", params=robots())
def ik(request):
    return IKSolver(load_robot(request.param))


@pytest.fixture(scope="module")
def env():
    return TaskEnv(propose("put the red cube in the bowl", "panda"))


def nearby(ik, rng, spread):
    return np.clip(ik.home + rng.uniform(-spread, spread, len(ik.home)), ik.lower, ik.upper)


def angle(a, b):
    return np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))


def test_solving_a_reachable_pose_reaches_it(ik):
    rng = np.random.default_rng(0)
    for _ in range(40):
        pos, rot = ik.forward(nearby(ik, rng, 0.5))
        result = ik.solve(pos, rot, ik.home)
        found_pos, found_rot = ik.forward(result.q)
        assert np.linalg.norm(found_pos - pos) < 1e-3
        assert angle(found_rot, rot) < 1e-3 / ik.card.rotation_weight
        assert result.position_error == pytest.approx(np.linalg.norm(found_pos - pos), abs=1e-9)
        assert result.rotation_error == pytest.approx(angle(found_rot, rot), abs=1e-6)


def test_joint_limits_are_kept_even_for_poses_out_of_reach(ik):
    rng = np.random.default_rng(1)
    for _ in range(30):
        goal = rng.uniform(-3, 3, 3)
        result = ik.solve(goal, ik.forward(nearby(ik, rng, 2.0))[1], nearby(ik, rng, 2.0))
        assert np.isfinite(result.q).all()
        assert (result.q >= ik.lower).all()
        assert (result.q <= ik.upper).all()
        assert result.position_error == pytest.approx(np.linalg.norm(ik.forward(result.q)[0] - goal), abs=1e-9)


def test_home_points_straight_down_over_the_workspace(ik):
    pos, rot = ik.forward(ik.home)
    x0, y0, x1, y1 = ik.card.workspace
    assert x0 - 0.05 <= pos[0] <= x1
    assert y0 <= pos[1] <= y1
    assert pos[2] > 0.5 * ik.card.lift
    assert np.arccos(-rot[2, 2]) < ik.card.tilt_tolerance


def good_action(ik):
    pos, rot = ik.forward(ik.home)
    return np.concatenate([pos, rot6d(rot), [1.0]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: np.r_[a[:4], np.nan, a[5:]], r"NaN or infinite values at \[4\]"),
        (lambda a: np.r_[np.inf, a[1:]], r"NaN or infinite values at \[0\]"),
        (lambda a: a[:-1], r"shape \(9,\), ee_pose control takes \(10,\)"),
        (lambda a: np.r_[a[:3], np.zeros(6), 1.0], "rot6d's first column is zero"),
        (lambda a: np.r_[a[:3], a[3:6], a[3:6], 1.0], "columns are parallel"),
        (lambda a: np.r_[a[:3], a[3:9] * 1e200, 1.0], "values beyond"),
    ],
)
def test_an_invalid_action_is_refused_and_nothing_moves(env, spoil, message):
    env.reset_scene(0)
    before, target = env.scene.get_state(), env.controller.q.copy()
    with pytest.raises(InvalidAction, match=message) as caught:
        env.step(spoil(good_action(env.scene.ik)))
    assert "\n" not in str(caught.value)
    assert np.array_equal(env.scene.get_state(), before)
    assert np.array_equal(env.controller.q, target)
    assert env.t_s == 0.0
    env.step(good_action(env.scene.ik))
    assert env.t_s > 0.0


@pytest.mark.parametrize("mode", ["ee_pose", "joint_pos"])
def test_adversarial_jumps_stay_within_joint_speed_and_range(ik, mode):
    dt = 0.05
    controller = Controller(ik, mode, dt)
    rng, limit = np.random.default_rng(2), np.asarray(ik.card.arm.velocity) * dt
    low, high = sorted((ik.card.gripper.closed, ik.card.gripper.open))
    last = controller.q.copy()
    for k in range(60):
        action = rng.normal(0, 10.0 ** rng.integers(-1, 5), controller.width)
        q, gripper = controller.targets(action if k % 2 else -action)
        assert (np.abs(q - last) <= limit + 1e-12).all()
        assert (q >= ik.lower - 1e-12).all()
        assert (q <= ik.upper + 1e-12).all()
        assert low - 1e-12 <= gripper <= high + 1e-12
        last = q.copy()


def test_targets_given_out_do_not_change_later(ik):
    controller = Controller(ik, "joint_pos", 0.05)
    q, _ = controller.targets(np.append(ik.home + 0.1, 1.0))
    kept = q.copy()
    controller.targets(np.append(ik.home - 0.1, 1.0))
    assert np.array_equal(q, kept)


@pytest.mark.parametrize("robot", robots())
def test_joint_control_tracks_its_target(robot):
    spec = propose("put the red cube in the bowl", robot)
    spec = spec.model_copy(update={"robot": spec.robot.model_copy(update={"control_mode": "joint_pos"})})
    env = TaskEnv(TaskSpec.from_json(spec.to_json()))
    env.reset(seed=0)
    ik = env.scene.ik
    target = ik.home + 0.12 * np.where(np.arange(len(ik.home)) % 2, -1, 1)
    for _ in range(30):
        obs, *_ = env.step(np.append(target, 0.5).astype(np.float32))
    assert obs["state"].shape == (len(ik.home) + 1,)
    assert np.abs(obs["state"][:-1] - target).max() < 0.02
    assert obs["state"][-1] == pytest.approx(0.5, abs=0.08)
    assert env.features.action == (*(f"{name}.pos" for name in ik.card.arm.joints), "gripper")


@pytest.mark.parametrize("robot", robots())
def test_tool_control_tracks_its_target(robot):
    env = TaskEnv(propose("put the red cube in the bowl", robot))
    env.reset(seed=0)
    action = good_action(env.scene.ik)
    action[:3] += np.array([0.02, 0.02, 0.02])
    for _ in range(30):
        obs, *_ = env.step(action.astype(np.float32))
    five_joints = len(env.scene.ik.home) < 6  # cannot keep the orientation everywhere, and trades position for it
    assert np.linalg.norm(obs["state"][:3] - action[:3]) < (6e-3 if five_joints else 2e-3)
