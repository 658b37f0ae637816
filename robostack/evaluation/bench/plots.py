"""The plot of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.evaluation.bench.result import CellResult
from robostack.evaluation.plots import COLORS, figure_of, plain_log_ticks, svg_of

_MARKS = "osD^vPX*<>hd"


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
            axes.annotate(str(number), (row.p50_ms, row.rate), (6, 5), textcoords="offset points", size=8)
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
