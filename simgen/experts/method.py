"""Methods: who brings a subgoal about. The expert tries them per subgoal in ``ORDER`` and keeps who succeeded.

A method reads the simulator's state as it likes and may simulate on copies of it; it changes the scene through
``Context.send`` alone, one action per control step. It must be a deterministic function of (task, scene seed, state).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from robostack.registry import Registry
from robostack.sim.env import TaskEnv
from robostack.task.spec import Subgoal
from simgen.experts.result import Result
from simgen.experts.skills import Skills

ORDER = ("skill", "motion", "rl", "trajopt")  # cheapest first: what was learned before costs nothing to try


def weights_path(folder: Path | None, index: int) -> Path | None:
    """The file of the actor that was learned for a subgoal of the task in ``folder``; None when there is none."""
    path = None if folder is None else folder / f"rl_{index}.npz"
    return path if path is not None and path.is_file() else None


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


def _skill() -> Method:
    from simgen.experts.recipes import SkillMethod

    return SkillMethod()


def _motion() -> Method:
    from simgen.experts.recipes import MotionMethod

    return MotionMethod()


def _trajopt() -> Method:
    from simgen.experts.trajopt import TrajOpt

    return TrajOpt()


def _rl() -> Method:
    from simgen.experts.rl import LearnedMethod

    return LearnedMethod()


def _keyframe() -> Method:
    from simgen.experts.keyframe import KeyframeMethod

    return KeyframeMethod()


METHODS: Registry[Callable[[], Method]] = Registry("method")
METHODS.add("skill", _skill)
METHODS.add("motion", _motion)
METHODS.add("trajopt", _trajopt)
METHODS.add("rl", _rl)
METHODS.add("keyframe", _keyframe)  # not in ORDER: it needs a demonstration, which the expert has to give first
