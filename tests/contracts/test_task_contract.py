"""What every shipped task keeps on every robot, and what Gymnasium expects of an environment."""

import itertools
import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import robostack.sim
from robostack.data.atomic import write_atomic
from robostack.errors import UnknownName
from robostack.paths import data_dirs
from robostack.sim.env import TaskEnv
from robostack.sim.rotation import rot6d
from robostack.sim.scene import eval_seed, train_seed
from robostack.task.evaluate import margin
from robostack.task.spec import TaskSpec
from robostack.types import Observation
from simgen import shipped

TASKS = data_dirs()[-1] / "presets"
FILES = sorted(f"{path.parent.name}/{path.stem}" for path in TASKS.glob("*/*.json"))
IDS = [f"robostack/{name}-v0" for name in robostack.sim.FAMILIES]


@pytest.fixture(scope="module", params=FILES)
def env(request):
    env = TaskEnv(TASKS / f"{request.param}.json")
    yield env
    env.close()


def hold_still(env, seconds):
    pos, rot = env.scene.ik.forward(env.scene.ik.home)
    action = np.concatenate([pos, rot6d(rot), [1.0]]).astype(np.float32)
    return [env.step(action) for _ in range(round(seconds / env.dt_s))]


def state_bytes(env, scene_seed):
    env.reset_scene(scene_seed)
    return env.scene.get_state().tobytes()


def test_seven_tasks_are_shipped_for_each_of_three_robots():
    assert len(FILES) == 21
    assert {f.split("/")[0] for f in FILES} == set(robostack.sim.FAMILIES.values()) == set(shipped.SENTENCES)


def test_the_shipped_files_are_what_the_grammar_makes_now():
    made = shipped.specifications()
    assert {f"{name}.json" for name in FILES} == set(made)
    stale = [name for name, text in made.items() if (TASKS / name).read_text() != text]
    assert not stale, f"run  python -m simgen.shipped : {stale}"


def test_observations_match_the_spaces(env):
    first, info = env.reset(seed=1)
    rows = [first, *(row[0] for row in hold_still(env, 0.3))]
    for obs in rows:
        assert env.observation_space.contains(obs)
        assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in obs.values())
    assert info["language"] == env.task.instruction.text
    assert len(env.features.environment_state) == 9 * len(env.task.entities)
    assert env.action_space.shape == (len(env.features.action),)


def test_a_seed_gives_the_same_bits_whatever_happened_before(env):
    fresh = state_bytes(env, 7)
    env.reset_scene(3)
    rng = np.random.default_rng(0)
    for _ in range(10):
        env.step(rng.uniform(env.action_space.low, env.action_space.high))
    assert state_bytes(env, 7) == fresh
    after = [row[0]["state"].tobytes() for row in hold_still(env, 0.2)]
    env.reset_scene(7)
    assert [row[0]["state"].tobytes() for row in hold_still(env, 0.2)] == after


def test_different_seeds_start_differently_and_the_namespaces_are_apart(env):
    starts = [
        env.reset(seed=s, options={"split": split})[0]["environment_state"]
        for split in ("train", "eval")
        for s in (0, 1)
    ]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in itertools.combinations(starts, 2))
    env.reset(seed=4)
    assert env.scene.get_state().tobytes() == state_bytes(env, train_seed(4))
    env.reset(seed=4, options={"split": "eval"})
    assert env.scene.get_state().tobytes() == state_bytes(env, eval_seed(4))


def test_training_and_evaluation_seeds_are_disjoint():
    indices = range(5000)
    assert not {train_seed(i) for i in indices} & {eval_seed(i) for i in indices}
    assert len({train_seed(i) for i in indices}) == len({eval_seed(i) for i in indices}) == 5000


def test_consecutive_observations_share_no_memory(env):
    before, _ = env.reset(seed=2)
    kept = {name: value.copy() for name, value in before.items()}
    typed = env.observe()
    (after, *_), *_ = hold_still(env, env.dt_s)
    for name in before:
        assert not np.shares_memory(before[name], after[name])
        assert np.array_equal(before[name], kept[name])
    assert isinstance(typed, Observation)
    assert not np.shares_memory(typed.state, env.observe().state)


def test_the_goal_is_false_at_reset_and_after_two_seconds_of_holding_still(env):
    for seed in (0, 1):
        env.reset(seed=seed)
        assert margin(env.task.goal, env.scene.world) < 0
        rows = hold_still(env, 2.0)
        assert margin(env.task.goal, env.scene.world) < 0
        assert not any(reward or terminated or info["success"] for _, reward, terminated, _, info in rows)
        assert not env.monitor.violated


def test_nothing_penetrates_at_reset(env):
    for seed in (0, 1, 2):
        env.reset(seed=seed)
        depth = -env.scene.data.contact.dist.min() if env.scene.data.ncon else 0.0
        assert depth < 1e-3


def test_every_entity_is_a_body_of_the_scene(env):
    env.reset(seed=0)
    for entity in env.task.entities:
        binding = env.scene.world.entities[entity.id]
        assert env.scene.model.body(binding.body).name == entity.id
        assert (binding.card, binding.color, binding.role) == (entity.card, entity.color, entity.role)
        assert f"{entity.id}.x" in env.features.environment_state
        assert (binding.dof >= 0) == (entity.role != "zone")


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_accepts_the_environment(env_id):
    env = gymnasium.make(env_id)
    with warnings.catch_warnings():
        # Positions are unbounded metres and actions are absolute poses: both are meant, and documented.
        warnings.filterwarnings("ignore", message=r".*A Box observation space m(in|ax)imum value is -?infinity")
        warnings.filterwarnings(
            "ignore", message=r".*For Box action spaces, we recommend using a symmetric and normalized"
        )
        check_env(env.unwrapped, skip_render_check=True)
    assert env.spec.id == env_id
    assert isinstance(env.unwrapped.task, TaskSpec)
    env.close()


def test_vectorised_environments_step_together():
    envs = gymnasium.make_vec(IDS[0], num_envs=2, vectorization_mode="sync")
    obs, _ = envs.reset(seed=[5, 6])
    assert obs["state"].shape == (2, 10)
    assert not np.array_equal(obs["environment_state"][0], obs["environment_state"][1])
    obs, reward, *_ = envs.step(envs.action_space.sample())
    assert np.isfinite(obs["environment_state"]).all()
    assert reward.shape == (2,)
    envs.close()


def test_another_robot_is_an_argument_and_an_unknown_one_is_refused():
    assert gymnasium.make(IDS[0], robot="ur5e").unwrapped.task.robot.name == "ur5e"
    with pytest.raises(UnknownName, match="did you mean 'panda'.*so101.*ur5e"):
        gymnasium.make(IDS[0], robot="pandas")


def test_any_task_file_is_an_environment(tmp_path):
    spec = TaskSpec.load(TASKS / "stack_two/panda.json")
    write_atomic(tmp_path / "task.json", spec.to_json().encode())
    env = gymnasium.make("robostack/Task-v0", spec=str(tmp_path / "task.json"))
    assert env.unwrapped.task == spec
    assert json.loads(spec.to_json())["family"] == env.unwrapped.task.family
