"""``robostack train``: a dataset becomes a policy."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.run import train_line
from robostack.cli.settings import load_settings
from robostack.cli.workspace import open_workspace

STAGES = 1


def execute(args: Sequence[str]) -> int:
    """Train; a single task travels along, so that the checkpoint can be evaluated without naming it again."""
    settings = load_settings("train", args)
    console = make_console(settings, STAGES)
    datasets = stages.find_datasets(settings["dataset"])
    spec = stages.find_common_task(datasets)
    plan = stages.plan_training(settings, console)
    with open_workspace("train", settings, note=console.note) as paths:
        if spec is not None:
            stages.save_task(spec, paths)
        with console.stage("train") as stage:
            trained = stages.train_policy(settings, plan, datasets, paths)
            stage.result = train_line(trained)
        figures = {"train": stages.training_figures(trained)}
        task_id = spec.id if spec is not None else None
        write_metrics(paths, "train", seconds=console.seconds, stages=figures, task_id=task_id)
        console.final(f"checkpoint: {trained.checkpoint.resolve()}")
    return 0
