"""Progress of the shipped tasks under the expert, and the dense reward of the environment."""

import dataclasses

import numpy as np
import pytest

from robostack.errors import DataError, UnknownName
from robostack.paths import data_dirs
from robostack.sim.env import TaskEnv
from robostack.sim.progress_report import progress_report, spearman
from robostack.sim.rotation import rot6d
from robostack.task.reward import GAMMA
from robostack.task.spec import TaskSpec
from simgen.experts.expert import Expert

TASKS = data_dirs()[-1] / "presets"
EVERY = sorted(f"{path.parent.name}/{path.stem}" for path in TASKS.glob("*/*.json"))
QUICK = ("push_to_region/so101",)


def demos(env, count):
    expert, episodes, seed = Expert(env), [], 0
    while len(episodes) < count:
        episode, code = expert.solve(2 * seed)
        seed += 1
        assert seed < 2 * count, code
        episodes += [episode] if episode.success else []
    return episodes


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow, id=n) for n in EVERY])
def test_progress_of_a_shipped_task_is_fit_to_learn_from(name):
    env = TaskEnv(TASKS / f"{name}.json")
    count = 6 if name in QUICK else 16
    report = progress_report(env, demos(env, count))
    assert report.failures() == ()
    assert len(report.rho) == count
    assert min(report.rho) > 0.85
    assert max(report.start) == 0.0


@pytest.fixture(scope="module")
def env():
    return TaskEnv(TASKS / "put_in_bowl/panda.json", reward="dense")


@pytest.fixture(scope="module")
def episode(env):
    return demos(env, 1)[0]


def test_the_report_is_a_function_of_its_arguments(env, episode):
    one = progress_report(env, [episode], states=64)
    assert one == progress_report(env, [episode], states=64)
    assert one.std != progress_report(env, [episode], states=64, seed=1).std


def test_a_report_says_what_fails(env, episode):
    report = progress_report(env, [episode], states=64)
    reversed_time = dataclasses.replace(report, rho=(-1.0,), end=(0.2,), start=(0.3,), idle=(0.5,), finite=False)
    constant = dataclasses.replace(reversed_time, bounded=False, std=(0.0,) * len(report.std))
    assert [f[:2] for f in constant.failures()] == ["P1", "P2", "P3", "P4", "P5", "P5", "P6"]


def test_an_episode_of_another_task_is_refused(env, episode):
    for episodes in ([], [dataclasses.replace(episode, task_id="0" * 16)]):
        with pytest.raises(DataError, match="needs episodes of this very task"):
            progress_report(env, episodes)


def test_dense_rewards_telescope_to_the_sparse_ones_and_the_last_potential(env, episode):
    env.reset_scene(episode.seed)
    dense, sparse, total = [], [], 0.0
    for k, action in enumerate(episode.action):
        _, reward, terminated, _, info = env.step(action)
        dense.append(reward)
        sparse.append(float(env.monitor.holding))
        total += GAMMA**k * (reward - sparse[-1])
        assert 0.0 <= info["progress"] <= 1.0
        if terminated:
            break
    assert info["success"]
    assert info["progress"] == 1.0
    assert total == pytest.approx(0.0, abs=1e-9)  # terminal, and progress was 0 at reset
    assert max(dense) > 0.5
    assert np.isfinite(dense).all()


def test_the_reward_is_sparse_unless_asked_otherwise(env):
    plain = TaskEnv(TASKS / "put_in_bowl/panda.json")
    pos, rot = plain.scene.ik.forward(plain.scene.ik.home)
    action = np.concatenate([pos, rot6d(rot), [1.0]]).astype(np.float32)
    plain.reset(seed=3)
    _, reward, _, _, info = plain.step(action)
    assert reward == 0.0
    assert "progress" not in info
    env.reset(seed=3)
    action[:3] = env.scene.world.pos(env.task.manipulands()[0].id) + [0, 0, 0.1]
    rewards = [env.step(action)[1] for _ in range(10)]
    assert sum(rewards) > 0.05


def test_an_unknown_reward_is_refused():
    with pytest.raises(UnknownName, match="unknown reward 'densse': did you mean 'dense'"):
        TaskEnv(TaskSpec.load(TASKS / "put_in_bowl/panda.json"), reward="densse")


def test_rank_correlation_knows_ties_and_direction():
    x = np.arange(5.0)
    assert spearman(x, np.array([1.0, 4.0, 9.0, 16.0, 25.0])) == pytest.approx(1.0)
    assert spearman(x, -(x**3)) == pytest.approx(-1.0)
    assert spearman(x, np.zeros(5)) == 0.0
    assert spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 2.0, 2.0])) == pytest.approx(0.894427191)
