"""``robostack bench join``: one page of comparisons whose tasks were run apart, on several machines or days."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.workspace import open_workspace
from robostack.evaluation.bench.files import join_comparisons, read_comparison, write_comparison

STAGES = 1


def execute(args: Sequence[str]) -> int:
    """Read, join, report."""
    settings = load_settings("bench_join", args)
    console = make_console(settings, STAGES)
    joined = join_comparisons([read_comparison(Path(path)) for path in settings["results"]])
    with open_workspace("bench_join", settings, note=console.note) as paths:
        with console.stage("join") as stage:
            write_comparison(paths.root, joined)
            stage.result = f"{', '.join(joined.outcomes)}: {len(joined.rows)} cells x {joined.episodes}"
        write_metrics(paths, "bench_join", seconds=console.seconds, stages={})
        console.final(f"report: {paths.report.resolve()}")
    return 0
