"""The simulated machine: a TaskEnv behind the ``Backend`` protocol, so that whatever drives a robot drives this."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from robostack.errors import RobostackError
from robostack.sim.env import TaskEnv
from robostack.task.spec import TaskSpec
from robostack.types import Features, Observation


class SimBackend:
    """Runs a task in MuJoCo at the speed of the caller: one ``act`` is one control step.

    ``stop`` latches: further actions hold the last pose until ``connect`` is called again.
    """

    def __init__(self, spec: TaskSpec, *, seed: int = 0):
        self._env = TaskEnv(spec)
        self._seed, self._connected, self._stopped = seed, False, False
        self._last = np.zeros(0)
        self.features: Features = self._env.features

    def connect(self) -> None:
        """Reset the scene and accept actions; also ends a stop. Idempotent while connected and running."""
        if self._connected and not self._stopped:
            return
        self._env.reset_scene(self._seed)
        self._connected, self._stopped = True, False
        self._last = self._env.observe().state.astype(float)

    def observe(self) -> Observation:
        """The newest observation."""
        self._require()
        return self._env.observe()

    def act(self, action: Float[np.ndarray, " Da"]) -> Float[np.ndarray, " Da"]:
        """Command one action and advance one control step; returns the action that was applied.

        Raises:
            InvalidAction: NaN or a wrong width; nothing moves.
        """
        self._require()
        applied = self._last if self._stopped else np.array(action, float)  # a copy: the caller may reuse its buffer
        self._env.apply(applied)
        self._last = applied
        return applied.copy()

    def stop(self) -> None:
        """Hold still now."""
        self._stopped = True

    def close(self) -> None:
        """Release the simulator. Idempotent."""
        self._env.close()
        self._connected = False

    def _require(self) -> None:
        if not self._connected:
            raise RobostackError("the simulated robot is not connected: call connect() first")
