"""The plots of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robostack.evaluation.bench.result import CellResult
from robostack.evaluation.plots import COLORS, figure_of, plain_log_ticks, svg_of

_MARKS = "osD^vPX*<>hd"
_ROW_IN = 0.21
_PLACES = ((6, 5), (6, -11), (-12, 5), (-12, -11), (0, 9), (0, -16))  # Of a number beside its point [pt].


def success_against_latency(name: str, rows: Sequence[CellResult]) -> str:
    """Success rate with Wilson's interval over the median time of a decision; one marker per policy.

    Cells are numbered in the order of the table, because a dozen labels would cover the points.
    """
    policies = list(dict.fromkeys(row.cell.split(":")[0] for row in rows))
    with figure_of(f"bench-{name}", height=3.2, width=8.4) as (figure, axes):
        for number, row in enumerate(rows, 1):
            policy = row.cell.split(":")[0]
            color = COLORS["orange" if row.comparison is None else "blue"]
            axes.plot([row.p50_ms] * 2, [row.low, row.high], color=color, linewidth=3, alpha=0.3, solid_capstyle="butt")
            mark = _MARKS[policies.index(policy) % len(_MARKS)]
            axes.plot([row.p50_ms], [row.rate], mark, color=color, markersize=5)
            place = _PLACES[_neighbours(row, rows[: number - 1]) % len(_PLACES)]
            axes.annotate(str(number), (row.p50_ms, row.rate), place, textcoords="offset points", size=8)
        for index, policy in enumerate(policies):
            axes.plot([], [], _MARKS[index % len(_MARKS)], color=COLORS["muted"], markersize=5, label=policy)
        axes.set_xscale("log")
        low, high = min(row.p50_ms for row in rows), max(row.p50_ms for row in rows)
        axes.set_xlim(0.7 * low, 1.4 * high)
        plain_log_ticks(axes.xaxis, 0.7 * low, 1.4 * high)
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel("median time of a decision [ms]; numbers are the rows of the table")
        axes.set_ylabel("success")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg_of(figure, f"bench-{name}", "Success rate over the median latency of a decision, per cell")


def _neighbours(row: CellResult, others: Sequence[CellResult]) -> int:
    """How many of the others are so close that their numbers would lie on each other."""
    return sum(abs(math.log(row.p50_ms / o.p50_ms)) < 0.15 and abs(row.rate - o.rate) < 0.06 for o in others)


def write_overview(path: Path, rows: Sequence[CellResult]) -> None:
    """A picture (PNG) of all cells, one per line: success on each task on the left, time of a decision on the right.

    References are orange, as in the other plots; a task has the same marker everywhere.
    """
    cells = list(dict.fromkeys(row.cell for row in rows))
    tasks = list(dict.fromkeys(row.task for row in rows))
    with figure_of("bench-overview", height=0.9 + _ROW_IN * len(cells), width=9.0) as (figure, axes):
        figure.clear()
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for row in rows:
            index = tasks.index(row.task)
            line = cells.index(row.cell) + 0.6 * ((index + 0.5) / len(tasks) - 0.5)
            color = COLORS["orange" if row.comparison is None else "blue"]
            left.plot([row.low, row.high], [line] * 2, color=color, linewidth=2, alpha=0.3, solid_capstyle="butt")
            for axes, value in ((left, row.rate), (right, row.p50_ms)):
                axes.plot([value], [line], _MARKS[index % len(_MARKS)], color=color, markersize=4)
        _label(left, right, cells, rows)
        if len(tasks) > 1:
            for index, task in enumerate(tasks):
                right.plot([], [], _MARKS[index % len(_MARKS)], color=COLORS["muted"], markersize=4, label=task)
            right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, format="png", dpi=150, facecolor="white", metadata={"Software": None})


def _label(left: Any, right: Any, cells: Sequence[str], rows: Sequence[CellResult]) -> None:
    left.set_yticks(range(len(cells)), cells, fontsize=8)
    left.set_ylim(len(cells) - 0.4, -0.6)
    left.set_xlim(-0.02, 1.02)
    left.set_xlabel(f"success, n = {rows[0].n} per cell and task, 95 % intervals")
    right.set_xscale("log")
    low, high = (bound(row.p50_ms for row in rows) for bound in (min, max))
    right.set_xlim(0.7 * low, 1.4 * high)
    plain_log_ticks(right.xaxis, 0.7 * low, 1.4 * high)
    right.set_xlabel("median time of a decision [ms]")
    for axes in (left, right):
        axes.grid(axis="x")
