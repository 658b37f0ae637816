"""Plots as inline SVG in one house style: no frame, light grid, direct labels, colours that survive colour blindness.

Colours and fonts are the page's: matplotlib draws with stand-ins that become CSS variables, so a plot follows the light
or dark scheme. Equal data give equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from robostack.errors import MissingExtra
from robostack.evaluation.stats import wilson

# Okabe and Ito's palette; the keys are the page's CSS variables.
COLORS = {
    "ink": "#1b1f24",
    "muted": "#6b7480",
    "line": "#dfe3e8",
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#009e73",
}
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.7,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "lines.solid_capstyle": "round",
}
_WIDTH_IN, _HEIGHT_IN = 4.4, 2.6
_MOST_POINTS = 500


@dataclass(frozen=True)
class Proportion:
    """A row of ``success_intervals``: k successes of n."""

    label: str
    k: int
    n: int


def loss_curve(train: Float[np.ndarray, "N 2"], validation: Float[np.ndarray, "M 2"] | None = None) -> str:
    """Loss over optimiser steps on a logarithmic axis; rows are (step, loss), what is not positive is left out."""
    with figure_of("loss") as (figure, axes):
        curves = [("training", train, "blue")]
        if validation is not None and len(validation):
            curves.append(("validation", validation, "orange"))
        drawn = [(label, _positive(points), color) for label, points, color in curves]
        drawn = [(label, points, color) for label, points, color in drawn if len(points)]
        for _, points, color in drawn:
            smooth = _smoothed(points)
            if len(points) > len(smooth):
                raw = _thinned(points)
                axes.plot(raw[:, 0], raw[:, 1], color=COLORS[color], linewidth=0.6, alpha=0.3)
            marker = "o" if len(smooth) <= 30 else None
            axes.plot(smooth[:, 0], smooth[:, 1], color=COLORS[color], linewidth=1.6, marker=marker, markersize=3)
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis, *axes.get_ylim())
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss")
        _label_ends(axes, [(label, points[-1], color) for label, points, color in drawn])
        return svg_of(figure, "loss", "Training and validation loss over optimiser steps")


def success_intervals(rows: Sequence[Proportion], *, many: bool = False) -> str:
    """Rates with Wilson's 95 % intervals, one row each, on the whole range from 0 to 1.

    The first row is the one that matters, unless they are ``many`` of equal rank, on a wide page.
    """
    height, width = (0.75 + 0.26 * len(rows), 2 * _WIDTH_IN) if many else (0.75 + 0.5 * len(rows), _WIDTH_IN)
    with figure_of("success", height=max(_HEIGHT_IN, height), width=width) as (figure, axes):
        for index, row in enumerate(rows):
            y, color = -index, COLORS["blue" if index == 0 or many else "muted"]
            low, high = wilson(row.k, row.n)
            axes.plot([low, high], [y, y], color=color, linewidth=6, alpha=0.35, solid_capstyle="butt")
            axes.plot([row.k / row.n], [y], "o", color=color, markersize=6)
            note = f"{row.k}/{row.n}   [{low:.2f}, {high:.2f}]"
            side = "right" if low > 0.5 else "left"
            axes.text(
                low - 0.025 if low > 0.5 else high + 0.025,
                y,
                note,
                ha=side,
                va="center",
                color=COLORS["ink"],
                size=8.5,
            )
        axes.set_yticks([-i for i in range(len(rows))], [_label(row.label) for row in rows], color=COLORS["ink"])
        axes.set_xlim(-0.01, 1.02)
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel("rate, with Wilson's 95 % interval")
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        return svg_of(figure, "success", "Success rates with their 95 percent intervals")


def latency_histogram(milliseconds: Float[np.ndarray, " K"]) -> str:
    """How long an inference takes [ms]; the slowest 0.5 % share the last bar when they lie far out."""
    with figure_of("latency") as (figure, axes):
        p50, p99, p995 = np.percentile(milliseconds, [50, 99, 99.5])
        edge = min(float(milliseconds.max()), float(p995 + 0.5 * (p995 - milliseconds.min())))
        beyond = int((milliseconds > edge).sum())
        axes.hist(np.minimum(milliseconds, edge), bins=40, histtype="stepfilled", color=COLORS["blue"], alpha=0.75)
        top = axes.get_ylim()[1] * 1.18
        axes.set_ylim(0, top)
        near = abs(p99 - p50) < 0.22 * (edge - float(milliseconds.min()))
        for value, name, side, height in ((p50, "p50", "left", 0.99), (p99, "p99", "left", 0.86 if near else 0.99)):
            axes.axvline(value, color=COLORS["orange"], linewidth=1.2)
            late = value > float(milliseconds.min()) + 0.7 * (edge - float(milliseconds.min()))
            side, pad = ("right", -4) if late else ("left", 4)
            axes.annotate(
                f"{name} {value:.2f} ms", (value, height * top), (pad, 0), textcoords="offset points", ha=side, va="top"
            )
        tail = f"; {beyond} beyond the axis are in the last bar" if beyond else ""
        axes.set_xlabel(f"inference latency [ms]{tail}")
        axes.set_ylabel("inferences")
        return svg_of(figure, "latency", "Histogram of the inference latency")


def stage_bars(stages_s: Mapping[str, float]) -> str:
    """Wall time of each stage [s], in the order in which they ran."""
    with figure_of("stages", height=max(_HEIGHT_IN, 0.75 + 0.3 * len(stages_s))) as (figure, axes):
        positions = [-i for i in range(len(stages_s))]
        longest = max(stages_s.values(), default=0.0) or 1.0
        axes.barh(positions, list(stages_s.values()), height=0.62, color=COLORS["blue"], alpha=0.75)
        for y, seconds in zip(positions, stages_s.values(), strict=True):
            axes.annotate(_duration(seconds), (seconds, y), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(positions, [_label(name) for name in stages_s], color=COLORS["ink"])
        axes.set_xlim(0, longest * 1.18)
        axes.set_xlabel("wall time [s]")
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        return svg_of(figure, "stages", "Wall time of each stage")


def _label(text: str) -> str:
    """A name that fits beside a plot, in characters that the layout's font has, and that is no formula."""
    short = text if len(text) <= 24 else f"{text[:21]}..."
    return short.encode("ascii", "replace").decode().replace("$", r"\$")


def _duration(seconds: float) -> str:
    """``0.42 s``, ``12.3 s`` or ``4 min 05 s``."""
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _positive(points: np.ndarray) -> np.ndarray:
    return points[np.isfinite(points).all(axis=1) & (points[:, 1] > 0)]


def _thinned(points: np.ndarray) -> np.ndarray:
    return points[:: max(1, len(points) // _MOST_POINTS)]


def _smoothed(points: np.ndarray) -> np.ndarray:
    """Running mean over 2 % of the points, thinned to what a plot can show."""
    window = len(points) // 50
    if window < 2:
        return points
    kernel = np.ones(window) / window
    columns = [np.convolve(points[:, i], kernel, mode="valid") for i in range(2)]
    return _thinned(np.stack(columns, axis=1))


def plain_log_ticks(axis: Any, low: float, high: float) -> None:
    """Plain numbers along a logarithmic axis, 1-2-5 within each decade when there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    steps = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _label_ends(axes: Any, ends: Sequence[tuple[str, np.ndarray, str]]) -> None:
    """Name the curves at their last point, kept apart when they end close together."""
    order = sorted(ends, key=lambda end: end[1][1])
    near = len(order) == 2 and order[1][1][1] / order[0][1][1] < 1.25
    for place, (label, point, color) in enumerate(order):
        shift = (-6 if place == 0 else 6) if near else 0
        axes.annotate(
            label,
            point,
            (5, shift),
            textcoords="offset points",
            va="center",
            color=COLORS[color],
            annotation_clip=False,
        )
    if ends:
        left, right = axes.get_xlim()
        last = max(point[0] for _, point, _ in ends)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= last])
        axes.set_xlim(left, right + 0.16 * (right - left))


@contextmanager
def figure_of(name: str, height: float = _HEIGHT_IN, width: float = _WIDTH_IN) -> Iterator[tuple[Any, Any]]:
    """A figure with one pair of axes under the house style; the global style is put back afterwards."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "report") from error
    style: Any = _STYLE | {"svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots()


def svg_of(figure: Any, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element for a page: CSS colours, ids that do not collide, no metadata."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>\s*", "", svg, flags=re.DOTALL)  # it would style the whole page
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r'<svg ([^>]*)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*)height="[^"]*"', r"\1", svg, count=1)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    for variable, color in COLORS.items():
        svg = svg.replace(color, f"var(--{variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1).strip()
