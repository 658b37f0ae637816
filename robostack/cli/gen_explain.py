"""``robostack gen explain``: all that is known of one task."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace


def execute(args: Sequence[str]) -> int:
    """Print the explanation and write its page."""
    settings = load_settings("gen_explain", args)
    console = make_console(settings, 0)
    with open_workspace("gen_explain", settings, note=console.note) as paths:
        shown = target(settings, "explain_task")(settings["task"], paths.report, library=settings["library"])
        console.note("\n".join(shown.lines))
        console.note("")
        write_metrics(paths, "gen_explain", seconds=console.seconds, stages={}, task_id=shown.entry.id)
        console.final(f"page: {paths.report.resolve()}")
    return 0
