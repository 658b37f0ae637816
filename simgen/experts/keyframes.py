"""The moments of an episode that matter, in the frames of the objects they are about (MimicGen, Mandlekar 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from robostack.sim.env import TaskEnv
from robostack.task.spec import Subgoal


@dataclass(frozen=True)
class Keyframe:
    """Where the tool was at a moment that matters, relative to what it acted on.

    Attributes:
        subgoal: index into ``TaskSpec.subgoals``.
        step: control steps since reset.
        event: ``start``, ``grasp`` (closed on it, or about to push it), ``release`` or ``end``.
        frame: the entity whose frame the pose is in, or ``<entity>.<joint>`` for the frame of that joint's handle.
        pos, quat: pose of the tool in that frame [m; w, x, y, z].
        opening: of the gripper, 0 closed to 1 open.
    """

    subgoal: int
    step: int
    event: str
    frame: str
    pos: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    opening: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` inverts it."""
        return {
            "subgoal": self.subgoal,
            "step": self.step,
            "event": self.event,
            "frame": self.frame,
            "pos": list(self.pos),
            "quat": list(self.quat),
            "opening": self.opening,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Keyframe:
        """Inverse of ``to_dict``."""
        x, y, z = (float(v) for v in values["pos"])
        w, i, j, k = (float(v) for v in values["quat"])
        return cls(
            subgoal=int(values["subgoal"]),
            step=int(values["step"]),
            event=str(values["event"]),
            frame=str(values["frame"]),
            pos=(x, y, z),
            quat=(w, i, j, k),
            opening=float(values["opening"]),
        )


class Marks:
    """Collects the keyframes of one attempt at a subgoal."""

    def __init__(self, env: TaskEnv, index: int, subgoal: Subgoal, step: int):
        self._env, self._index = env, index
        names = [str(arg) for arg in subgoal.args if str(arg) in env.scene.world.entities]
        joint = str(subgoal.args[1]) if len(subgoal.args) > 1 else ""
        self._first, self._last = (names[0], names[-1]) if names else ("", "")
        if names and joint in env.scene.world.entities[names[0]].joints:
            self._first = self._last = f"{names[0]}.{joint}"
        self._found = [self._mark("start", self._first, step)]

    def note(self, event: str, subject: str, step: int) -> None:
        """The gripper has acted on ``subject``; what it let go is seen from where it was brought to."""
        held = event == "release" and "." not in subject
        self._found.append(self._mark(event, self._last if held else subject, step))

    def finished(self, step: int) -> tuple[Keyframe, ...]:
        """All keyframes of the attempt, which has brought the subgoal about."""
        return (*self._found, self._mark("end", self._last, step))

    def _mark(self, event: str, frame: str, step: int) -> Keyframe:
        pos, rot = self._pose(frame)
        tool, turn = self._env.scene.tcp()
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rot.T @ turn).ravel())
        x, y, z = (float(v) for v in rot.T @ (tool - pos))
        w, i, j, k = (float(v) for v in quat)
        return Keyframe(self._index, step, event, frame, (x, y, z), (w, i, j, k), self._env.scene.gripper_opening())

    def _pose(self, frame: str) -> tuple[np.ndarray, np.ndarray]:
        if not frame:
            return np.zeros(3), np.eye(3)
        world, data = self._env.scene.world, self._env.scene.data
        entity, _, joint = frame.partition(".")
        if not joint:
            return world.pos(entity), world.rot(entity)
        site = world.entities[entity].joints[joint].handle
        return data.site_xpos[site], data.site_xmat[site].reshape(3, 3)
