"""An environment in which the gripper is a magnet: what it closes on follows it, whatever friction says.

It serves to tell a grasp that fails from a way that is blocked; nothing that it does enters a certificate.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.env import TaskEnv
from robostack.task import geometry as geo
from robostack.task.world import ROBOT

_CLOSED = 0.35  # commanded opening below which it takes
_REACH_M = 0.03  # between tool and object that is taken without being touched


class MagnetEnv(TaskEnv):
    """``TaskEnv`` with a magnet. It takes an object when it closes at it, and lets go when it opens."""

    _held: tuple[str, np.ndarray, np.ndarray] | None = None
    _last: float = 1.0

    def reset_scene(self, scene_seed: int) -> None:
        """See ``TaskEnv.reset_scene``; nothing is held."""
        super().reset_scene(scene_seed)
        self._held, self._last = None, 1.0

    def apply(self, action: np.ndarray) -> np.ndarray:
        """See ``TaskEnv.apply``."""
        ctrl = super().apply(action)
        opening = float(action[-1])
        if self._held is not None and opening > self._last + 1e-6:
            self._held = None
        elif self._held is None and opening < _CLOSED:
            self._take()
        self._last = opening
        if self._held is not None:
            self._carry()
        return ctrl

    def _take(self) -> None:
        world, (pos, rot) = self.scene.world, self.scene.tcp()
        touching = {p if q == ROBOT else q for p, q in geo.owners(world) if ROBOT in (p, q)}
        free = [name for name, binding in world.entities.items() if binding.dof >= 0]
        near = [
            (float(np.linalg.norm(world.pos(name) - pos)), name)
            for name in free
            if world.index[name] in touching or float(np.linalg.norm(world.pos(name) - pos)) < _REACH_M
        ]
        if near:
            name = min(near)[1]
            self._held = (name, rot.T @ (world.pos(name) - pos), rot.T @ world.rot(name))

    def _carry(self) -> None:
        assert self._held is not None
        name, offset, turn = self._held
        scene, (pos, rot), quat = self.scene, self.scene.tcp(), np.zeros(4)
        binding = scene.world.entities[name]
        address = int(scene.model.jnt_qposadr[scene.model.body_jntadr[binding.body]])
        mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rot @ turn).ravel())
        scene.data.qpos[address : address + 7] = [*(pos + rot @ offset), *quat]
        scene.data.qvel[binding.dof : binding.dof + 6] = 0.0
        mujoco.mj_forward(scene.model, scene.data)
