"""``robostack gen verify``: prove a folder of tasks again."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace

STAGES = 2
_SHOWN = 10


def execute(args: Sequence[str]) -> int:
    """Verify and report; 2 when a task is not proven."""
    settings = load_settings("gen_verify", args)
    console = make_console(settings, STAGES)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("gen_verify", settings, note=console.note) as paths:
        with console.stage("verify") as stage:
            report = target(settings, "verify_library")(
                settings["folder"],
                paths.root / "proofs",
                depth=settings["depth"],
                seeds=settings["seeds"],
                workers=workers,
                progress=console.progress,
            )
            stage.result = f"{report.ok}/{report.n} proven, {report.replayed}/{report.demos} demos replay"
        with console.stage("report") as stage:
            table = target(settings, "verify_page")(settings["folder"], paths.report, report)
            stage.result = paths.report.name
        console.note(table)
        for proof in report.failures[:_SHOWN]:
            console.note(f"not proven: {proof.path}: {proof.failed.gate} {proof.failed.code}: {proof.failed.detail}")
        if len(report.failures) > _SHOWN:
            console.note(f"and {len(report.failures) - _SHOWN} more, see the page")
        write_metrics(paths, "gen_verify", seconds=console.seconds, stages={"verify": stages.summary(report)})
        console.final(f"report: {paths.report.resolve()}")
    return 2 if report.failures else 0
