"""How many tasks each gate let through, at what cost, and why it refused the others."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from robostack.evaluation.html import Html, join, table, tag
from robostack.evaluation.page import absent, meter
from simgen.gates.record import GATES, GateRecord


@dataclass(frozen=True)
class Row:
    """One gate over many tasks.

    Attributes:
        entered, passed: tasks.
        median_s: median processor time [s].
        codes: (code, tasks that it refused), most frequent first.
    """

    gate: str
    entered: int
    passed: int
    median_s: float
    codes: tuple[tuple[str, int], ...]


def rows(records: Iterable[GateRecord]) -> tuple[Row, ...]:
    """One row per gate that judged anything, in the order of the gates."""
    by_gate: dict[str, list[GateRecord]] = defaultdict(list)
    for record in records:
        by_gate[record.gate].append(record)
    return tuple(
        Row(
            gate,
            len(found),
            sum(record.ok for record in found),
            statistics.median(record.cost_s for record in found),
            tuple(Counter(record.code for record in found if not record.ok).most_common()),
        )
        for gate in GATES
        if (found := by_gate[gate])
    )


def as_text(found: Iterable[Row]) -> list[str]:
    """Lines for a terminal."""
    lines = [f"{'gate':<5}{'what it asks':<32}{'in':>6}{'passed':>8}{'share':>8}{'median':>10}  refused"]
    for row in found:
        codes = ", ".join(f"{code} {count}" for code, count in row.codes[:4])
        share = f"{row.passed / row.entered:.0%}"
        lines.append(
            f"{row.gate:<5}{_title(row.gate):<32}{row.entered:>6}{row.passed:>8}{share:>8}{_seconds(row.median_s):>10}"
            f"  {codes}".rstrip()
        )
    return lines


def as_html(found: tuple[Row, ...]) -> Html:
    """A table for a page."""
    if not found:
        return absent("No gate has judged anything yet.")
    cells = (
        (
            join([tag("b", row.gate), f" {_title(row.gate)}"]),
            f"{row.entered}",
            f"{row.passed}",
            join([f"{row.passed / row.entered:.1%}", meter(row.passed / row.entered)]),
            _seconds(row.median_s),
            join([join([tag("code", code), f" {count}"]) for code, count in row.codes[:6]], ", "),
        )
        for row in found
    )
    return table(("Gate", "Tasks in", "Passed", "Share", "Median cost", "Refused with"), cells)


def _title(gate: str) -> str:
    return next(title for name, title in GATES.items() if name == gate)


def _seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
