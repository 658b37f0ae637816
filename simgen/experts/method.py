"""Methods: who brings a subgoal about. The expert tries them per subgoal in ``ORDER`` and keeps who succeeded.

A method reads the simulator's state as it likes and may simulate on copies of it; it changes the scene through
``Context.send`` alone, one action per control step. It must be a deterministic function of (task, scene seed, state).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from robostack.registry import Registry
from robostack.sim.env import TaskEnv
from robostack.task.spec import Subgoal
from simgen.experts.result import Result
from simgen.experts.skills import Skills

ORDER = ("skill", "motion", "trajopt", "rl")  # cheapest first


@dataclass(frozen=True)
class Context:
    """What a method works with, valid for one attempt.

    Attributes:
        env: the task; its monitor, scene and controller are live.
        skills: the skills of that environment; the expert re-reads their commanded pose after a method ends.
        send: commands one action (float32, as recorded) and advances one control step; raises EpisodeOver.
        index: which of ``env.task.subgoals`` is asked for.
        scene_seed: the seed of the episode; key random generators by it.
        folder: where the task lives on disk, with ``rl_<index>.npz`` beside ``task.json``; None when nowhere.
    """

    env: TaskEnv
    skills: Skills
    send: Callable[[Float[np.ndarray, " Da"]], None]
    index: int
    scene_seed: int
    folder: Path | None = None


class Method(Protocol):
    """A way of achieving subgoals."""

    name: str

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """Try to make ``subgoal.goal`` true; raises EpisodeOver when the episode ends meanwhile.

        A method that does not know the subgoal returns PRECOND_FALSE without moving.
        """
        ...


@dataclass(frozen=True)
class Keyframe:
    """Where the tool was at a moment that matters, relative to what it acted on.

    Attributes:
        subgoal: index into ``TaskSpec.subgoals``.
        step: control steps since reset.
        event: ``start``, ``grasp``, ``release`` or ``end``.
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


def _skill() -> Method:
    from simgen.experts.recipes import SkillMethod

    return SkillMethod()


METHODS: Registry[Callable[[], Method]] = Registry("method")
METHODS.add("skill", _skill)
