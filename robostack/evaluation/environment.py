"""What an evaluation needs of an environment, and the environment of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError
from robostack.sim.env import TaskEnv
from robostack.sim.observe import features
from robostack.sim.pointcloud import observed_cloud
from robostack.sim.pusht import PushTEnv
from robostack.sim.scene import Scene
from robostack.task.benchmark import PushTTask, Task
from robostack.types import Features, Observation

Cameras = Sequence[tuple[str, int, int]]
"""(name, height, width) of each."""


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


def make_env(task: Task, cameras: Cameras = (), points: int = 0) -> EvaluationEnv:
    """The environment of a task, with cameras (name, height, width) and point clouds of ``points`` points.

    Raises:
        UnknownName: the task has no such camera.
        ConfigError: the task has no point clouds.
        MissingExtra: a package is not installed: of a benchmark, or the one that thins point clouds.
        DeviceUnavailable: nothing can be rendered here.
    """
    if isinstance(task, PushTTask):
        _refuse_points(points)
        return PushTEnv(task, cameras)
    return TaskEnv(task, cameras=cameras, point_cloud=observed_cloud(points) if points else None)


def task_features(task: Task, cameras: Cameras = (), points: int = 0) -> Features:
    """The features of ``make_env`` of the same arguments; raises what it would, but renders nothing."""
    if isinstance(task, PushTTask):
        _refuse_points(points)
        return PushTEnv(task, cameras).features
    return features(Scene(task), cameras, points)


def _refuse_points(points: int) -> None:
    if points:
        raise ConfigError("pusht has no point clouds: use a policy that looks at none")
