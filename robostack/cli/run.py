"""``robostack run``: the whole loop, from a sentence to a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robostack.cli import stages
from robostack.cli.console import Console, make_console
from robostack.cli.settings import Settings, load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import RunPaths, open_workspace
from robostack.evaluation.schema import write_json_atomic
from robostack.runtime.memory import MemoryWatch
from robostack.task.spec import TaskSpec

STAGES = 7


def execute(args: Sequence[str]) -> int:
    """Run all stages; each goes on where an interrupted command left it."""
    settings = load_settings("run", args)
    console = make_console(settings, STAGES)
    with console.stage("task") as stage:
        spec = stages.propose_task(settings)
        stage.result = f"{spec.name} on {spec.robot.name}"
    plan = stages.plan_training(settings, console)
    stages.require_looks(plan, settings["demos"])
    with open_workspace("run", settings, note=console.note) as paths:
        stages.save_task(spec, paths)
        with MemoryWatch() as memory:
            _run_stages(settings, spec, plan, paths, console, memory)
    return 0


def _run_stages(
    settings: Settings, spec: TaskSpec, plan: stages.Plan, paths: RunPaths, console: Console, memory: MemoryWatch
) -> None:
    demos_settings, eval_settings = settings["demos"], settings["eval"]
    with console.stage("scene") as stage:
        stages.check_scene(settings, spec)
        stage.result = f"{len(spec.entities)} objects, settled and reachable"
    with console.stage("demos") as stage:
        workers = stages.resolve_workers(demos_settings["workers"])
        demos = stages.collect_demos(settings, spec, paths, console, n=demos_settings["n"], workers=workers)
        stage.result = demos_line(demos)
    with console.stage("dataset") as stage:
        dataset = stages.export_dataset(settings, demos_settings, spec, demos, paths, console)
        stage.result = str(dataset)
    with console.stage("train") as stage:
        trained = stages.train_policy(settings, plan, dataset, paths)
        stage.result = train_line(trained)
    with console.stage("evaluate") as stage:
        workers = stages.resolve_workers(eval_settings["workers"])
        evaluation = stages.evaluate_policy(
            settings, spec, trained.checkpoint, paths, console, n=eval_settings["n"], workers=workers
        )
        stage.result = evaluation_line(evaluation)
    with console.stage("report") as stage:
        metrics = target(settings, "write_report")(
            paths.report,
            spec=spec,
            demos=demos,
            training=trained,
            evaluation=evaluation,
            seconds=console.seconds,
            peak_rss_gib=memory.peak_gib,
        )
        stage.result = paths.report.name
    write_json_atomic(paths.metrics, metrics)  # the last file: it marks the run as finished
    console.final(f"report: {paths.report.resolve()}")


def demos_line(demos: Any) -> str:
    """``300/300 verified, expert 98.0% of 306 seeds``."""
    return f"{demos.n}/{demos.n} verified, expert {demos.expert_success_rate:.1%} of {demos.attempts} seeds"


def train_line(trained: Any) -> str:
    """``loss 0.0123, 41 steps/s``."""
    loss = stages.training_figures(trained).get("loss_train")
    return f"loss {'unknown' if loss is None else f'{loss:.4f}'}, {trained.steps_per_s:.0f} steps/s"


def evaluation_line(evaluation: Any) -> str:
    """``43/50 succeeded, 86 % (74 to 93 %)``."""
    low, high = evaluation.ci_low, evaluation.ci_high
    rate = f"{evaluation.success_rate:.0%} ({100 * low:.0f} to {high:.0%})"
    return f"{evaluation.successes}/{evaluation.n} succeeded, {rate}"
