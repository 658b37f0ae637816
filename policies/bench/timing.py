"""Contenders take turns in one process on the same cores; the machine's limits put their times in place."""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from policies.accel.native import huge

log = logging.getLogger(__name__)

Clock = Callable[[], float]
CLOCKS: Mapping[str, Clock] = {"wall": time.perf_counter, "cpu": time.thread_time}


@dataclass(frozen=True)
class Work:
    """What a decision asks of a machine.

    Attributes:
        gflop: arithmetic of one network evaluation, in 1e9 operations.
        gbyte: weights that one evaluation reads, in 1e9 bytes.
        evaluations: number of evaluations.
    """

    gflop: float
    gbyte: float
    evaluations: int


@dataclass(frozen=True)
class Contender:
    """Something that takes decisions.

    Attributes:
        name: in the table.
        decide: takes one, and returns its chunk.
        work: what that asks of the machine.
        twin: contender whose chunk this one's is compared with.
        share: part of a decision that ``decide`` really is; times are divided by it.
        rounds: takes part in the first rounds only; None in all.
    """

    name: str
    decide: Callable[[], Tensor]
    work: Work
    twin: str | None = None
    share: float = 1.0
    rounds: int | None = None


@dataclass(frozen=True)
class Row:
    """What was measured of a contender.

    Attributes:
        p50_ms, p99_ms, best_ms: of a decision.
        speedups: per reference, the median over rounds of its time over this one's.
        difference: largest deviation of the chunk from the twin's; None without one.
        gflop, gbyte: arithmetic and weights read in a decision.
        bound_ms: the larger of the times that these take on this machine.
    """

    name: str
    p50_ms: float
    p99_ms: float
    best_ms: float
    speedups: dict[str, float]
    difference: float | None
    gflop: float
    gbyte: float
    bound_ms: float


class Machine:
    """The fastest matrix product and the fastest reading of memory."""

    def __init__(self, clock: Clock):
        self._clock = clock
        a = torch.randn(1024, 1024)
        self.gflops = 2 * 1024**3 / self._best(lambda: a @ a) / 1e9

    def gbytes(self, size: float) -> float:
        """Gigabytes a second from a buffer of ``size`` GB on huge pages; caches may hold it, as they may weights."""
        buffer = huge(max(1024, round(size * 1e9 / 4)))
        return 4 * len(buffer) / self._best(buffer.sum) / 1e9

    def bound_ms(self, work: Work) -> float:
        """What is left when either arithmetic or reading weights is all that takes time."""
        return 1e3 * work.evaluations * max(work.gflop / self.gflops, work.gbyte / self.gbytes(work.gbyte))

    def _best(self, function: Callable[[], object], repeats: int = 10) -> float:
        function()
        return min(_timed(function, self._clock) for _ in range(repeats))


class _Touched(TorchDispatchMode):
    """Remembers the storages that operations have read."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        self.storages |= {x.untyped_storage().data_ptr() for x in leaves if isinstance(x, Tensor)}
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def work_of(evaluate: Callable[[], Tensor], network: nn.Module, evaluations: int) -> Work:
    """Count an evaluation of a network: matrix products and convolutions, and the parameters that take part."""
    with FlopCounterMode(display=False) as counter, _Touched() as touched:
        evaluate()
    read = {p.untyped_storage().data_ptr(): p for p in network.parameters()}
    size = sum(p.numel() * p.element_size() for at, p in read.items() if at in touched.storages)
    return Work(counter.get_total_flops() / 1e9, size / 1e9, evaluations)


@torch.inference_mode()
def measure(
    contenders: Sequence[Contender], references: Sequence[str], rounds: int, clock: Clock = time.perf_counter
) -> list[Row]:
    """Time all contenders in turn; speeds are compared with those of the ``references``."""
    chunks = {c.name: c.decide() for c in contenders if c.rounds is None}  # Compiles, and fills caches.
    times: dict[str, list[float]] = {c.name: [] for c in contenders}
    for i in range(rounds):
        for c in contenders:
            if c.rounds is None or i < c.rounds:
                times[c.name].append(1e3 * _timed(c.decide, clock) / c.share)
    machine = Machine(clock)
    return [_row(c, times, references, chunks, machine) for c in contenders]


def _row(
    c: Contender,
    times: Mapping[str, list[float]],
    references: Sequence[str],
    chunks: Mapping[str, Tensor],
    machine: Machine,
) -> Row:
    taken, n = times[c.name], c.work.evaluations
    return Row(
        c.name,
        statistics.median(taken),
        float(np.percentile(taken, 99)),
        min(taken),
        {name: statistics.median(a / b for a, b in zip(times[name], taken, strict=False)) for name in references},
        None if c.twin is None else float((chunks[c.name] - chunks[c.twin]).abs().max()),
        n * c.work.gflop,
        n * c.work.gbyte,
        machine.bound_ms(c.work),
    )


def _timed(function: Callable[[], object], clock: Clock) -> float:
    start = clock()
    function()
    return clock() - start


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """What every comparison can be told."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--threads", type=int, nargs="+", default=[1])
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: on a shared machine, 1 thread")
    made.add_argument("--out", type=Path, help="also write JSON")
    return made


def start(options: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and let the log appear; before any library sets up a log of its own."""
    args = options.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    return args


def report(args: argparse.Namespace, contenders: Sequence[Contender], references: Sequence[str]) -> None:
    """Measure with each number of threads, log a table, and write JSON where asked to."""
    cores, threads_before, found = sorted(os.sched_getaffinity(0)), torch.get_num_threads(), {}
    try:
        for threads in args.threads:
            os.sched_setaffinity(0, cores[:threads])
            torch.set_num_threads(threads)
            rows = measure(contenders, references, args.rounds, CLOCKS[args.clock])
            found[threads] = [asdict(row) for row in rows]
            _show(threads, rows, references)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads_before)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


def _show(threads: int, rows: Sequence[Row], references: Sequence[str]) -> None:
    width = max(len(row.name) for row in rows)
    letters = {name: chr(ord("A") + i) for i, name in enumerate(references)}
    log.info("%d thread(s); %s", threads, ", ".join(f"{letter} is '{name}'" for name, letter in letters.items()))
    for row in rows:
        speeds = "  ".join(f"{row.speedups[name]:8.2f} x {letter}" for name, letter in letters.items())
        differs = "" if row.difference is None else f"  differs by {row.difference:.1e}"
        log.info(
            "%-*s  p50 %9.2f ms  p99 %9.2f ms  best %9.2f ms  %s  bound %8.2f ms (%8.3f GFLOP, %8.3f GB)%s",
            width, row.name, row.p50_ms, row.p99_ms, row.best_ms, speeds, row.bound_ms, row.gflop, row.gbyte, differs,
        )  # fmt: skip
