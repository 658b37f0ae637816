"""Does a demonstration still work in another physics engine? The first sim-to-sim gap, before any real robot.

The recorded actions are replayed open loop through the same controller; the same predicates judge the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from robostack.errors import SceneError
from robostack.sim.env import TaskEnv
from robostack.task.spec import TaskSpec


@dataclass(frozen=True)
class Transfer:
    """Outcome of replaying demonstrations in another engine.

    Attributes:
        codes: seed -> failure code there, empty where the goal was held at the end.
    """

    task: str
    family: str
    robot: str
    engine: str
    codes: Mapping[int, str]

    @property
    def n(self) -> int:
        """Demonstrations replayed."""
        return len(self.codes)

    @property
    def k(self) -> int:
        """Those that still reach the goal."""
        return sum(not code for code in self.codes.values())


def transfer(spec: TaskSpec, demos: Mapping[int, Float32[np.ndarray, "T Da"]], *, engine: str = "pybullet") -> Transfer:
    """Replay the actions (T, Da) of each seed open loop in ``engine``; an impossible start state counts as failure."""
    env = TaskEnv(spec, engine=engine)
    codes = {seed: _replay(env, seed, actions) for seed, actions in demos.items()}
    return Transfer(spec.id, spec.family, spec.robot.name, engine, codes)


def _replay(env: TaskEnv, seed: int, actions: np.ndarray) -> str:
    try:
        env.reset_scene(seed)
    except SceneError as error:
        return error.code
    for action in actions:
        if env.over:
            break
        env.apply(action)
    return env.failure()
