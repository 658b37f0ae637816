"""Monotonic time: stopwatches and latency statistics. Wall-clock time appears in logs only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np


@dataclass
class LatencyTracker:
    """Collects durations in seconds and reports their percentiles.

    ``clock`` is injected so that tests need no real time.
    """

    clock: Callable[[], float] = time.perf_counter
    samples_s: list[float] = field(default_factory=list)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Time the enclosed block."""
        start = self.clock()
        yield
        self.samples_s.append(self.clock() - start)

    def percentile_ms(self, q: float) -> float:
        """The q-th percentile in milliseconds; NaN without samples."""
        return float(np.percentile(self.samples_s, q) * 1e3) if self.samples_s else float("nan")
