"""The outcome of a comparison: one record per task and cell, and ``bench.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from robostack.evaluation.bench.latency import Cost
from robostack.evaluation.bench.suite import Cell
from robostack.evaluation.paired import Paired, PairedScores
from robostack.evaluation.schema import Count, Metrics, Positive, Rate
from robostack.evaluation.stats import wilson

ALPHA = 0.05  # one-sided level of the test for non-inferiority
Verdict = Literal["reference", "better", "not worse", "no contrast", "undecided", "worse"]


class Difference(Metrics):
    """What a cell has above another on the same seeds.

    Attributes:
        difference: this one's mean less the other's.
        low, high: 95 % interval of it.
        bound: lower bound at one-sided 5 %; what is held against the margin.
        non_inferior: ``bound`` lies above the negative margin.
    """

    difference: float
    low: float
    high: float
    bound: float
    non_inferior: bool

    @property
    def verdict(self) -> Verdict:
        """A word on it."""
        if self.low > 0:
            return "better"
        if self.non_inferior:
            return "not worse"
        return "worse" if self.high < 0 else "undecided"


class Comparison(Difference):
    """A cell against another on the same seeds: success rates, by Newcombe's interval.

    Attributes:
        against: key of the other cell.
        mcnemar: p-value of "neither is better".
        sensitive: a cell that always fails would not pass as not worse (what trials call assay sensitivity).
        score: the same of the environment's own measure, by Student's interval; None where it has none.
    """

    against: str
    mcnemar: Rate
    sensitive: bool
    score: Difference | None = None

    @property
    def verdict(self) -> Verdict:
        """A word on it; beside a reference that hardly ever succeeds, only more successes say anything."""
        found = super().verdict
        return "no contrast" if found == "not worse" and not self.sensitive else found


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
        return self.comparison.verdict if self.comparison else "reference"


class BenchResult(Metrics):
    """``bench.json``.

    Attributes:
        machine: what it ran on, in words.
        outcomes: task -> cell -> a 1 or a 0 for every seed, in the order of the seeds.
    """

    schema_version: Literal["robostack.bench/3"] = "robostack.bench/3"
    robostack: str
    suite: str
    machine: str
    margin: Rate
    threads: Count
    rows: Annotated[tuple[CellResult, ...], Field(min_length=1)]
    outcomes: dict[str, dict[str, Annotated[str, Field(pattern="^[01]+$")]]]

    @model_validator(mode="after")
    def _whole(self) -> BenchResult:
        present = {(row.task, row.cell) for row in self.rows}
        if present != {(task, cell) for task, cells in self.outcomes.items() for cell in cells}:
            raise ValueError("rows and outcomes are not of the same cells")
        for row in self.rows:
            if row.comparison and (row.task, row.comparison.against) not in present:
                raise ValueError(f"{row.cell} is held against {row.comparison.against}, which has no row")
        return self

    @property
    def episodes(self) -> int:
        """Of each cell."""
        return self.rows[0].n


@dataclass(frozen=True)
class Outcome:
    """What the episodes of a cell came to.

    Attributes:
        successes: per seed.
        failures: code -> count.
        decisions, steps: over all episodes.
        evaluations: of the network, over all episodes; None where the policy does not tell.
        scores: the environment's own measure, per seed; None where it has none.
    """

    successes: Sequence[bool]
    failures: Mapping[str, int]
    decisions: int
    steps: int
    evaluations: float | None
    scores: Sequence[float] | None = None

    @property
    def bits(self) -> str:
        """``successes`` as ones and zeros."""
        return "".join("01"[success] for success in self.successes)


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
        score=fmean(own.scores) if own.scores else None,
    )


def _compare(against: str, other: Outcome, own: Outcome, margin: float) -> Comparison:
    pair = Paired.of(other.successes, own.successes)
    failing = Paired.of(other.successes, [False] * len(own.successes))
    return Comparison(
        **_difference(pair, margin),
        against=against,
        mcnemar=pair.mcnemar(),
        sensitive=not failing.non_inferior(margin, ALPHA),
        score=_compare_scores(other.scores, own.scores, margin),
    )


def _compare_scores(other: Sequence[float] | None, own: Sequence[float] | None, margin: float) -> Difference | None:
    if other is None or own is None or len(own) < 2:
        return None
    return Difference(**_difference(PairedScores.of(other, own), margin))


def _difference(pair: Paired | PairedScores, margin: float) -> dict[str, Any]:
    low, high = pair.interval()
    return {
        "difference": pair.difference,
        "low": low,
        "high": high,
        "bound": pair.interval(1 - 2 * ALPHA).low,
        "non_inferior": pair.non_inferior(margin, ALPHA),
    }
