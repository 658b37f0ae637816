"""``robostack gen sample``: the grammar fills a library with certified tasks."""

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
    """Sample, certify, report."""
    settings = load_settings("gen_sample", args)
    console = make_console(settings, STAGES)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("gen_sample", settings, note=console.note) as paths:
        with console.stage("certify") as stage:
            report = target(settings, "build_library")(
                paths.root,
                **{key: settings[key] for key in ("n", "seed", "robots", "families", "seeds", "demos", "against")},
                workers=workers,
                progress=console.progress,
            )
            stage.result = f"{report.certified}/{report.n} certified, {report.per_core_minute:.1f} per core-minute"
        with console.stage("report") as stage:
            table = target(settings, "sample_page")(paths.root, paths.report, report)
            stage.result = paths.report.name
        console.note(table)
        figures = {"certify": stages.summary(report), "refused": dict(report.codes)}
        write_metrics(paths, "gen_sample", seconds=console.seconds, stages=figures)
        console.final(f"library: {paths.root.resolve()}")
    return 0
