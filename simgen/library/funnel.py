"""The funnel of the gates as a table of a page."""

from __future__ import annotations

from robostack.evaluation.html import Html, join, table, tag
from robostack.evaluation.page import absent, meter
from simgen.gates.funnel import Funnel
from simgen.gates.record import GATES


def funnel_table(funnel: Funnel) -> Html:
    """One row per gate: what entered, what passed, at which price, and what it refused for."""
    if not funnel.rows:
        return absent("No gate has judged anything yet.")
    cells = (
        (
            join([tag("b", row.gate), f" {GATES[row.gate]}"]),
            f"{row.entered}",
            f"{row.passed}",
            join([f"{row.share:.1%}", meter(row.share)]),
            _seconds(row.cost_s),
            join([join([tag("code", code), f" {count}"]) for code, count in row.codes], ", "),
        )
        for row in funnel.rows
    )
    return table(("Gate", "Tasks in", "Passed", "Share", "Median cost", "Refused for"), cells)


def _seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
