"""``robostack gen``: a sentence becomes ``task.json``."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.workspace import open_workspace

STAGES = 2


def execute(args: Sequence[str]) -> int:
    """Propose the task and check its scene."""
    settings = load_settings("gen", args)
    console = make_console(settings, STAGES)
    with console.stage("task") as stage:
        spec = stages.propose_task(settings)
        stage.result = f"{spec.name} on {spec.robot.name}"
    with console.stage("scene") as stage:
        scene = stages.summary(stages.check_scene(settings, spec))
        stage.result = f"{len(spec.entities)} objects, settled and reachable"
    with open_workspace("gen", settings, note=console.note) as paths:
        stages.save_task(spec, paths)
        figures = {"scene": scene}
        sentence = settings["sentence"]
        write_metrics(paths, "gen", seconds=console.seconds, stages=figures, task_id=spec.id, sentence=sentence)
        console.final(f"task: {paths.task.resolve()}")
    return 0
