"""Batches of what-if simulations: tool paths -> actions -> the controller's targets -> physics, on copies of the state.

Candidates are turned into actuator targets by the very controller that executes them, so that what was simulated is,
to the last bit, what ``TaskEnv.apply`` will do. MuJoCo's ``rollout`` module steps a pool of threads; the result does
not depend on their number.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from jaxtyping import Float
from mujoco import rollout

from robostack.sim.env import TaskEnv
from robostack.sim.rotation import rot6d
from robostack.task.evaluate import GoalMonitor
from robostack.task.world import World
from simgen.experts.motion import Planner, Pose

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
_MOCAP = (mujoco.mjtState.mjSTATE_MOCAP_POS, mujoco.mjtState.mjSTATE_MOCAP_QUAT)


@dataclass(frozen=True)
class ToolPath:
    """A downward tool pose per control step.

    Attributes:
        pos: positions [m, world].
        yaw: rotation about z relative to the rest pose [rad].
        opening: of the gripper, 0 closed, 1 open.
    """

    pos: Float[np.ndarray, "T 3"]
    yaw: Float[np.ndarray, " T"]
    opening: Float[np.ndarray, " T"]

    def __len__(self) -> int:
        return len(self.yaw)

    def __getitem__(self, part: slice) -> ToolPath:
        return ToolPath(self.pos[part], self.yaw[part], self.opening[part])

    def poses(self) -> Iterator[tuple[Pose, float]]:
        """Pose and opening per step."""
        for pos, yaw, opening in zip(self.pos, self.yaw, self.opening, strict=True):
            yield Pose(pos, float(yaw)), float(opening)

    def then_back(self, steps: int) -> ToolPath:
        """This path, then its last ``steps`` steps in reverse: the way in is a way out."""
        tail = [min(len(self) - 1, max(0, len(self) - 2 - k)) for k in range(steps)]
        order = np.array([*range(len(self)), *tail])
        return ToolPath(self.pos[order], self.yaw[order], self.opening[order])


class Actions:
    """Tool poses -> the float32 actions of the task's control mode, as the skills send them."""

    def __init__(self, env: TaskEnv, planner: Planner):
        self._env, self._planner = env, planner

    def of(self, path: ToolPath, ik_q: Float[np.ndarray, " Nj"]) -> Float[np.ndarray, "T Da"]:
        """Actions of a path; ``ik_q`` is where inverse kinematics starts in joint control [rad]."""
        out = []
        for pose, opening in path.poses():
            rot = self._planner.rotation(pose)
            if self._env.task.robot.control_mode == "ee_pose":
                out.append(np.concatenate([pose.pos, rot6d(rot), [opening]]))
            else:
                ik_q = self._env.scene.ik.solve(pose.pos, rot, ik_q, iterations=8).q
                out.append(np.append(ik_q, opening))
        return np.asarray(out).astype(np.float32)


class Rollouts:
    """Simulates candidates from the state in which an environment is now, in a pool of ``threads`` threads."""

    def __init__(self, env: TaskEnv, *, threads: int):
        self.env, scene = env, env.scene
        self._datas = [mujoco.MjData(scene.model) for _ in range(threads)]
        self._pool = rollout.Rollout(nthread=threads)
        self.world = replace(scene.world, data=mujoco.MjData(scene.model))
        self.monitor = GoalMonitor(env.task, self.world)
        self.control_steps = 0

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()

    def simulate(self, actions: Sequence[Float[np.ndarray, "T Da"]]) -> Float[np.ndarray, "N T S"]:
        """Physics states at the end of every control step, per candidate."""
        scene, model, now = self.env.scene, self.env.scene.model, self.env.scene.data
        targets = np.stack([self._targets(a) for a in actions])
        n, steps, _ = targets.shape
        before = np.concatenate([np.broadcast_to(now.ctrl, (n, 1, model.nu)), targets[:, :-1]], axis=1)
        # As Scene.step: targets move linearly within a control step and end exactly on the new one.
        ramp = np.arange(1, scene.substeps + 1)[:, None]
        controls = before[:, :, None] + ramp * ((targets - before) / scene.substeps)[:, :, None]
        controls[:, :, -1] = targets
        controls = controls.reshape(n, steps * scene.substeps, model.nu)
        spec, fixed = mujoco.mjtState.mjSTATE_CTRL, np.empty(mujoco.mj_stateSize(model, _MOCAP[0] | _MOCAP[1]))
        if fixed.size:  # a rollout puts mocap bodies back to their default pose unless they are part of the controls
            spec = spec | _MOCAP[0] | _MOCAP[1]
            mujoco.mj_getState(model, now, fixed, _MOCAP[0] | _MOCAP[1])
            controls = np.concatenate([controls, np.broadcast_to(fixed, (*controls.shape[:2], fixed.size))], axis=2)
        start = np.empty(mujoco.mj_stateSize(model, _STATE))
        mujoco.mj_getState(model, now, start, _STATE)
        states, _ = self._pool.rollout(
            model,
            self._datas,
            np.tile(start, (n, 1)),
            controls,
            control_spec=int(spec),
            initial_warmstart=np.tile(now.qacc_warmstart, (n, 1)),
        )
        self.control_steps += n * steps
        return np.asarray(states)[:, scene.substeps - 1 :: scene.substeps]

    def world_at(self, state: Float[np.ndarray, " S"]) -> World:
        """``self.world``, put into one of those states, with contacts and forces."""
        scene, data = self.env.scene, self.world.data
        data.mocap_pos[:], data.mocap_quat[:] = scene.data.mocap_pos, scene.data.mocap_quat
        mujoco.mj_setState(scene.model, data, np.ascontiguousarray(state), _STATE)
        mujoco.mj_forward(scene.model, data)
        return self.world

    def _targets(self, actions: np.ndarray) -> np.ndarray:
        scene, controller = self.env.scene, copy.copy(self.env.controller)
        out = np.empty((len(actions), scene.model.nu))
        out[:] = scene.data.ctrl
        for row, action in zip(out, actions, strict=True):
            row[scene.arm.actuators], row[scene.arm.gripper_actuator] = controller.targets(action)
        return out


def fork(env: TaskEnv) -> TaskEnv:
    """A copy of an environment in its present state, whose ``apply`` leaves the original alone.

    Model and compiled scene are shared; the copy's monitor starts afresh.
    """
    twin, scene = copy.copy(env), copy.copy(env.scene)
    scene.data = copy.copy(env.scene.data)
    scene.world = replace(env.scene.world, data=scene.data)
    twin.scene, twin.controller = scene, copy.copy(env.controller)
    twin.monitor = GoalMonitor(env.task, scene.world)
    return twin
