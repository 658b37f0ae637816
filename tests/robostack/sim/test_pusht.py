"""Push-T: gym-pusht's physics and criterion behind the interface that evaluations use."""

import math

import numpy as np
import pytest

from robostack.errors import InvalidAction, MissingExtra, UnknownName
from robostack.evaluation.environment import EvaluationEnv, make_env, task_features
from robostack.sim import pusht
from robostack.sim.pusht import GOAL, OUTLINE, PushTEnv, corners, make_gym_env, pusht_camera
from robostack.sim.scene import eval_seed, train_seed
from robostack.task.benchmark import PushTTask

pytest.importorskip("gym_pusht")


@pytest.fixture
def env():
    return PushTEnv()


def wander(env, seed, steps=30):
    """Chase the T with noise; returns all configurations."""
    env.reset_scene(seed)
    rng, seen = np.random.default_rng(seed), [env.configuration]
    for _ in range(steps):
        env.apply((env.configuration[4:6] + rng.normal(size=2) * 60).astype(np.float32))
        seen.append(env.configuration)
    return np.array(seen)


def test_an_episode_depends_on_its_seed_only(env):
    first = wander(env, 4)
    wander(env, 6)
    assert first.tobytes() == wander(env, 4).tobytes() == wander(PushTEnv(), 4).tobytes()
    assert not np.array_equal(first[0], wander(env, 6, steps=0)[0])
    assert np.abs(first[-1, 4:] - first[0, 4:]).max() > 5  # the T was pushed


def test_scenes_are_those_that_gym_pusht_makes_of_the_seed(env):
    theirs, _ = make_gym_env().reset(seed=eval_seed(3))
    env.reset_scene(eval_seed(3))
    tip, pose = env.configuration[:2], env.configuration[4:]
    np.testing.assert_array_equal(tip, theirs[:2])
    np.testing.assert_allclose(np.append(pose[:2], pose[2] % (2 * math.pi)), theirs[2:], rtol=0, atol=1e-12)


def test_the_features_name_what_is_observed(env):
    obs = env.observe()
    assert obs.state.shape == (len(env.features.state),) == (len(env.features.action),)
    assert obs.environment_state.shape == (len(env.features.environment_state),) == (16,)
    assert task_features(PushTTask()) == env.features == make_env(PushTTask()).features
    assert env.features.rate_hz == 1 / env.dt_s == make_gym_env().control_hz
    assert isinstance(env, EvaluationEnv)


def test_the_corners_are_those_of_gym_pushts_shapes(env):
    env.reset_scene(train_seed(1))
    gym = env._gym
    theirs = {tuple(point) for point in gym.get_keypoints(gym._block_shapes).round(6).tolist()}
    assert {tuple(point) for point in corners(env.configuration[4:]).round(6).tolist()} == theirs
    assert len(theirs) == len(OUTLINE)
    assert tuple(gym.goal_pose) == GOAL


def near_goal(env, along):
    """Put the T a few pixels before its goal, and the tip behind it."""
    env.reset_scene(0)
    gym, axis = env._gym, np.array([-math.sin(GOAL[2]), math.cos(GOAL[2])])  # along the stem
    gym.block.angle, gym.block.position = GOAL[2], tuple(np.array(GOAL[:2]) - along * axis)
    tip = np.array(GOAL[:2]) - (along + 30) * axis
    gym.agent.position = tuple(tip)
    return tip, axis


def test_success_is_gym_pushts_own(env):
    tip, axis = near_goal(env, along=9.0)
    coverages, wins = [], []
    original = env._gym.step

    def step(action):
        outcome = original(action)
        coverages.append(outcome[-1]["coverage"])
        wins.append(outcome[2] and outcome[-1]["is_success"])
        return outcome

    env._gym.step = step
    while not env.over:
        assert not env.success
        assert env.failure() == "TIMEOUT"
        tip = tip + 4 * axis
        env.apply(tip)
    assert env.success
    assert wins == [False] * (len(wins) - 1) + [True]
    assert env.first_success_s == env.t_s == pytest.approx(len(wins) * 0.1)
    assert env.score == max(coverages) > 0.95
    assert env.failure() == ""


def test_an_episode_of_a_tip_at_rest_ends_at_the_horizon(env):
    env.reset_scene(0)
    steps = 0
    while not env.over:
        env.apply(env.observe().state)
        steps += 1
    assert (steps, env.success, env.failure()) == (300, False, "TIMEOUT")
    assert math.isnan(env.first_success_s)


@pytest.mark.parametrize("action", [[np.nan, 100.0], [np.inf, 1.0], [1.0, 2.0, 3.0], [1.0]])
def test_a_bad_action_is_refused_before_anything_moves(env, action):
    before = env.configuration
    with pytest.raises(InvalidAction, match="2 finite numbers"):
        env.apply(np.array(action))
    np.testing.assert_array_equal(env.configuration, before)
    assert env.t_s == 0


def test_commands_stay_on_the_table(env):
    assert env.apply(np.array([-40.0, 900.0])).tolist() == [0.0, 512.0]


def test_a_picture_shows_the_tip_where_it_is_and_leaves_the_episode_alone(env):
    before = env.configuration
    shown = np.array([100.0, 400.0, 0, 0, 300.0, 150.0, 0.3])
    picture = env.frame(shown, 128, 128)
    assert picture.shape == (128, 128, 3)
    red, _, blue = picture[100, 25].astype(int)
    assert blue > red + 50
    np.testing.assert_array_equal(env.configuration, before)


def test_an_unknown_camera_is_named():
    with pytest.raises(UnknownName, match="unknown camera 'front'"):
        pusht_camera([("front", 96, 96)])


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(pusht.importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"'gym-pusht' is not installed: run  pip install 'robostack\[bench\]'"):
        PushTEnv()
