"""From chunks to actions: what stands between a policy and the control loop.

Deciding takes time. Under a ``LatencyModel`` the chunk of a decision at step n is there at step n + d only:

=========  =========================================================================================================
execution  meanwhile, and afterwards
=========  =========================================================================================================
sync       the robot holds its last command; then Ta actions from the chunk's first, and the next decision
async      the old plan goes on; then the new chunk from the action that is due now (a jump where they disagree)
rtc        as async, and the policy continues the old plan (Black et al., arXiv 2506.07339), with J = identity
rtc_vjp    as rtc, with the Jacobian of the network
rti        as async, decided at every control step, or as often as decisions end (Duan et al., arXiv 2508.05396)
ensemble   as rti; all chunks that cover the present are averaged (Zhao et al., arXiv 2304.13705)
=========  =========================================================================================================

Without latency ``async`` and ``sync`` are the same. A robot that has no command yet holds the pose that it has.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError
from robostack.registry import Registry
from robostack.runtime.action_queue import ActionQueue, QueueCounters
from robostack.runtime.latency import DelayEstimate, LatencyModel
from robostack.runtime.protocols import ActivePlan, Policy
from robostack.timing import LatencyTracker
from robostack.types import ActionChunk, Features, Observation


@dataclass(frozen=True)
class Execution:
    """A way to execute chunks.

    Attributes:
        waits: stand still while deciding, instead of going on with the old plan.
        every: control steps between decisions; None for the policy's Ta.
        merge: how chunks that cover the same time are merged; see ``ActionQueue``.
        jacobian: how a policy continues the old plan; see ``ActivePlan``. None: it is not told of it.
    """

    waits: bool = False
    every: int | None = None
    merge: str = "replace"
    jacobian: str | None = None


EXECUTORS: Registry[Execution] = Registry("execution")
EXECUTORS.add("sync", Execution(waits=True))
EXECUTORS.add("async", Execution())
EXECUTORS.add("rtc", Execution(jacobian="identity"))
EXECUTORS.add("rtc_vjp", Execution(jacobian="vjp"))
EXECUTORS.add("rti", Execution(every=1))
EXECUTORS.add("ensemble", Execution(every=1, merge="ensemble"))

ACCELERATIONS = ("none", "native", "native_bf16", "onnx", "compile", "cuda_graph")
"""What may run a policy's network; the kernel only knows the names."""


class Executor:
    """Runs a policy on one lane: observations come without leading axes, and each has an action as its answer.

    Every observation is seen, so that the policy's window of To is always the newest; at the start of an episode it is
    padded with the first one.

    Attributes:
        latency: wall time of each decision of the episode.
        evaluations: network evaluations in the episode; None when the policy does not count them.
    """

    def __init__(
        self,
        policy: Policy,
        execution: str = "sync",
        latency: LatencyModel | None = None,
        *,
        jump: Float[np.ndarray, " Da"] | float | None = None,
    ):
        """Check that policy, execution and latency go together.

        Args:
            policy: who decides.
            execution: name in ``EXECUTORS``.
            latency: how long decisions take; none by default.
            jump: see ``ActionQueue``.

        Raises:
            UnknownName: no such execution.
            ConfigError: the policy cannot continue a plan, or the robot could not hold still while it decides.
        """
        self.policy, self.execution, self.model = policy, EXECUTORS[execution], latency or LatencyModel()
        if self.execution.jacobian and not getattr(policy, "continues_plans", False):
            others = [name for name in EXECUTORS if EXECUTORS[name].jacobian is None]
            raise ConfigError(
                f"{type(policy).__name__} cannot continue a plan, which execution={execution} needs: "
                f"use one of {', '.join(others)}"
            )
        self._pose = _pose_columns(policy.features)
        if self._pose is None and self.model.kind != "none":
            raise ConfigError(
                f"latency={self.model} makes the robot wait for its first command, but its state does not tell the "
                "action that holds it still: use latency=none"
            )
        self._dt_s = 1.0 / policy.features.rate_hz
        self._queue = ActionQueue(self._dt_s, len(policy.features.action), mode=self.execution.merge, jump=jump)
        self._window: deque[Observation] = deque(maxlen=policy.horizon.To)
        self._delays = DelayEstimate()
        self.latency = LatencyTracker()
        self._forget()

    def reset(self, seed: int) -> None:
        """Start an episode; the policy draws its noise from ``seed``."""
        self.policy.reset(np.ones(1, bool), np.array([seed], np.int64))
        self._queue.clear()
        self._window.clear()
        self._delays.clear()
        self.latency.samples_s.clear()
        self._forget()

    @property
    def counters(self) -> QueueCounters:
        """What happened to the chunks of the episode; ``starved`` counts the steps in which the robot held still."""
        return self._queue.counters

    def act(self, obs: Observation) -> Float[np.ndarray, " Da"]:
        """The command for the control step that begins with ``obs``.

        Raises:
            InvalidAction: the policy answered with a chunk that must not be executed.
        """
        t_s = obs.t_s
        self._window.extend([obs] * (1 if self._window else self.policy.horizon.To))
        self._deliver(t_s)
        if self._decision_is_due(t_s):
            self._decide(t_s)
            self._deliver(t_s)
        action = self._queue.take(t_s)
        return self._still(obs) if action is None else action

    def _forget(self) -> None:
        self.evaluations: int | None = 0
        self._coming: tuple[float, ActionChunk] | None = None
        self._decided_s, self._length = -np.inf, 0

    def _decision_is_due(self, t_s: float) -> bool:
        if self._coming is not None:
            return False
        if self._queue.due(t_s) is None:
            return True
        if self.execution.waits:
            return False
        often = self.execution.every or self.policy.horizon.Ta
        in_time = self._length - self._delays.steps  # later, and the plan ends before its successor is there
        return round((t_s - self._decided_s) / self._dt_s) >= max(1, min(often, in_time))

    def _decide(self, t_s: float) -> None:
        window = Observation.stack([Observation.stack(list(self._window))])
        plan = self._active_plan(t_s)
        with self.latency.measure():
            chunk = self.policy.infer(window, plan)
        self._count_evaluations()
        delay = self.model.steps(self.latency.samples_s[-1], self._dt_s)
        self._delays.add(delay)
        ready_s = t_s + delay * self._dt_s
        if self.execution.waits:  # the robot stood still: the first action is due when it moves again
            chunk = dataclasses.replace(chunk, t0_s=ready_s, actions=chunk.actions[:, : self.policy.horizon.Ta])
        self._coming, self._decided_s, self._length = (ready_s, chunk), t_s, chunk.actions.shape[-2]

    def _active_plan(self, t_s: float) -> ActivePlan | None:
        if self.execution.jacobian is None:
            return None
        rest = self._queue.rest(t_s)
        frozen = min(self._delays.steps, len(rest))
        return ActivePlan(rest[None], frozen, self.execution.jacobian) if len(rest) else None

    def _deliver(self, t_s: float) -> None:
        if self._coming is not None and t_s > self._coming[0] - self._dt_s / 2:
            _, chunk = self._coming
            self._coming = None
            self._queue.push(chunk, t_s)

    def _still(self, obs: Observation) -> Float[np.ndarray, " Da"]:
        """The last command again, or the pose before the first one."""
        if self._queue.last is not None:
            return self._queue.last.copy()
        assert self._pose is not None, "without latency there is no waiting"
        return obs.state[self._pose].astype(float)

    def _count_evaluations(self) -> None:
        count = getattr(self.policy, "evaluations", None)
        if count is None or self.evaluations is None:
            self.evaluations = None
        else:
            self.evaluations += int(np.max(np.asarray(count())))


def _pose_columns(features: Features) -> list[int] | None:
    """Where the state holds what the action commands; None when it does not."""
    if not set(features.action) <= set(features.state):
        return None
    return [features.state.index(name) for name in features.action]
