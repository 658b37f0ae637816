"""The gates in the order in which they run, and what makes a check a gate: a record, a price, a limit, no exception."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.record import Gate, GateRecord, Metric

# By price; what the text means is asked before an expert is sent out for many episodes.
ORDER: tuple[Gate, ...] = ("G1", "G2", "G3", "G4", "G5", "G6", "G8", "G7", "G9")

Check = Callable[[Candidate], dict[str, Metric]]


@dataclass(frozen=True)
class RegisteredGate:
    """A check as a gate: called with a candidate it gives a record, whatever happens inside.

    Attributes:
        check: returns the figures behind a pass, raises GateFailure with those behind a failure.
        limit_s: processor time after which it counts as failed [s].
    """

    name: Gate
    check: Check
    limit_s: float

    def __call__(self, candidate: Candidate) -> GateRecord:
        """Judge a candidate; never raises."""
        start = _cpu_s()
        code, detail, metrics = self._outcome(candidate)
        return GateRecord(
            task=candidate.id,
            gate=self.name,
            ok=code is Code.OK,
            code=code,
            detail=detail,
            metrics=metrics,
            cost_s=round(_cpu_s() - start, 4),
        )

    def _outcome(self, candidate: Candidate) -> tuple[Code, str, dict[str, Metric]]:
        try:
            with _limited(self.limit_s):
                return Code.OK, "", self.check(candidate)
        except GateFailure as failure:
            return failure.code, _one_line(failure.detail), failure.metrics
        except _Overdue:
            return Code.TIMEOUT, f"{self.name} took more than {self.limit_s:g} s of processor time", {}
        except Exception as error:  # whatever a gate cannot judge is not certified
            return Code.ERROR, _one_line(f"{self.name} failed itself: {type(error).__name__}: {error}"), {}


_GATES: dict[Gate, RegisteredGate] = {}


def gate(name: Gate, *, limit_s: float) -> Callable[[Check], Check]:
    """Register a check as the gate of that name."""

    def register(check: Check) -> Check:
        assert name not in _GATES, f"gate {name} is registered twice"
        _GATES[name] = RegisteredGate(name, check, limit_s)
        return check

    return register


def gates(through: Gate) -> tuple[RegisteredGate, ...]:
    """The gates up to ``through``, in order."""
    import simgen.gates.checks  # noqa: F401  # registers all of them

    return tuple(_GATES[name] for name in ORDER[: ORDER.index(through) + 1])


class _Overdue(Exception):
    """The processor time of a gate is used up."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise _Overdue in the block after ``seconds`` of processor time; only in the main thread, which gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def overdue(signum, frame):
        raise _Overdue

    before = signal.signal(signal.SIGPROF, overdue)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def _cpu_s() -> float:
    """Processor time of this process and of those that it waited for [s]."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
