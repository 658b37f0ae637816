"""Experts solve unseen scenes through the actuators alone, and what they hold does not slip."""

import json
from collections import Counter

import numpy as np
import pytest

from robostack.errors import SceneError
from robostack.paths import data_dirs
from robostack.sim.cards import robots
from robostack.sim.env import TaskEnv
from robostack.sim.replay import replays_exactly
from robostack.sim.scene import Scene, eval_seed, state_sha
from robostack.task.spec import TaskSpec
from simgen.experts.expert import Expert
from simgen.experts.motion import Pose
from simgen.experts.skills import Code, Skills
from simgen.shipped import SENTENCES

UNSEEN = 900_000  # first evaluation seed of these tests
OTHERS = [("ur5e", "put_on_plate"), ("so101", "put_in_bowl")]


def spec_of(task, robot, **changes):
    return TaskSpec.load(data_dirs()[-1] / f"presets/{task}/{robot}.json").model_copy(update=changes)


@pytest.mark.parametrize(("robot", "task"), [*(("panda", task) for task in SENTENCES), *OTHERS])
def test_the_expert_solves_unseen_scenes(robot, task):
    expert = Expert(TaskEnv(spec_of(task, robot)))
    for index in range(2):
        episode, code = expert.solve(eval_seed(UNSEEN + index))
        assert code == "", expert.log
        assert episode.success
        assert episode.first_success_s + 1.0 == pytest.approx(len(episode) * expert.env.dt_s)
        assert episode.task_id == expert.env.task.id


@pytest.mark.slow
@pytest.mark.parametrize("robot", robots())
def test_the_expert_solves_nearly_all_unseen_scenes(robot):
    n, least, table = 64, {"panda": 0.95}.get(robot, 0.85), {}
    for task in SENTENCES:
        expert, codes = Expert(TaskEnv(spec_of(task, robot))), Counter()
        for index in range(n):
            try:
                codes[expert.solve(eval_seed(UNSEEN + index))[1]] += 1
            except SceneError as error:
                codes[error.code] += 1
        table[task] = {"solved": codes.pop("", 0), "of": n, **codes}
    assert all(row["solved"] >= least * n for row in table.values()), json.dumps(table, indent=1)


@pytest.fixture(scope="module", params=[("panda", "stack_two"), ("ur5e", "push_to_region"), ("so101", "put_in_bowl")])
def solved(request):
    robot, task = request.param
    env = TaskEnv(spec_of(task, robot))
    episode, code = Expert(env).solve(eval_seed(UNSEEN))
    assert code == ""
    return env, episode


def test_the_recorded_controls_alone_lead_to_the_final_state(solved):
    env, episode = solved
    scene = Scene(env.task)
    assert replays_exactly(scene, episode)
    scene.set_state(episode.state0)
    for ctrl, qpos in zip(episode.ctrl, episode.qpos, strict=True):
        assert np.array_equal(scene.data.qpos, qpos)
        scene.step(ctrl)
    assert state_sha(scene.get_state()) == episode.final_sha


def test_the_recorded_actions_give_the_same_episode_in_the_environment(solved):
    env, episode = solved
    env.reset_scene(episode.seed)
    assert np.array_equal(env.scene.get_state(), episode.state0)
    observation = env.observe()
    for k, action in enumerate(episode.action):
        assert np.array_equal(observation.state, episode.state[k])
        assert np.array_equal(observation.environment_state, episode.environment_state[k])
        obs, _, terminated, truncated, info = env.step(action)
        assert (terminated or truncated) == (k == len(episode) - 1)
        observation = env.observe()
        assert np.array_equal(obs["state"], observation.state)
    assert info["success"]
    assert state_sha(env.scene.get_state()) == episode.final_sha


def test_an_episode_is_a_function_of_its_seed(solved):
    env, episode = solved
    expert = Expert(env)
    expert.solve(eval_seed(UNSEEN + 7))
    again, _ = expert.solve(episode.seed)
    assert again.final_sha == episode.final_sha
    assert np.array_equal(again.action, episode.action)


def test_recorded_actions_stay_in_the_action_space(solved):
    env, episode = solved
    assert episode.action.dtype == np.float32
    assert all(env.action_space.contains(action) for action in episode.action)


def test_the_expert_also_drives_joints():
    spec = spec_of("put_in_bowl", "panda")
    spec = spec.model_copy(update={"robot": spec.robot.model_copy(update={"control_mode": "joint_pos"})})
    expert = Expert(TaskEnv(spec))
    episode, code = expert.solve(eval_seed(UNSEEN))
    assert code == "", expert.log
    assert episode.action.shape[1] == 8
    assert replays_exactly(Scene(spec), episode)


def test_an_expert_without_time_reports_it():
    episode, code = Expert(TaskEnv(spec_of("put_in_bowl", "panda", horizon_s=2.0))).solve(eval_seed(UNSEEN))
    assert code == "TIMEOUT"
    assert not episode.success
    assert len(episode) == 40
    assert np.isnan(episode.first_success_s)


def test_an_object_taken_away_is_a_missed_grasp():
    env = TaskEnv(spec_of("put_in_bowl", "panda"))
    env.reset_scene(eval_seed(UNSEEN))
    skills = Skills(env)
    grip = skills.grip

    def vanish(opening, seconds):
        env.scene.data.joint("red_cube_free").qpos[:3] = [0.0, 0.6, 0.02]
        grip(opening, seconds)

    skills.grip = vanish
    assert skills.pick("red_cube").code is Code.GRASP_MISS


# Grasps.

PEAK, HZ = 1.0, 1.0  # of the shaking [m/s^2, Hz]


def pose_in_hand(env, entity):
    pos, rot = env.scene.tcp()
    return rot.T @ (env.scene.world.pos(entity) - pos), rot.T @ env.scene.world.rot(entity)


def shake(env, skills, axis):
    """Largest slip [m] and turn [rad] of the cube in the hand while the tool is shaken for 3 s along one axis."""
    pos, rot = pose_in_hand(env, "red_cube")
    base, amplitude, slip, turn = skills.pose, PEAK / (2 * np.pi * HZ) ** 2, 0.0, 0.0
    for k in range(1, round(3.0 / env.dt_s) + 1):
        shift = np.zeros(3)
        shift[axis] = amplitude * np.sin(2 * np.pi * HZ * k * env.dt_s)
        skills._send(Pose(base.pos + shift, base.yaw), skills.opening)
        p, r = pose_in_hand(env, "red_cube")
        slip = max(slip, float(np.linalg.norm(p - pos)))
        turn = max(turn, float(np.arccos(np.clip((np.trace(rot.T @ r) - 1) / 2, -1, 1))))
    skills.follow([base])
    return slip, turn


@pytest.mark.parametrize("robot", robots())
@pytest.mark.parametrize("index", [0, 4])
def test_a_grasped_cube_does_not_slip_when_shaken(robot, index):
    env = TaskEnv(spec_of("put_in_bowl", robot, horizon_s=60.0, never=()))
    env.reset_scene(eval_seed(UNSEEN + index))
    skills = Skills(env)
    assert skills.pick("red_cube").ok
    assert skills.home().ok  # high enough that the shaken cube touches nothing else
    skills.wait(0.5)
    results = [shake(env, skills, axis) for axis in range(3)]
    assert all(slip < 2e-3 and turn < np.deg2rad(2) for slip, turn in results), results
    assert env.scene.world.pos("red_cube")[2] > 0.05 * env.scene.card.object_scale  # still carried


@pytest.mark.parametrize("robot", robots())
def test_a_grasped_cube_stays_through_ten_seconds_of_stillness(robot):
    env = TaskEnv(spec_of("put_in_bowl", robot, horizon_s=60.0, never=()))
    env.reset_scene(eval_seed(UNSEEN + 1))
    skills = Skills(env)
    assert skills.pick("red_cube").ok
    skills.wait(0.5)
    pos, rot = pose_in_hand(env, "red_cube")
    skills.wait(10.0)
    after, turned = pose_in_hand(env, "red_cube")
    assert np.linalg.norm(after - pos) < 1e-3
    assert np.trace(rot.T @ turned) > 1 + 2 * np.cos(np.deg2rad(1))


def test_the_survey_counts_every_episode(monkeypatch, capsys):
    from simgen.experts import survey

    codes = survey.survey("stack_two", "panda", 2)
    assert sum(codes.values()) == 2
    monkeypatch.setattr(survey, "SENTENCES", {"stack_two": ""})
    monkeypatch.setattr(survey, "robots", lambda: ("panda",))
    survey.main(2)
    assert f"stack_two       panda    {codes['']}/2  Wilson low" in capsys.readouterr().out
