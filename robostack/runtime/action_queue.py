"""What is to be commanded when: chunks of actions merged by absolute time.

Action k of a chunk is due at ``t0 + k * dt`` and at no other time. A loop that runs slow therefore skips actions
instead of falling behind, and a chunk that was computed for too long loses its first actions instead of being late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError, InvalidAction
from robostack.types import ActionChunk

MODES = ("replace", "ensemble", "weighted")
_EPS = 1e-9  # of a period: sums of floating point periods fall on either side of a whole number


@dataclass
class QueueCounters:
    """What happened since the last ``clear``.

    Attributes:
        pushed: chunks accepted.
        stale: chunks of which every action was past when they came; they had no effect.
        rejected: chunks that began too far from the last command; they had no effect.
        dropped: actions of accepted chunks that were past when they came.
        taken: actions handed out.
        starved: times at which an action was asked for and none was due.
    """

    pushed: int = 0
    stale: int = 0
    rejected: int = 0
    dropped: int = 0
    taken: int = 0
    starved: int = 0


@dataclass(frozen=True)
class _Plan:
    """A chunk of one lane."""

    t0_s: float
    actions: Float[np.ndarray, "n Da"]

    def action(self, t_s: float, dt_s: float) -> Float[np.ndarray, " Da"] | None:
        k = self.index(t_s, dt_s)
        return self.actions[k] if 0 <= k < len(self.actions) else None

    def index(self, t_s: float, dt_s: float) -> int:
        return math.floor((t_s - self.t0_s) / dt_s + 0.5 + _EPS)


class ActionQueue:
    """The plan of one machine: chunks go in with the time of their first action, commands come out by the clock.

    How chunks that cover the same time are merged is ``mode``:

    ========  ==========================================================================================
    replace   the newest chunk holds from its first action on, also after its end
    ensemble  mean with weights ``exp(-m * i)``, i = 0 for the oldest (Zhao et al., arXiv 2304.13705)
    weighted  each newer chunk counts ``new_weight`` against everything before it
    ========  ==========================================================================================

    Nothing due is told as None, never filled with a repeated action: what a machine does then is the caller's business,
    and is counted. Not thread-safe: one loop owns it.
    """

    def __init__(
        self,
        dt_s: float,
        width: int,
        *,
        mode: str = "replace",
        m: float = 0.01,
        new_weight: float = 0.7,
        jump: Float[np.ndarray, " Da"] | float | None = None,
    ):
        """Empty queue.

        Args:
            dt_s: time between actions [s].
            width: Da.
            mode: one of ``MODES``.
            m: how much ``ensemble`` prefers old chunks; 0 weighs all alike.
            new_weight: of ``weighted``.
            jump: largest change from the last command to a new chunk, of all elements or of each; None for any.

        Raises:
            ConfigError: a mode that there is not.
        """
        if mode not in MODES:
            raise ConfigError(f"unknown way '{mode}' to merge chunks: use one of {', '.join(MODES)}")
        self.dt_s, self.width, self.mode = dt_s, width, mode
        self._m, self._new_weight, self._jump = m, new_weight, jump
        self.clear()

    def clear(self) -> None:
        """Forget all chunks, the last command and the counts."""
        self.counters = QueueCounters()
        self.last: Float[np.ndarray, " Da"] | None = None
        self._plans: list[_Plan] = []

    def push(self, chunk: ActionChunk, now_s: float) -> bool:
        """Merge a chunk of one lane, (n, Da) or (1, n, Da), that is ready at ``now_s``; whether it had any effect.

        Raises:
            InvalidAction: another width or period, or a value that is not finite; the plan is left as it was.
        """
        plan = _Plan(chunk.t0_s, self._checked(chunk))
        late = max(0, plan.index(now_s, self.dt_s))
        if late >= len(plan.actions):
            self.counters.stale += 1
            return False
        if self._jumps(plan.actions[late]):
            self.counters.rejected += 1
            return False
        self.counters.pushed += 1
        self.counters.dropped += late
        keep = [old for old in self._plans if self._matters(old, plan, now_s)]
        self._plans = [*keep, plan]
        return True

    def take(self, t_s: float) -> Float[np.ndarray, " Da"] | None:
        """The command that is due at ``t_s``; None, and counted, when the queue is starved."""
        action = self.due(t_s)
        if action is None:
            self.counters.starved += 1
            return None
        self.counters.taken += 1
        self.last = action
        return action.copy()

    def due(self, t_s: float) -> Float[np.ndarray, " Da"] | None:
        """What ``take`` would return, without taking it."""
        if self.mode == "replace":
            begun = [plan for plan in self._plans if plan.index(t_s, self.dt_s) >= 0]
            return begun[-1].action(t_s, self.dt_s) if begun else None
        found = [plan.action(t_s, self.dt_s) for plan in self._plans]
        actions = np.array([action for action in found if action is not None])
        return self._weights(len(actions)) @ actions if len(actions) else None

    def rest(self, t_s: float) -> Float[np.ndarray, "n Da"]:
        """What is due from ``t_s`` on until the first gap; n may be 0."""
        actions: list[np.ndarray] = []
        while (action := self.due(t_s + len(actions) * self.dt_s)) is not None:
            actions.append(action)
        return np.array(actions).reshape(len(actions), self.width)

    def _weights(self, n: int) -> Float[np.ndarray, " n"]:
        """Weights of n actions for the same time, oldest first; their sum is 1."""
        if self.mode == "ensemble":
            w = np.exp(-self._m * np.arange(n))
            return w / w.sum()
        w = self._new_weight * (1 - self._new_weight) ** np.arange(n)[::-1]
        w[:1] /= self._new_weight
        return w

    def _matters(self, old: _Plan, new: _Plan, now_s: float) -> bool:
        """Whether an old plan can still be asked for once a new one is there."""
        if self.mode == "replace" and new.index(now_s, self.dt_s) >= 0:
            return False
        return old.index(now_s, self.dt_s) < len(old.actions)

    def _checked(self, chunk: ActionChunk) -> Float[np.ndarray, "n Da"]:
        actions = np.asarray(chunk.actions, dtype=float)
        if actions.ndim == 3 and len(actions) == 1:
            actions = actions[0]
        if actions.ndim != 2 or actions.shape[1] != self.width:
            raise InvalidAction(
                f"a chunk of shape {chunk.actions.shape} does not fit a machine with {self.width} action columns: "
                f"(steps, {self.width}) is needed"
            )
        if not math.isclose(chunk.dt_s, self.dt_s, rel_tol=1e-6):
            raise InvalidAction(
                f"a chunk with {chunk.dt_s:g} s between actions does not fit a loop of {self.dt_s:g} s: "
                "use the rate that the policy was trained at"
            )
        if not (np.isfinite(actions).all() and math.isfinite(chunk.t0_s)):
            raise InvalidAction("a chunk has NaN or infinite values; nothing of it was queued")
        return actions

    def _jumps(self, first: Float[np.ndarray, " Da"]) -> bool:
        return self._jump is not None and self.last is not None and bool((np.abs(first - self.last) > self._jump).any())
