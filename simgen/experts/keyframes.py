"""The moments of an episode that matter, in the frames of the objects they are about (MimicGen, Mandlekar 2023).

Every change of the gripper and every corner of the commanded path is kept, so that the same moves can be made again
in another scene; what lies between two keyframes is a straight line, in the frame of the joint where one is moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.sim.env import TaskEnv
from robostack.sim.rotation import rot_from_6d
from robostack.task.spec import Subgoal
from simgen.experts.frames import Frame, frame_of, frames_for

_RAD, _OPENING = 0.1, 0.05  # metres that count as one radian, and as the way of the gripper from closed to open
_TOLERANCE, _STILL = 1e-3, 2e-5  # deviation from a straight line; motion in one step that counts as none [m]


@dataclass(frozen=True)
class Keyframe:
    """Where the tool was commanded to be at a moment that matters, relative to what it acted on.

    Attributes:
        subgoal: index into ``TaskSpec.subgoals``.
        step: control steps since reset.
        event: ``start``, ``grasp`` (closed on it, or about to push it), ``release``, ``end``, or ``via`` for a corner
            of the path or a change of the gripper.
        frame: the frame that the pose is in; its names are in ``simgen.experts.frames``.
        pos, quat: pose of the tool in that frame [m; w, x, y, z].
        opening: of the gripper, as commanded, 0 closed to 1 open.
        fraction: where the joint of a handle's frame was; 0 in other frames.
    """

    subgoal: int
    step: int
    event: str
    frame: str
    pos: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    opening: float
    fraction: float = 0.0

    @property
    def rot(self) -> Float[np.ndarray, "3 3"]:
        """Rotation of the tool in the frame."""
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, np.asarray(self.quat))
        return matrix.reshape(3, 3)

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
            "fraction": self.fraction,
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
            fraction=float(values.get("fraction", 0.0)),
        )


@dataclass(frozen=True)
class _Row:
    """One commanded step; ``handle`` is where the frame of the joint was."""

    pos: np.ndarray
    rot: np.ndarray
    opening: float
    fraction: float
    handle: Frame | None


class Marks:
    """Watches one attempt at a subgoal and picks its keyframes."""

    def __init__(self, env: TaskEnv, index: int, subgoal: Subgoal, step: int):
        self._env, self._index, self._step = env, index, step
        self._taken, self._brought = frames_for(env.scene.world, subgoal)
        self._start = {name: frame_of(env, name) for name in (self._taken, self._brought)}
        self._rows: list[_Row] = []
        self._notes: list[tuple[int, str]] = []

    def watch(self, action: np.ndarray) -> None:
        """One action is about to be sent."""
        if self._env.task.robot.control_mode == "ee_pose":
            pos, rot = action[:3].astype(float), rot_from_6d(action[3:9].astype(float))
        else:
            pos, rot = self._env.scene.ik.forward(action[:-1].astype(float))
        handle, fraction = None, 0.0
        for name in (self._brought, self._taken):
            entity, _, joint = name.partition(".")
            if joint:
                handle, fraction = frame_of(self._env, name), self._env.scene.world.fraction(entity, joint)
        self._rows.append(_Row(pos, rot, float(action[-1]), fraction, handle))

    def note(self, event: str) -> None:
        """The gripper has acted."""
        self._notes.append((max(0, len(self._rows) - 1), event))

    def finished(self) -> tuple[Keyframe, ...]:
        """All keyframes of the attempt, which has brought the subgoal about; none when nothing was commanded."""
        rows, last = self._rows, len(self._rows) - 1
        if last < 0:
            return ()
        events = {0: "start", last: "end", **dict(self._notes)}
        corners = _corners(_features(rows), sorted(events))
        border = self._border(corners)
        return tuple(self._mark(i, events.get(i, "via"), rows[i], k <= border) for k, i in enumerate(corners))

    def _border(self, corners: list[int]) -> int:
        """Index of the last corner that belongs to what is taken: the one that it was lifted to."""
        if ">" in self._taken:
            zone = self._start[self._brought]
            start = self._start[self._taken]
            near = [np.linalg.norm(self._rows[i].pos - start.pos) for i in corners]
            far = [np.linalg.norm(self._rows[i].pos - zone.pos) for i in corners]
            return max(k for k in range(len(corners)) if k == 0 or near[k] <= far[k])
        grasps = [i for i, event in self._notes if event == "grasp"]
        return corners.index(grasps[-1]) + 1 if grasps else 0

    def _mark(self, i: int, event: str, row: _Row, taken: bool) -> Keyframe:
        name = self._taken if taken else self._brought
        frame = row.handle if "." in name and row.handle is not None else self._start[name]
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, np.ascontiguousarray(frame.rot.T @ row.rot).ravel())
        x, y, z = (round(float(v), 7) for v in frame.rot.T @ (row.pos - frame.pos))
        w, a, b, c = (round(float(v), 7) for v in quat)
        fraction = round(row.fraction, 6) if "." in name else 0.0
        opening = round(row.opening, 6)
        return Keyframe(self._index, self._step + i, event, name, (x, y, z), (w, a, b, c), opening, fraction)


def _features(rows: list[_Row]) -> np.ndarray:
    """Rows (T, 7) in which distances are metres: position, turn since the first row, opening."""
    out, quat, turn = np.zeros((len(rows), 7)), np.zeros(4), np.zeros(3)
    for i, row in enumerate(rows):
        mujoco.mju_mat2Quat(quat, np.ascontiguousarray(row.rot @ rows[0].rot.T).ravel())
        mujoco.mju_quat2Vel(turn, quat, 1.0)
        out[i] = [*row.pos, *(_RAD * turn), _OPENING * row.opening]
    return out


def _corners(x: np.ndarray, fixed: list[int]) -> list[int]:
    """Indices that are kept: the fixed ones, both ends of every rest, and corners (Douglas and Peucker 1973)."""
    still = np.concatenate([[False], np.linalg.norm(np.diff(x, axis=0), axis=1) < _STILL, [False]])
    edges = np.flatnonzero(still[1:] != still[:-1])  # rests begin and end here
    kept = sorted({*fixed, *(int(i) for i in edges)})
    spans, out = list(zip(kept, kept[1:], strict=False)), set(kept)
    while spans:
        a, b = spans.pop()
        if b - a < 2:
            continue
        way = x[b] - x[a]
        share = np.clip((x[a + 1 : b] - x[a]) @ way / max(1e-12, float(way @ way)), 0.0, 1.0)
        off = np.linalg.norm(x[a + 1 : b] - x[a] - share[:, None] * way, axis=1)
        if off.max() > _TOLERANCE:
            middle = a + 1 + int(np.argmax(off))
            out.add(middle)
            spans += [(a, middle), (middle, b)]
    return sorted(out)
