"""The page of a comparison: all cells at a glance, then per task success against latency and every cell's evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from robostack.data.atomic import write_atomic
from robostack.evaluation.bench.plots import overview, success_against_latency
from robostack.evaluation.bench.result import ALPHA, BenchResult, CellResult, Difference, Verdict
from robostack.evaluation.html import Child, Html, join, table, tag
from robostack.evaluation.page import document, plot, section, small, tile

_MARKS: dict[Verdict, str] = {
    "reference": "mark", "better": "mark ok", "not worse": "mark ok", "no contrast": "mark", "undecided": "mark",
    "worse": "mark bad",
}  # fmt: skip


def write_bench_page(path: Path | str, result: BenchResult) -> None:
    """Write the self-contained page."""
    sections = (
        _header(result),
        _tiles(result),
        *([_overview(result)] if len(result.outcomes) > 1 else []),
        *(_task(task, [r for r in result.rows if r.task == task], result) for task in result.outcomes),
        _legend(result),
    )
    write_atomic(Path(path), document("policies compared", sections, wide=True).encode())


def _header(result: BenchResult) -> Html:
    tasks = len(result.outcomes)
    title = f"{len({r.cell for r in result.rows})} ways to act on {tasks} task{'s' if tasks > 1 else ''}"
    return tag(
        "header",
        tag("p", tag("b", "robostack"), f" bench policies · suite {result.suite}", class_="kicker"),
        tag("h1", title),
        tag("p", f"{result.machine}; threads per decision: {result.threads}", class_="lead"),
    )


def _tiles(result: BenchResult) -> Html:
    compared = [r for r in result.rows if r.comparison is not None]
    held = sum(r.verdict in ("better", "not worse") for r in compared)
    fastest = min(result.rows, key=lambda r: r.p50_ms)
    episodes = sum(r.n for r in result.rows)
    return tag(
        "dl",
        tile(
            "Not worse",
            [f"{held}", tag("small", f"/{len(compared)}")],
            "than the cell they are held against",
            first=True,
        ),
        tile("Episodes", [f"{episodes}"], f"{result.episodes} per cell, the same seeds in all"),
        tile("Fastest decision", [f"{fastest.p50_ms:.1f}", small(" ms")], f"{fastest.cell} on {fastest.task}"),
        class_="tiles",
    )


def _overview(result: BenchResult) -> Html:
    return section("All tasks", plot("Success of every cell, and the time of a decision", overview(result.rows)))


def _task(task: str, rows: Sequence[CellResult], result: BenchResult) -> Html:
    chart = plot("Success against the time of a decision", success_against_latency(task, rows))
    head = (
        "", "Cell", "Success", "95 % interval", f"Margin {result.margin:g}", "p50 ms", "p99 ms", "NFE", "per action",
        "GFLOP", "Weights", "Against", "Difference", "McNemar",
    )  # fmt: skip
    numbers = {row.cell: str(number) for number, row in enumerate(rows, 1)}
    cells = table(head, (_cells(numbers, row) for row in rows))
    scored = any(row.score is not None for row in rows)
    return section(task, chart, cells, *([_scores(numbers, rows, result.margin)] if scored else []))


def _cells(numbers: Mapping[str, str], row: CellResult) -> list[Child]:
    found = row.comparison
    return [
        numbers[row.cell],
        tag("code", row.cell),
        f"{row.k}/{row.n}",
        f"{row.low:.2f}–{row.high:.2f}",
        _verdict(row.verdict),
        f"{row.p50_ms:.1f}",
        f"{row.p99_ms:.1f}",
        _number(row.per_decision),
        _number(row.per_action),
        f"{row.gflops:.3g}",
        f"{row.params / 1e6:.2f} M",
        *((numbers[found.against], _interval(found), f"{found.mcnemar:.2g}") if found else ("–", "–", "–")),
    ]


def _scores(numbers: Mapping[str, str], rows: Sequence[CellResult], margin: float) -> Html:
    """The environment's own measure, which two episodes that both fail can differ in."""
    head = ("", "Cell", "Score", f"Margin {margin:g}", "Against", "Difference")

    def cells(row: CellResult) -> list[Child]:
        found = row.comparison.score if row.comparison else None
        rest: tuple[Child, ...] = (_verdict("reference") if row.comparison is None else "–", "–", "–")
        if row.comparison and found:
            rest = (_verdict(found.verdict), numbers[row.comparison.against], _interval(found))
        return [numbers[row.cell], tag("code", row.cell), _number(row.score), *rest]

    return table(head, (cells(row) for row in rows))


def _verdict(word: Verdict) -> Html:
    return tag("span", word, class_=_MARKS[word])


def _interval(found: Difference) -> str:
    words = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _legend(result: BenchResult) -> Html:
    words = (
        f"Not worse: at one-sided level {ALPHA:g}, the lower bound of Newcombe's interval for paired differences lies "
        f"above -{100 * result.margin:g} points; better: and the 95 % interval above zero. Worse: it does not, and the "
        "95 % interval lies below zero; undecided: neither.",
        "No contrast: the reference succeeds so rarely that a cell that always fails would be not worse either.",
        "Latency is that of whole decisions, observation to actions, measured in one process in turns.",
        "Score: the mean of the environment's own measure of an episode, where it has one, and its difference in "
        "hundredths, held against the margin by Student's interval of the paired differences.",
        "NFE: evaluations of the network per decision, then per executed action.",
        "Against: the number of the other cell. Differences are in points of success, with 95 % intervals; McNemar: p.",
    )
    return section("How to read this", join([tag("p", sentence) for sentence in words]))
