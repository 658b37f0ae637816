"""The plots of a comparison."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from robostack.evaluation.bench.result import CellResult, Verdict
from robostack.evaluation.plots import COLORS, figure_of, plain_log_ticks, svg_of

_MARKS = "osD^vPX*<>hd"
_VERDICTS: dict[Verdict, tuple[str, str, bool]] = {  # shape, colour, filled
    "reference": ("D", "orange", True),
    "better": ("^", "blue", True),
    "not worse": ("o", "blue", True),
    "no contrast": ("s", "muted", False),
    "undecided": ("o", "muted", False),
    "worse": ("v", "ink", True),
}
_ROW_IN = 0.21
_OVERVIEW = "bench-overview"
_NUMBER_PT, _AXES_PT = (12.0, 9.0), (430.0, 160.0)  # Width and height of a number; of the axes, success from 0 to 1.
_WAYS = ((0.0, -1.0), (1.2, 0.0), (-1.2, 0.0), (0.0, 1.0), (0.9, -0.7), (-0.9, -0.7), (0.9, 0.7), (-0.9, 0.7))


def success_against_latency(name: str, rows: Sequence[CellResult]) -> str:
    """Success rate with Wilson's interval over the median time of a decision; one marker per policy.

    Cells are numbered in the order of the table, because a dozen labels would cover the points.
    """
    policies, offsets = list(dict.fromkeys(row.cell.split(":")[0] for row in rows)), _offsets(rows)
    with figure_of(f"bench-{name}", height=3.2, width=8.4) as (figure, axes):
        for number, row in enumerate(rows, 1):
            policy = row.cell.split(":")[0]
            color = COLORS["orange" if row.comparison is None else "blue"]
            axes.plot([row.p50_ms] * 2, [row.low, row.high], color=color, linewidth=3, alpha=0.3, solid_capstyle="butt")
            mark = _MARKS[policies.index(policy) % len(_MARKS)]
            axes.plot([row.p50_ms], [row.rate], mark, color=color, markersize=5)
            at = row.p50_ms, row.rate
            axes.annotate(
                str(number), at, offsets[row.cell], textcoords="offset points", size=8, ha="center", va="center"
            )
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


def _offsets(rows: Sequence[CellResult]) -> dict[str, tuple[float, float]]:
    """Where the number of a cell is to stand, seen from its point [pt]: as near as it can without covering anything."""
    first, last = (math.log(bound(row.p50_ms for row in rows)) for bound in (min, max))
    scale = _AXES_PT[0] / max(last - first + math.log(2), 1.0)  # The axis is wider than its points by this much.
    points = {row.cell: (scale * math.log(row.p50_ms), _AXES_PT[1] * row.rate) for row in rows}
    taken = list(points.values())
    offsets = {}
    for cell, (x, y) in points.items():
        tried = ((r * dx, r * dy) for r in itertools.count(10.0, 3.0) for dx, dy in _WAYS if _inside(y + r * dy))
        offsets[cell] = next((dx, dy) for dx, dy in tried if not any(_covers((x + dx, y + dy), at) for at in taken))
        taken.append((x + offsets[cell][0], y + offsets[cell][1]))
    return offsets


def _inside(y: float) -> bool:
    return 0 <= y <= _AXES_PT[1] + _NUMBER_PT[1] / 2


def _covers(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < _NUMBER_PT[0] and abs(one[1] - other[1]) < _NUMBER_PT[1]


def write_overview(path: Path, rows: Sequence[CellResult]) -> None:
    """``overview`` as a picture (PNG)."""
    with _overview(rows) as figure:
        figure.savefig(path, format="png", dpi=150, facecolor="white", metadata={"Software": None})


def overview(rows: Sequence[CellResult]) -> str:
    """All cells, one per line: success on each task, then the time of a decision.

    The mark of a point says how it compares with its reference, whose rate is a bar in its line.
    """
    with _overview(rows) as figure:
        return svg_of(figure, _OVERVIEW, "Success of every cell on every task, and the median time of its decisions")


@contextmanager
def _overview(rows: Sequence[CellResult]) -> Iterator[Any]:
    cells = list(dict.fromkeys(row.cell for row in rows))
    tasks = list(dict.fromkeys(row.task for row in rows))
    size = {"height": 1.15 + _ROW_IN * len(cells), "width": 5.0 + 1.7 * len(tasks)}
    with figure_of(_OVERVIEW, **size) as (figure, axes):
        figure.clear()
        *panels, clock = figure.subplots(1, len(tasks) + 1, sharey=True, width_ratios=[1.0] * len(tasks) + [1.3])
        for task, axes in zip(tasks, panels, strict=True):
            _panel(axes, task, cells, {row.cell: row for row in rows if row.task == task})
        for line, cell in enumerate(cells):
            times = [row.p50_ms for row in rows if row.cell == cell]
            clock.plot([min(times), max(times)], [line] * 2, color=COLORS["ink"], linewidth=2, alpha=0.3)
            clock.plot([median(times)], [line], "o", color=COLORS["ink"], markersize=4)
        _clock(clock, cells, rows)
        _key(figure, {row.verdict for row in rows}, rows[0].n)
        yield figure


def _panel(axes: Any, task: str, cells: Sequence[str], rows: Mapping[str, CellResult]) -> None:
    """Success on one task."""
    for line, row in ((line, rows[cell]) for line, cell in enumerate(cells) if cell in rows):
        mark = _mark(row.verdict)
        axes.plot([row.low, row.high], [line] * 2, color=mark["color"], linewidth=2, alpha=0.3, solid_capstyle="butt")
        if row.comparison is not None:
            rate = rows[row.comparison.against].rate
            axes.plot([rate] * 2, [line - 0.4, line + 0.4], color=COLORS["orange"], linewidth=1.0)
        axes.plot([row.rate], [line], clip_on=False, **mark)
    axes.set_title(task, fontsize=9, color=COLORS["ink"])
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    axes.set_xlabel("success")
    axes.grid(axis="x")


def _mark(verdict: Verdict) -> dict[str, Any]:
    shape, color, filled = _VERDICTS[verdict]
    face = COLORS[color] if filled else "none"
    return {"marker": shape, "color": COLORS[color], "markerfacecolor": face, "markersize": 5, "linestyle": ""}


def _clock(axes: Any, cells: Sequence[str], rows: Sequence[CellResult]) -> None:
    """Axis of times, and what is common to all panels: names, and lines between policies."""
    axes.set_xscale("log")
    low, high = (bound(row.p50_ms for row in rows) for bound in (min, max))
    axes.set_xlim(0.7 * low, 1.4 * high)
    plain_log_ticks(axes.xaxis, 0.7 * low, 1.4 * high)
    axes.set_title("a decision", fontsize=9, color=COLORS["ink"])
    axes.set_xlabel("median time [ms]")
    axes.grid(axis="x")
    axes.set_yticks(range(len(cells)), cells, fontsize=8)
    axes.set_ylim(len(cells) - 0.4, -0.6)
    for line, (one, other) in enumerate(itertools.pairwise(cell.split(":")[0] for cell in cells)):
        if one != other:
            for panel in axes.figure.axes:
                panel.axhline(line + 0.5, color=COLORS["muted"], linewidth=0.5)


def _key(figure: Any, verdicts: Collection[Verdict], n: int) -> None:
    """What the marks mean."""
    from matplotlib.lines import Line2D

    words: list[Verdict] = [verdict for verdict in _VERDICTS if verdict in verdicts]
    marks = [Line2D([], [], **_mark(verdict)) for verdict in words]
    figure.legend(
        marks, words, loc="outside upper right", ncols=len(words), frameon=False, fontsize=8,
        title=f"{n} paired episodes per point, 95 % intervals", title_fontsize=8,
    )  # fmt: skip
