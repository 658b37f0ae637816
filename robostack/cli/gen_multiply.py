"""``robostack gen multiply``: one certified task becomes demonstrations on new scenes and new objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace

STAGES = 2


def execute(args: Sequence[str]) -> int:
    """Collect and export, instance by instance."""
    settings = load_settings("gen_multiply", args)
    console = make_console(settings, STAGES)
    spec = stages.find_task(settings["task"])
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("gen_multiply", settings, note=console.note) as paths:
        with console.stage("demos") as stage:
            report = target(settings, "multiply")(
                spec,
                paths.root,
                **{key: settings[key] for key in ("n", "instances", "size_jitter", "recolor", "seed")},
                workers=workers,
                progress=console.progress,
            )
            rate = f"{report.acceptance:.0%} ({100 * report.ci_low:.0f} to {report.ci_high:.0%})"
            stage.result = f"{report.n} kept of {report.attempts}, {rate}, {report.instances} instances"
        with console.stage("datasets") as stage:
            kept = [harvest for harvest in report.harvests if harvest.report is not None]
            for harvest in kept:
                own = dataclasses.replace(paths, root=harvest.folder)
                stages.export_dataset(settings, settings, harvest.instance.spec, harvest.report, own, console)
            stage.result = f"{len(kept)} datasets"
        for harvest in report.harvests:
            if harvest.refused:
                console.note(f"instance {harvest.instance.spec.id} gave none: {harvest.refused}")
        figures = {"demos": stages.summary(report)}
        write_metrics(paths, "gen_multiply", seconds=console.seconds, stages=figures, task_id=spec.id)
        console.final(f"demonstrations: {paths.root.resolve()}")
    return 0
