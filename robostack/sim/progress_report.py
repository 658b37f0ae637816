"""Acceptance of a task's derived progress on recorded episodes, random states and idleness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.errors import DataError
from robostack.sim.env import TaskEnv
from robostack.sim.rotation import rot6d
from robostack.task.progress import Progress
from robostack.types import Episode

LEAST_STD, LEAST_RHO, LEAST_END, MOST_START, MOST_IDLE = 1e-3, 0.9, 0.9, 0.1, 0.02
IDLE_S = 2.0
REACH_M = 0.1  # how far beyond the workspace random states go, and
CEILING_M = 0.4  # how high


@dataclass(frozen=True)
class ProgressReport:
    """Figures behind the acceptance tests P1 to P6.

    Attributes:
        names: of the components.
        finite: P1, everything was finite in all random states.
        bounded: P2, progress and components stayed in [0, 1] in random and recorded states.
        std: P3, standard deviation of every component over random and recorded states.
        rho: P4, per episode Spearman's rank correlation of progress with time, up to the first held success.
        start, end: P5, progress at reset and at the end of each episode.
        idle: P6, largest progress [absolute] of a robot that holds still for 2 s, per reset.
    """

    names: tuple[str, ...]
    finite: bool
    bounded: bool
    std: tuple[float, ...]
    rho: tuple[float, ...]
    start: tuple[float, ...]
    end: tuple[float, ...]
    idle: tuple[float, ...]

    def failures(self) -> tuple[str, ...]:
        """The tests that fail, each with its figure; empty when progress is fit to learn from."""
        constant = [n for n, std in zip(self.names, self.std, strict=True) if not std > LEAST_STD]
        checks = (
            (self.finite, "P1: not finite in every state"),
            (self.bounded, "P2: outside [0, 1]"),
            (not constant, f"P3: constant components {constant}"),
            (float(np.mean(self.rho)) >= LEAST_RHO, f"P4: mean rank correlation with time {np.mean(self.rho):.2f}"),
            (max(self.start) <= MOST_START, f"P5: progress {max(self.start):.2f} at reset"),
            (min(self.end) >= LEAST_END, f"P5: progress {min(self.end):.2f} at the end"),
            (max(self.idle) < MOST_IDLE, f"P6: progress {max(self.idle):.3f} without doing anything"),
        )
        return tuple(message for passed, message in checks if not passed)


def progress_report(
    env: TaskEnv, episodes: Sequence[Episode], *, states: int = 1024, seed: int = 0, idle_resets: int = 4
) -> ProgressReport:
    """Judge the derived progress of ``env``'s task; the environment is left at a reset.

    Args:
        env: of the task, with any reward.
        episodes: successful ones of that task; their recorded positions are looked at, nothing is replayed.
        states: number of random states: arm, free objects and joints anywhere.
        seed: of the random states.
        idle_resets: on the seeds of how many episodes the robot holds still.

    Raises:
        DataError: there is no episode, or one is of another task.
    """
    if not episodes or any(e.task_id != env.task.id for e in episodes):
        raise DataError(f"progress of '{env.task.name}' needs episodes of this very task ({env.task.id})")
    progress = Progress(env.task, env.scene.world)
    recorded = [_watch(env, progress, episode) for episode in episodes]
    env.reset_scene(episodes[0].seed)
    progress.reset()
    scattered = np.array([_row(progress) for _ in _random_states(env, states, seed)])
    rows = np.concatenate([*recorded, scattered])
    return ProgressReport(
        names=progress.names,
        finite=bool(np.isfinite(scattered).all()),
        bounded=bool(((rows >= 0.0) & (rows <= 1.0)).all()),
        std=tuple(rows[:, 1:].std(axis=0).tolist()),
        rho=tuple(_rho(env, e, values) for e, values in zip(episodes, recorded, strict=True)),
        start=tuple(float(values[0, 0]) for values in recorded),
        end=tuple(float(values[-1, 0]) for values in recorded),
        idle=tuple(_idle(env, progress, e.seed) for e in episodes[:idle_resets]),
    )


def _row(progress: Progress) -> Float[np.ndarray, " K1"]:
    return np.concatenate([[progress.update()], progress.components])


def _watch(env: TaskEnv, progress: Progress, episode: Episode) -> Float[np.ndarray, "T K1"]:
    """Progress and its components along a recorded episode."""
    scene = env.scene
    env.reset_scene(episode.seed)
    progress.reset()
    rows = []
    for qpos in episode.qpos:
        scene.data.qpos[:], scene.data.qvel[:] = qpos, 0.0
        mujoco.mj_forward(scene.model, scene.data)
        rows.append(_row(progress))
    return np.stack(rows)


def _rho(env: TaskEnv, episode: Episode, values: Float[np.ndarray, "T K1"]) -> float:
    """Rank correlation until the goal was first held; after that there is nothing left to gain."""
    steps = len(values)
    if np.isfinite(episode.first_success_s):
        steps = min(steps, round(episode.first_success_s / env.dt_s) + 1)
    return spearman(np.arange(steps, dtype=float), values[:steps, 0])


def spearman(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 when either is constant."""
    a, b = (_ranks(v) - 0.5 * (len(v) - 1) for v in (x, y))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0.0 else 0.0


def _ranks(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts + 1))[inverse]


def _random_states(env: TaskEnv, count: int, seed: int) -> Iterator[None]:
    """Put the scene into random states, one after another."""
    scene, data = env.scene, env.scene.data
    rng = np.random.Generator(np.random.Philox(key=[seed, count]))
    x0, y0, x1, y1 = scene.card.workspace
    low, high = [x0 - REACH_M, y0 - REACH_M, 0.0], [x1 + REACH_M, y1 + REACH_M, CEILING_M]
    gripper = scene.card.gripper
    for _ in range(count):
        data.qpos[scene.arm.qpos] = rng.uniform(scene.ik.lower, scene.ik.upper)
        data.qpos[scene.arm.gripper_qpos] = gripper.closed + rng.uniform() * (gripper.open - gripper.closed)
        for binding in scene.world.entities.values():
            if binding.dof >= 0:
                start = scene.model.jnt_qposadr[scene.model.dof_jntid[binding.dof]]
                quaternion = rng.normal(size=4)
                data.qpos[start : start + 7] = [*rng.uniform(low, high), *quaternion / np.linalg.norm(quaternion)]
            for joint in binding.joints.values():
                data.qpos[joint.qpos] = joint.closed + rng.uniform() * (joint.open - joint.closed)
        data.qvel[:] = 0.0
        mujoco.mj_forward(scene.model, data)
        yield


def _idle(env: TaskEnv, progress: Progress, seed: int) -> float:
    """Largest progress while the robot holds its home pose."""
    env.reset_scene(seed)
    progress.reset()
    ik = env.scene.ik
    if env.task.robot.control_mode == "ee_pose":
        position, rotation = ik.forward(ik.home)
        pose = np.concatenate([position, rot6d(rotation)])
    else:
        pose = np.asarray(ik.home)
    action = np.append(pose, 1.0).astype(np.float32)
    values = []
    for _ in range(round(IDLE_S / env.dt_s)):
        env.apply(action)
        values.append(progress.update())
    return max(values)
