"""``robostack run``: the whole loop, from a sentence to a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robostack.cli import stages
from robostack.cli.console import Console, make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import Settings, load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import RunPaths, open_workspace
from robostack.task.spec import TaskSpec

STAGES = 7


def execute(args: Sequence[str]) -> int:
    """Run all stages; each goes on where an interrupted command left it."""
    settings = load_settings("run", args)
    console = make_console(settings, STAGES)
    with console.stage("task") as stage:
        spec = stages.propose_task(settings)
        stage.result = f"{spec.name} on {spec.robot.name}"
    plan = stages.plan_training(settings)
    stages.build_sampler(settings)  # So that a wrong value is refused now, not after the training.
    with open_workspace("run", settings, note=console.note) as paths:
        stages.save_task(spec, paths)
        _run_stages(settings, spec, plan, paths, console)
    return 0


def _run_stages(settings: Settings, spec: TaskSpec, plan: stages.Plan, paths: RunPaths, console: Console) -> None:
    demos_settings, eval_settings = settings["demos"], settings["eval"]
    with console.stage("scene") as stage:
        scene = stages.summary(stages.check_scene(settings, spec))
        stage.result = f"{len(spec.entities)} objects, settled and reachable"
    with console.stage("demos") as stage:
        workers = stages.resolve_workers(demos_settings["workers"])
        demos = stages.collect_demos(settings, spec, paths, console, n=demos_settings["n"], workers=workers)
        stage.result = demos_line(demos)
    with console.stage("dataset") as stage:
        dataset = stages.export_dataset(settings, spec, demos.store_dir, paths, console)
        stage.result = str(dataset)
    with console.stage("train") as stage:
        trained = stages.train_policy(settings, plan, dataset, paths, console)
        stage.result = train_line(trained)
    with console.stage("evaluate") as stage:
        workers = stages.resolve_workers(eval_settings["workers"])
        evaluation = stages.evaluate_policy(
            settings, spec, trained.checkpoint, paths, console, n=eval_settings["n"], workers=workers
        )
        stage.result = evaluation_line(evaluation)
    with console.stage("report") as stage:
        _write_report(settings, spec, demos, trained, evaluation, paths, console)
        stage.result = paths.report.name
    figures = {
        "scene": scene,
        "demos": stages.summary(demos),
        "train": training_figures(trained),
        "evaluate": stages.summary(evaluation),
    }
    write_metrics(paths, "run", seconds=console.seconds, stages=figures, task_id=spec.id, sentence=settings["sentence"])
    console.final(f"report: {paths.report.resolve()}")


def _write_report(
    settings: Settings,
    spec: TaskSpec,
    demos: Any,
    trained: stages.Trained,
    evaluation: Any,
    paths: RunPaths,
    console: Console,
) -> None:
    target(settings, "write_report")(
        paths.report,
        spec=spec,
        demos=demos,
        training=trained,
        evaluation=evaluation,
        config=settings,
        seconds=console.seconds,
    )


def demos_line(demos: Any) -> str:
    """``300/300 verified, expert 98 % of 306 seeds``."""
    return f"{demos.n}/{demos.n} verified, expert {demos.expert_success_rate:.0%} of {demos.attempts} seeds"


def train_line(trained: stages.Trained) -> str:
    """``loss 0.012, 41 steps/s``."""
    last = stages.loss_summary(trained.losses)["last_loss"]
    return f"loss {'unknown' if last is None else f'{last:.4f}'}, {trained.steps_per_s:.0f} steps/s"


def training_figures(trained: stages.Trained) -> dict[str, float | None]:
    """What ``metrics.json`` holds about training."""
    figures = {"wall_s": trained.wall_s, "steps_per_s": trained.steps_per_s}
    return {**figures, **stages.loss_summary(trained.losses)}


def evaluation_line(evaluation: Any) -> str:
    """``43/50 succeeded, 86 % (74 to 93 %)``."""
    low, high = evaluation.ci_low, evaluation.ci_high
    rate = f"{evaluation.success_rate:.0%} ({100 * low:.0f} to {high:.0%})"
    return f"{evaluation.successes}/{evaluation.n} succeeded, {rate}"
