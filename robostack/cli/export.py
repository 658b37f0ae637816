"""``robostack export``: a checkpoint becomes one ONNX file."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace

STAGES = 1


def execute(args: Sequence[str]) -> int:
    """Write the graph and what a robot has to know about it."""
    settings = load_settings("export", args)
    console = make_console(settings, STAGES)
    checkpoint = stages.find_checkpoint(settings["checkpoint"])
    with open_workspace("export", settings, note=console.note) as paths:
        with console.stage("export") as stage:
            exported = target(settings, "export_policy")(checkpoint, paths.root, sampler=settings["sampler"]["name"])
            size, difference = exported.megabytes, exported.difference
            stage.result = f"{size:.1f} MB, differs from the policy by {difference:.1e}"
        write_metrics(paths, "export", seconds=console.seconds, stages={"export": stages.summary(exported)})
        console.final(f"graph: {exported.graph.resolve()}")
    return 0
