"""``robostack gen multiply``: one certified task becomes demonstrations on new scenes and new objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace
from robostack.evaluation.stats import wilson
from robostack.task.spec import TaskSpec

STAGES = 2
_PASSED = ("n", "instances", "size_jitter", "recolor", "methods", "fallback", "seed")


def execute(args: Sequence[str]) -> int:
    """Collect and export, instance by instance."""
    settings = load_settings("gen_multiply", args)
    console = make_console(settings, STAGES)
    path = stages.find_task_file(settings["task"])
    spec = TaskSpec.load(path)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("gen_multiply", settings, note=console.note) as paths:
        with console.stage("demos") as stage:
            report = target(settings, "multiply")(
                spec,
                paths.root,
                **{key: settings[key] for key in _PASSED},
                keyframes=path.parent / "keyframes.json",
                folder=path.parent,
                workers=workers,
                progress=console.progress,
            )
            rate = f"{report.acceptance:.0%} ({100 * report.ci_low:.0f} to {report.ci_high:.0%})"
            refused = f", {report.refused} of {len(report.harvests)} instances given up" if report.refused else ""
            stage.result = f"{report.n} kept, {report.accepted} of {report.attempts} scenes accepted, {rate}{refused}"
        with console.stage("datasets") as stage:
            kept = [harvest for harvest in report.harvests if harvest.report is not None]
            for harvest in kept:
                own = dataclasses.replace(paths, root=harvest.folder)
                stages.export_dataset(settings, settings, harvest.instance.spec, harvest.report, own, console)
            stage.result = f"{len(kept)} datasets"
        for harvest in report.harvests:
            console.note(_line(harvest))
        figures = {"demos": stages.summary(report)}
        write_metrics(paths, "gen_multiply", seconds=console.seconds, stages=figures, task_id=spec.id)
        console.final(f"demonstrations: {paths.root.resolve()}")
    return 0


def _line(harvest: Any) -> str:
    """``instance 3f1c9a0b7d52e681, size 1.05: 24 of 25 accepted, 96 % (80 to 99 %)``."""
    name = f"instance {harvest.instance.spec.id}, size {harvest.instance.scale:g}"
    k, n = harvest.accepted, harvest.attempts
    if harvest.report is None:
        return f"{name}: given up, {harvest.refused}"
    low, high = wilson(k, n)
    helped = f", {harvest.by_expert} more by the expert" if harvest.by_expert else ""
    return f"{name}: {k} of {n} accepted, {k / n:.0%} ({100 * low:.0f} to {high:.0%}){helped}"
