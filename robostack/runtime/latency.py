"""How long a decision takes, in control steps: measured on this machine, or as told."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from robostack.errors import ConfigError

_USAGE = "use none, fixed:<milliseconds>, measured or measured:<factor>"
_LONGEST_MS = 60_000.0


@dataclass(frozen=True)
class LatencyModel:
    """What the time of a decision is taken to be while the world goes on.

    Simulated time stands still during inference, so that an evaluation without a latency flatters slow policies.

    Attributes:
        kind: ``none``: decisions take no time. ``fixed``: each takes ``value`` milliseconds, on any machine.
            ``measured``: each takes its wall time here, times ``value`` for a slower or faster computer; two
            evaluations then differ as two days on a robot do.
        value: milliseconds or factor.
    """

    kind: str = "none"
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> LatencyModel:
        """From ``none``, ``fixed:150``, ``measured``, ``measured:2``; raises ConfigError for anything else."""
        kind, colon, given = text.partition(":")
        if text == "none":
            return cls()
        if text == "measured":
            return cls("measured", 1.0)
        if kind not in ("fixed", "measured") or not colon:
            raise ConfigError(f"unknown latency '{text}': {_USAGE}")
        try:
            value = float(given)
        except ValueError:
            raise ConfigError(f"latency '{text}' has no number after the colon: {_USAGE}") from None
        least = value >= 0 if kind == "fixed" else value > 0
        if not least or not value <= _LONGEST_MS:  # NaN compares False
            raise ConfigError(f"latency '{text}' is out of range: positive, and at most {_LONGEST_MS:g}; {_USAGE}")
        return cls(kind, value)

    def __str__(self) -> str:
        if self.kind == "none" or (self.kind == "measured" and self.value == 1.0):
            return self.kind
        return f"{self.kind}:{self.value:g}"

    def steps(self, wall_s: float, dt_s: float) -> int:
        """Control steps that begin before the answer is there, of a decision that took ``wall_s`` here.

        Rounded down: what takes less than one period is sent within that period (Black et al., arXiv 2506.07339).
        """
        seconds = {"none": 0.0, "fixed": self.value / 1e3, "measured": self.value * wall_s}[self.kind]
        return math.floor(seconds / dt_s + 1e-6)


class DelayEstimate:
    """What the next delay will be at most: the largest of the last ``window`` ones.

    The window forgets a single hiccup, which a maximum over everything would carry for ever.
    """

    def __init__(self, window: int = 50):
        self._recent: deque[int] = deque(maxlen=window)

    def add(self, steps: int) -> None:
        """Note a delay [control steps]."""
        self._recent.append(steps)

    def clear(self) -> None:
        """Forget all of them."""
        self._recent.clear()

    @property
    def steps(self) -> int:
        """The estimate [control steps]; 0 before the first delay."""
        return max(self._recent, default=0)
