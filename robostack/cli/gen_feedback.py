"""``robostack gen feedback``: a student's evaluation becomes a plan, the plan becomes demonstrations."""

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
    """Plan and collect."""
    settings = load_settings("gen_feedback", args)
    console = make_console(settings, STAGES)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("gen_feedback", settings, note=console.note) as paths:
        with console.stage("feedback") as stage:
            found = target(settings, "feedback")(
                settings["report"],
                paths.root,
                **{key: settings[key] for key in ("budget", "rule", "trained_on", "seed")},
                gather=settings["collect"],
                workers=workers,
                progress=console.progress,
            )
            stage.result = f"{found.demos} demos of {len(found.collected)} tasks, rule {found.plan.rule}"
        console.note("\n".join(found.lines))
        for task_id, reason in found.refused.items():
            console.note(f"nothing was collected of {task_id}: {reason}")
        figures = {"feedback": {"budget": found.plan.budget, "rule": found.plan.rule, "demos": found.demos}}
        figures["allocation"] = {step.node.task_id: step.demos for step in found.plan.steps}
        write_metrics(paths, "gen_feedback", seconds=console.seconds, stages=figures)
        console.final(f"plan: {(paths.root / 'plan.json').resolve()}")
    return 0
