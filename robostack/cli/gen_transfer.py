"""``robostack gen transfer``: a library's demonstrations in another physics engine."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace

STAGES = 2


def execute(args: Sequence[str]) -> int:
    """Replay and report."""
    settings = load_settings("gen_transfer", args)
    console = make_console(settings, STAGES)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("gen_transfer", settings, note=console.note) as paths:
        with console.stage("transfer") as stage:
            report = target(settings, "transfer_library")(
                settings["folder"],
                paths.root / "transfers",
                engine=settings["engine"],
                record=settings["record"],
                workers=workers,
                progress=console.progress,
            )
            rate = f"{report.rate:.0%} ({100 * report.ci_low:.0f} to {report.ci_high:.0%})"
            stage.result = f"{report.k} of {report.n} demonstrations, {rate}, {report.tasks} tasks"
        with console.stage("report") as stage:
            table = target(settings, "transfer_page")(settings["folder"], paths.report, report)
            stage.result = paths.report.name
        console.note(table)
        figures = {"transfer": stages.summary(report)}
        for by in ("family", "robot"):
            figures[by] = {name: k / n for name, k, n, _ in report.groups(by)}
        write_metrics(paths, "gen_transfer", seconds=console.seconds, stages=figures)
        console.final(f"report: {paths.report.resolve()}")
    return 0
