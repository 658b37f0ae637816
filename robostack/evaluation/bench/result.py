"""The outcome of a comparison: one record per task and cell, and ``bench.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from robostack.evaluation.bench.latency import Cost
from robostack.evaluation.bench.suite import Cell
from robostack.evaluation.paired import Paired
from robostack.evaluation.schema import Count, Metrics, Positive, Rate
from robostack.evaluation.stats import wilson

ALPHA = 0.05  # one-sided level of the test for non-inferiority
Verdict = Literal["reference", "not worse", "undecided", "worse"]


class Comparison(Metrics):
    """A cell against another on the same seeds.

    Attributes:
        against: key of the other cell.
        difference: of the success rates, this one's less the other's.
        low, high: Newcombe's 95 % interval of it.
        bound: lower bound at one-sided 5 %; what is held against the margin.
        mcnemar: p-value of "neither is better".
        non_inferior: ``bound`` lies above the negative margin.
    """

    against: str
    difference: Annotated[float, Field(ge=-1, le=1)]
    low: Annotated[float, Field(ge=-1, le=1)]
    high: Annotated[float, Field(ge=-1, le=1)]
    bound: Annotated[float, Field(ge=-1, le=1)]
    mcnemar: Rate
    non_inferior: bool


class CellResult(Metrics):
    """A cell on one task.

    Attributes:
        per_decision, per_action: network evaluations; None where the policy does not tell.
        score: mean of the environment's own measure of an episode; None where it has none.
    """

    task: str
    cell: str
    n: Count
    k: Count
    low: Rate
    high: Rate
    p50_ms: Positive
    p99_ms: Positive
    params: Count
    weights_mib: Positive
    gflops: Positive
    per_decision: Positive | None = None
    per_action: Positive | None = None
    failures: dict[str, Count]
    comparison: Comparison | None = None
    score: float | None = None

    @property
    def rate(self) -> float:
        """Success rate."""
        return self.k / self.n

    @property
    def verdict(self) -> Verdict:
        """A word on the comparison."""
        if self.comparison is None:
            return "reference"
        if self.comparison.non_inferior:
            return "not worse"
        return "worse" if self.comparison.high < 0 else "undecided"


class BenchResult(Metrics):
    """``bench.json``.

    Attributes:
        machine: what it ran on, in words.
        outcomes: task -> cell -> success per seed, in the order of the seeds.
    """

    schema_version: Literal["robostack.bench/1"] = "robostack.bench/1"
    robostack: str
    suite: str
    machine: str
    margin: Rate
    threads: Count
    rows: tuple[CellResult, ...]
    outcomes: dict[str, dict[str, list[bool]]]


@dataclass(frozen=True)
class Outcome:
    """What the episodes of a cell came to.

    Attributes:
        successes: per seed.
        failures: code -> count.
        decisions, steps: over all episodes.
        evaluations: of the network, over all episodes; None where the policy does not tell.
        score: mean over the episodes; None where the environment has none.
    """

    successes: Sequence[bool]
    failures: Mapping[str, int]
    decisions: int
    steps: int
    evaluations: float | None
    score: float | None = None


def row(task: str, cell: Cell, outcomes: Mapping[str, Outcome], cost: Cost, margin: float) -> CellResult:
    """The record of a cell; ``outcomes`` holds all cells of the task by key."""
    own = outcomes[cell.key]
    k, n = sum(own.successes), len(own.successes)
    low, high = wilson(k, n)
    evaluations = own.evaluations
    return CellResult(
        task=task,
        cell=cell.key,
        n=n,
        k=k,
        low=low,
        high=high,
        p50_ms=cost.p50_ms,
        p99_ms=cost.p99_ms,
        params=cost.params,
        weights_mib=cost.weights_mib,
        gflops=cost.gflops,
        per_decision=evaluations / own.decisions if evaluations is not None and own.decisions else None,
        per_action=evaluations / own.steps if evaluations is not None and own.steps else None,
        failures=dict(own.failures),
        comparison=_compare(cell.against, outcomes[cell.against], own, margin) if cell.against else None,
        score=own.score,
    )


def _compare(against: str, other: Outcome, own: Outcome, margin: float) -> Comparison:
    pair = Paired.of(list(other.successes), list(own.successes))
    low, high = pair.interval()
    return Comparison(
        against=against,
        difference=pair.difference,
        low=low,
        high=high,
        bound=pair.interval(1 - 2 * ALPHA).low,
        mcnemar=pair.mcnemar(),
        non_inferior=pair.non_inferior(margin, ALPHA),
    )
