"""``robostack eval``: a checkpoint becomes a success rate with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.run import evaluation_line
from robostack.cli.settings import Settings, load_settings
from robostack.cli.workspace import open_workspace
from robostack.errors import ConfigError
from robostack.task.benchmark import Task

STAGES = 1


def execute(args: Sequence[str]) -> int:
    """Roll the policy out on seeds that no demonstration has seen."""
    settings = load_settings("eval", args)
    console = make_console(settings, STAGES)
    checkpoint = stages.find_checkpoint(settings["checkpoint"])
    spec = _task(settings, checkpoint)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("eval", settings, note=console.note) as paths:
        stages.save_task(spec, paths)
        with console.stage("evaluate") as stage:
            evaluation = stages.evaluate_policy(
                settings, spec, checkpoint, paths, console, n=settings["n"], workers=workers
            )
            stage.result = evaluation_line(evaluation)
        figures = {"evaluate": stages.summary(evaluation), "failures": dict(evaluation.failures)}
        write_metrics(paths, "eval", seconds=console.seconds, stages=figures, task_id=spec.id)
        console.final(f"{evaluation_line(evaluation)}  ({paths.metrics.resolve()})")
    return 0


def _task(settings: Settings, checkpoint: Path) -> Task:
    if settings["task"] is not None:
        return stages.find_task(settings["task"])
    spec = stages.find_task_near(checkpoint)
    if spec is None:
        raise ConfigError(f"no task.json near {checkpoint}: name the task with  task=<task.json>")
    return spec
