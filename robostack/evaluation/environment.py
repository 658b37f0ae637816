"""What an evaluation needs of an environment, and the environment of a task."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from robostack.sim.env import TaskEnv
from robostack.sim.observe import features
from robostack.sim.pusht import PushTEnv
from robostack.sim.scene import Scene
from robostack.task.benchmark import PushTTask, Task
from robostack.types import Features, Observation


@runtime_checkable
class EvaluationEnv(Protocol):
    """Seeded episodes with a success that the environment itself computes.

    Attributes:
        features: of what it shows and takes.
        dt_s: control period [s].
    """

    features: Features
    dt_s: float

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        ...

    @property
    def success(self) -> bool:
        """Whether it is a success as things stand."""
        ...

    @property
    def first_success_s(self) -> float:
        """When the goal was first reached [s]; NaN if never."""
        ...

    @property
    def score(self) -> float | None:
        """How good the episode was so far, where the environment measures more than success."""
        ...

    @property
    def configuration(self) -> Float[np.ndarray, " Nq"]:
        """What a picture of this moment can be drawn from."""
        ...

    def reset_scene(self, scene_seed: int) -> None:
        """Start the episode of a seed; raises SceneError when there is no such scene."""
        ...

    def observe(self) -> Observation:
        """What a policy sees now, without leading axes."""
        ...

    def apply(self, action: Float[np.ndarray, " Da"]) -> Float[np.ndarray, " Nu"]:
        """Command one action and advance; raises InvalidAction before anything moves."""
        ...

    def failure(self) -> str:
        """Code of why the episode is not a success; empty when it is."""
        ...


def make_env(task: Task) -> EvaluationEnv:
    """The environment of a task.

    Raises:
        MissingExtra: the package of a benchmark is not installed.
    """
    return PushTEnv(task) if isinstance(task, PushTTask) else TaskEnv(task)


def task_features(task: Task) -> Features:
    """The features of ``make_env(task)``; raises what it would."""
    return PushTEnv(task).features if isinstance(task, PushTTask) else features(Scene(task))
