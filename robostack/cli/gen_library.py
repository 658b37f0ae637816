"""``robostack gen library``: the page of a library."""

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
    """Measure and write the page."""
    settings = load_settings("gen_library", args)
    console = make_console(settings, STAGES)
    with open_workspace("gen_library", settings, note=console.note) as paths:
        with console.stage("page") as stage:
            overview = target(settings, "library_page")(
                settings["folder"], paths.report, seed=settings["seed"], resamples=settings["resamples"]
            )
            spread = overview.diversity
            stage.result = f"{overview.tasks} tasks, {overview.families} families, Vendi {spread.vendi.value:.1f}"
        figures = {"library": stages.summary(overview.figures())}
        write_metrics(paths, "gen_library", seconds=console.seconds, stages=figures)
        console.final(f"page: {paths.report.resolve()}")
    return 0
