"""A task's scene, proven before anyone works with it: it compiles, stands still and is within reach."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from robostack.errors import DeviceUnavailable, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.render import SceneRenderer
from robostack.sim.rotation import rot6d
from robostack.sim.scene import Scene, train_seed
from robostack.task.spec import TaskSpec

_SEEDS, _NEEDED = 8, 7


@dataclass(frozen=True)
class SceneReport:
    """Outcome of a scene check: start states tried and found, and the size of the model."""

    seeds: int
    ok: int
    degrees_of_freedom: int
    geoms: int


def check_scene(spec: TaskSpec, *, seed: int = 0) -> SceneReport:
    """Compile and settle the scene of 8 seeds; raises the last SceneError when more than one of them fails."""
    scene, failure, ok = Scene(spec), SceneError("UNSTABLE", "no seed was tried"), 0
    for index in range(_SEEDS):
        try:
            scene.reset(train_seed(seed + index))
            ok += 1
        except SceneError as error:
            failure = error
    if ok < _NEEDED:
        raise failure
    return SceneReport(_SEEDS, ok, int(scene.model.nv), int(scene.model.ngeom))


def control_steps_per_s(spec: TaskSpec, *, seconds: float = 2.0) -> float:
    """Control steps per second of wall time on one core: controller, physics, predicates and observation together.

    The arm moves on a circle above the table throughout; no policy is involved.
    """
    env = TaskEnv(spec)
    env.reset(seed=0)
    pos, rot = env.scene.tcp()
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        if steps % 100 == 0:
            env.reset(seed=0)
        angle = 0.06 * steps
        offset = 0.08 * env.scene.card.object_scale * np.array([np.cos(angle), np.sin(angle), 0.0])
        if spec.robot.control_mode == "ee_pose":
            action = np.concatenate([pos + offset, rot6d(rot), [1.0]])
        else:
            action = np.append(env.scene.ik.home + 0.1 * np.sin(angle), 1.0)
        env.step(action)
        steps += 1
    return steps / elapsed


def frame_ms(spec: TaskSpec, *, size: int = 96, frames: int = 100) -> float | None:
    """Mean time of one fast square camera frame [ms]; None where nothing can be rendered."""
    scene = Scene(spec)
    scene.reset(train_seed(0))
    try:
        renderer = SceneRenderer(scene.model, size, size)
    except DeviceUnavailable:
        return None
    renderer.frame(scene.data, "front")
    start = time.perf_counter()
    for _ in range(frames):
        renderer.frame(scene.data, "front")
    elapsed = time.perf_counter() - start
    renderer.close()
    return 1e3 * elapsed / frames
