"""``robostack demos``: a task becomes verified demonstrations and a LeRobot dataset."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.run import demos_line
from robostack.cli.settings import load_settings
from robostack.cli.workspace import open_workspace

STAGES = 2


def execute(args: Sequence[str]) -> int:
    """Collect and export."""
    settings = load_settings("demos", args)
    console = make_console(settings, STAGES)
    spec, folder = stages.find_task(settings["task"]), stages.find_task_folder(settings["task"])
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("demos", settings, note=console.note) as paths:
        stages.save_task(spec, paths)
        with console.stage("demos") as stage:
            options = {"n": settings["n"], "workers": workers, "folder": folder}
            demos = stages.collect_demos(settings, spec, paths, console, **options)
            stage.result = demos_line(demos)
        with console.stage("dataset") as stage:
            dataset = stages.export_dataset(settings, settings, spec, demos, paths, console)
            stage.result = str(dataset)
        figures = {"demos": stages.summary(demos)}
        write_metrics(paths, "demos", seconds=console.seconds, stages=figures, task_id=spec.id)
        console.final(f"dataset: {dataset.resolve()}")
    return 0
