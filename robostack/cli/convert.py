"""``robostack convert``: a policy that lerobot trained becomes a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace

STAGES = 1


def execute(args: Sequence[str]) -> int:
    """Convert; columns, robot and rate come from the dataset, and the task travels along as it does in training."""
    settings = load_settings("convert", args)
    console = make_console(settings, STAGES)
    dataset = stages.find_dataset(settings["dataset"])
    arrays = stages.load_dataset(settings, dataset)
    spec = stages.find_task_near(dataset)
    with open_workspace("convert", settings, note=console.note) as paths:
        if spec is not None:
            stages.save_task(spec, paths)
        with console.stage("convert") as stage:
            checkpoint = target(settings, "import_pretrained")(
                Path(settings["lerobot"]),
                paths.policy / "checkpoint",
                arrays.features,
                task_id=arrays.task_id,
                language=arrays.language,
            )
            stage.result = str(checkpoint)
        task_id = spec.id if spec is not None else None
        write_metrics(paths, "convert", seconds=console.seconds, stages={}, task_id=task_id)
        console.final(f"checkpoint: {checkpoint.resolve()}")
    return 0
