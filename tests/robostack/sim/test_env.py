import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robostack.errors import MissingExtra, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.render import SceneRenderer
from robostack.sim.replay import episode_frames, replays_exactly
from robostack.sim.rotation import rot6d
from robostack.sim.scene import Scene, eval_seed
from robostack.task.predicate import atom
from robostack.task.spec import TaskSpec
from simgen.experts.expert import Expert
from simgen.propose import propose

ROOT = Path(__file__).resolve().parents[3]
SPEC = propose("put the red cube in the bowl", "panda")
SEED = eval_seed(4321)


@pytest.fixture(scope="module")
def episode():
    episode, code = Expert(TaskEnv(SPEC)).solve(SEED)
    assert code == ""
    return episode


def rest_action(env):
    pos, rot = env.scene.ik.forward(env.scene.ik.home)
    return np.concatenate([pos, rot6d(rot), [1.0]]).astype(np.float32)


def drive(env, actions):
    rows = []
    for action in actions:
        rows.append(env.step(action))
        if rows[-1][2] or rows[-1][3]:
            break
    return rows


def test_an_episode_is_truncated_at_the_horizon():
    env = TaskEnv(SPEC.model_copy(update={"horizon_s": 1.0}))
    env.reset(seed=0)
    rows = drive(env, [rest_action(env)] * 50)
    assert len(rows) == env.horizon == 20
    assert [row[3] for row in rows] == [False] * 19 + [True]
    assert not any(row[2] for row in rows)
    assert rows[-1][4]["failure"] == "NOT_REACHED"
    assert env.over


def test_even_the_shortest_horizon_has_one_step():
    env = TaskEnv(SPEC.model_copy(update={"horizon_s": 0.001}))
    episode, code = Expert(env).solve(SEED)
    assert len(episode) == env.horizon == 1
    assert code == "TIMEOUT"


def test_an_episode_ends_one_second_after_success(episode):
    env = TaskEnv(SPEC)
    env.reset_scene(SEED)
    rows = drive(env, episode.action)
    rewards = [row[1] for row in rows]
    first = rewards.index(1.0)
    assert rows[-1][2]
    assert not rows[-1][3]
    assert len(rows) - 1 - first == round(1.0 / env.dt_s)
    assert rows[-1][4] == {"success": True, "first_success_s": pytest.approx((first + 1) * env.dt_s)}
    assert all("first_success_s" not in row[4] and not row[4]["success"] for row in rows[:first])


def test_a_forbidden_event_ends_the_episode_as_a_failure(episode):
    env = TaskEnv(SPEC.model_copy(update={"never": (atom("moved", "red_cube", 0.05),)}))
    env.reset_scene(SEED)
    rows = drive(env, episode.action)
    assert rows[-1][2]
    assert len(rows) < len(episode)
    assert rows[-1][4]["success"] is False
    assert rows[-1][4]["failure"].startswith("NEVER_VIOLATED")


def test_the_expert_reports_a_forbidden_event_by_its_own_code():
    env = TaskEnv(SPEC.model_copy(update={"never": (atom("moved", "red_cube", 0.05),)}))
    episode, code = Expert(env).solve(SEED)
    assert code.startswith("NEVER_VIOLATED")
    assert not episode.success


def test_observations_are_float32_and_finite():
    env = TaskEnv(SPEC)
    obs, _ = env.reset(seed=0)
    after, *_ = env.step(rest_action(env))
    for value in (*obs.values(), *after.values()):
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
    assert (obs["state"].shape, obs["environment_state"].shape) == ((10,), (18,))


def test_an_unseeded_reset_draws_a_new_scene_and_reports_its_seed():
    env = TaskEnv(SPEC)
    env.reset(seed=0)
    (a, info_a), (b, info_b) = env.reset(), env.reset()
    assert info_a["seed"] != info_b["seed"]
    assert np.abs(a["environment_state"] - b["environment_state"]).max() > 1e-3
    again, _ = env.reset(seed=info_a["seed"])
    assert np.array_equal(again["environment_state"], a["environment_state"])


def test_an_episode_replays_to_the_last_bit_in_a_fresh_process(episode, tmp_path):
    np.savez(tmp_path / "episode.npz", ctrl=episode.ctrl, state0=episode.state0)
    (tmp_path / "task.json").write_text(SPEC.to_json())
    script = """
import sys, json, numpy as np
from robostack.sim.scene import Scene, state_sha
from robostack.task.spec import TaskSpec
folder, seed = sys.argv[1], int(sys.argv[2])
scene, stored = Scene(TaskSpec.load(folder + "/task.json")), np.load(folder + "/episode.npz")
scene.reset(seed)
same = bool(np.array_equal(scene.get_state(), stored["state0"]))
for ctrl in stored["ctrl"]:
    scene.step(ctrl)
sys.stdout.write(json.dumps([same, state_sha(scene.get_state())]))
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(SEED)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, episode.final_sha]


def test_a_replay_notices_any_change(episode):
    scene = Scene(SPEC)
    assert replays_exactly(scene, episode)
    ctrl = episode.ctrl.copy()
    ctrl[10, 0] += 1e-6
    assert not replays_exactly(scene, replace(episode, ctrl=ctrl))
    state0 = episode.state0.copy()
    state0[1] += 1e-12
    assert not replays_exactly(scene, replace(episode, state0=state0))
    assert not replays_exactly(scene, replace(episode, seed=episode.seed + 2))
    assert replays_exactly(scene, episode)


# Pictures.


@pytest.fixture(scope="module")
def renderer():
    scene = Scene(SPEC)
    try:
        renderer = SceneRenderer(scene.model, 96, 96)
    except MissingExtra as error:
        pytest.skip(str(error))
    yield scene, renderer
    renderer.close()


@pytest.mark.parametrize("camera", ["front", "overhead"])
def test_a_frame_shows_the_scene(renderer, camera):
    scene, pictures = renderer
    scene.reset(SEED)
    frame = pictures.frame(scene.data, camera)
    assert (frame.shape, frame.dtype) == ((96, 96, 3), np.uint8)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 200
    r, g, b = frame.astype(int).transpose(2, 0, 1)
    red, blue = (r > 90) & (r > 2 * g) & (r > 2 * b), (b > 60) & (b > 1.5 * r)
    assert red.sum() >= 4  # the cube
    assert blue.sum() > red.sum()  # the bowl is larger


def test_frames_follow_the_state(renderer):
    scene, pictures = renderer
    scene.reset(SEED)
    first = pictures.frame(scene.data, "front")
    kept = first.copy()
    scene.reset(SEED + 2)
    assert np.abs(pictures.frame(scene.data, "front").astype(int) - kept).max() > 50
    assert np.array_equal(first, kept)
    scene.reset(SEED)
    assert np.array_equal(pictures.frame(scene.data, "front"), kept)


def test_frames_of_an_episode_come_from_its_positions(renderer, episode):
    scene, pictures = renderer
    frames = episode_frames(scene, episode.seed, episode.qpos, pictures, every=50)
    rows = len(episode.qpos)
    assert len(frames) == len(range(0, rows, 50)) + bool((rows - 1) % 50)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50


def test_cameras_are_part_of_the_observation(renderer):
    env = TaskEnv(SPEC, cameras=[("front", 96, 96), ("overhead", 48, 64)], render_mode="rgb_array", width=64, height=48)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert obs["pixels"]["front"].shape == (96, 96, 3)
    assert obs["pixels"]["overhead"].shape == (48, 64, 3)
    assert env.features.cameras == (("front", 96, 96), ("overhead", 48, 64))
    assert env.observe().images["front"].std() > 10
    assert env.render().shape == (48, 64, 3)
    env.close()
    env.close()
    assert env.reset(seed=0)[0]["pixels"]["front"].std() > 10
    env.close()


def test_rendering_needs_no_setting_on_a_machine_without_a_display(renderer):
    script = """
import mujoco, sys
from robostack.sim.render import SceneRenderer
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 2'/><camera name='c' pos='0 0 2'/><geom size='.3'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
sys.stdout.write(str(float(SceneRenderer(model, 32, 32).frame(data, "c").std())))
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "PYOPENGL_PLATFORM")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 10


def test_a_scene_that_cannot_be_built_names_the_task():
    broken = SPEC.model_copy(update={"goal": atom("on", "red_cube", "table")})
    with pytest.raises(SceneError, match=SPEC.name):
        TaskEnv(TaskSpec.from_json(broken.to_json())).reset(seed=0)
