"""What a decision costs: time, arithmetic, weights; all cells in one process, turn by turn.

Turns are interleaved, so that a busy or a throttled machine slows all cells alike. Observations are those of recorded
episodes at the rate at which the cell decides, so that a warm start is as good as it is on the robot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from robostack.data.arrays import EpisodeArrays
from robostack.errors import DataError
from robostack.types import Observation

_WARM_UP = 3


@dataclass(frozen=True)
class Cost:
    """Of one decision with one lane.

    Attributes:
        p50_ms, p99_ms: wall time.
        params: weights of the policy.
        weights_mib: memory of the weights and normalisers.
        gflops: floating-point operations of matrix products, convolutions and attention, 2 per multiply-add.
        evaluations: network evaluations, averaged over the decisions; None where the policy does not tell.
    """

    p50_ms: float
    p99_ms: float
    params: int
    weights_mib: float
    gflops: float
    evaluations: float | None


@dataclass(frozen=True)
class Timed:
    """A policy to time: loaded, and how many control steps lie between its decisions.

    Attributes:
        plain: the same policy without acceleration, whose operations torch can count.
    """

    key: str
    policy: Any
    stride: int
    plain: Any


def measure(entries: Sequence[Timed], arrays: EpisodeArrays, decisions: int, threads: int) -> dict[str, Cost]:
    """Time ``decisions`` decisions of each entry on recorded observations, in turns.

    Raises:
        DataError: the longest episode is too short for one decision.
    """
    with _pinned(threads):
        runs = [_Run(entry, arrays) for entry in entries]
        samples: list[list[float]] = [[] for _ in entries]
        used: list[list[float]] = [[] for _ in entries]
        for turn in range(_WARM_UP + decisions):
            for run, times, counts in zip(runs, samples, used, strict=True):
                seconds, evaluations = run.decide()
                if turn >= _WARM_UP:
                    times.append(seconds)
                    counts.append(evaluations)
        return {
            run.entry.key: _cost(run, np.array(times) * 1e3, counts)
            for run, times, counts in zip(runs, samples, used, strict=True)
        }


class _Run:
    """One policy walking through recorded episodes."""

    def __init__(self, entry: Timed, arrays: EpisodeArrays):
        self.entry, self.arrays, self.episode = entry, arrays, 0
        starts = np.concatenate([[0], arrays.ends[:-1]])
        self.spans = [
            (int(a), int(b)) for a, b in zip(starts, arrays.ends, strict=True) if b - a >= entry.policy.horizon.To
        ]
        if not self.spans:
            raise DataError(f"no episode has the {entry.policy.horizon.To} steps of one decision: record others")
        self._begin()

    def _begin(self) -> None:
        self.entry.policy.reset(np.ones(1, bool), np.array([self.episode]))
        start, self.stop = self.spans[self.episode % len(self.spans)]
        self.start, self.row = start, start + self.entry.policy.horizon.To - 1
        self.episode += 1

    def observation(self) -> Observation:
        """The window that ends at the present row; a copy, since datasets are read-only."""
        rows = slice(self.row - self.entry.policy.horizon.To + 1, self.row + 1)
        t_s = (self.row - self.start) / self.arrays.features.rate_hz
        return Observation(
            t_s,
            self.arrays.state[None, rows].copy(),
            self.arrays.environment_state[None, rows].copy(),
            language=self.arrays.language,
        )

    def decide(self) -> tuple[float, float]:
        """Seconds and network evaluations (NaN if unknown) of the next decision."""
        if self.row >= self.stop:
            self._begin()
        obs = self.observation()
        begin = time.perf_counter()
        self.entry.policy.infer(obs)
        seconds = time.perf_counter() - begin
        self.row += self.entry.stride
        count = getattr(self.entry.policy, "evaluations", None)
        return seconds, float("nan") if count is None else float(np.mean(np.asarray(count())))


def _cost(run: _Run, milliseconds: np.ndarray, evaluations: Sequence[float]) -> Cost:
    policy = run.entry.policy
    p50, p99 = np.percentile(milliseconds, [50, 99])
    tensors = policy.state_dict().values()
    known = not np.isnan(evaluations).any()
    return Cost(
        p50_ms=float(p50),
        p99_ms=float(p99),
        params=sum(p.numel() for p in policy.parameters()),
        weights_mib=sum(t.numel() * t.element_size() for t in tensors) / 2**20,
        gflops=_gflops(run.entry.plain, run),
        evaluations=float(np.mean(evaluations)) if known else None,
    )


def _gflops(plain: Any, like: _Run) -> float:
    """Of an episode's second decision: a warm start where there is one."""
    from torch.utils.flop_counter import FlopCounterMode

    run = _Run(Timed(like.entry.key, plain, like.entry.stride, plain), like.arrays)
    run.decide()
    if run.row >= run.stop:
        run._begin()
        run.decide()
    with FlopCounterMode(display=False) as counter:
        plain.infer(run.observation())
    return counter.get_total_flops() / 1e9


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """So many threads of torch, on as many cores, where the system lets us choose."""
    import torch

    before, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(before)
