"""From chunks to actions: what stands between a policy and the control loop."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Float

from robostack.runtime.protocols import Policy
from robostack.timing import LatencyTracker
from robostack.types import ActionChunk, Observation


class SyncExecutor:
    """Executes Ta actions of a chunk, then asks for the next one and waits for it (Chi et al. 2023, receding horizon).

    One lane: observations come without leading axes. Every observation is seen, so that the policy's window of To is
    always the newest; at the start of an episode it is padded with the first one.
    """

    def __init__(self, policy: Policy):
        self.policy = policy
        self.latency = LatencyTracker()
        self._window: deque[Observation] = deque(maxlen=policy.horizon.To)
        self._chunk: ActionChunk | None = None

    def reset(self, seed: int) -> None:
        """Start an episode; the policy draws its noise from ``seed``."""
        self.policy.reset(np.ones(1, bool), np.array([seed], np.int64))
        self._window.clear()
        self._chunk = None

    def forget_chunk(self) -> None:
        """Decide anew at the next observation."""
        self._chunk = None

    def act(self, obs: Observation) -> Float[np.ndarray, " Da"]:
        """The action that is due at ``obs.t_s``."""
        if not self._window:
            self._window.extend([obs] * self.policy.horizon.To)
        else:
            self._window.append(obs)
        index = self._due(obs.t_s)
        if self._chunk is None or index >= self.policy.horizon.Ta:
            window = Observation.stack([Observation.stack(list(self._window))])
            with self.latency.measure():
                self._chunk = self.policy.infer(window)
            index = self._due(obs.t_s)
        return self._chunk.actions[0, index]

    def _due(self, t_s: float) -> int:
        return 0 if self._chunk is None else max(0, round((t_s - self._chunk.t0_s) / self._chunk.dt_s))
