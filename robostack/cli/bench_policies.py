"""``robostack bench policies``: one harness for all policies, samplers and executions.

Every task has a folder: its demonstrations and dataset, a training per policy, an evaluation per cell. Each is a job of
an ordinary verb and resumes as that does, so that a comparison that was stopped goes on where it was. The report is
written after every task, because all of them can take a day.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robostack import __version__
from robostack.cli import stages
from robostack.cli.console import Console, make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import Settings, load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import RunPaths, open_workspace
from robostack.errors import ConfigError, RobostackError, UnknownName
from robostack.evaluation.bench.files import write_comparison
from robostack.evaluation.bench.latency import Cost, Timed, measure
from robostack.evaluation.bench.result import BenchResult, CellResult, Outcome, row
from robostack.evaluation.bench.suite import Cell, PolicyRow, Suite, TaskRow
from robostack.evaluation.rollouts import idle
from robostack.runtime.execution import EXECUTORS
from robostack.runtime.pool import worker_pool
from robostack.task.benchmark import Task, load_task


def execute(args: Sequence[str]) -> int:
    """Demonstrate, train, evaluate, time, report."""
    settings = load_settings("bench_policies", args)
    suite = Suite.of(settings["suite"]).with_only(settings["tasks"], settings["policies"])
    console = make_console(settings, len(suite.tasks))
    plans = {
        (task.name, policy.name): _plan(suite.row(task, policy), settings, console).times(task.training)
        for task in suite.tasks
        for policy in suite.policies
    }
    for task in suite.tasks:
        for cell in suite.cells:
            _check(cell, plans[task.name, cell.policy], settings)
    workers = stages.resolve_workers(settings["workers"])
    with open_workspace("bench_policies", settings, note=console.note) as paths:
        with worker_pool(workers, idle, ()) as pool:
            bench = _Bench(suite, settings, plans, paths.root, console, pool, workers)
            for task in suite.tasks:
                bench.propose(task)
            rows: list[CellResult] = []
            outcomes: dict[str, dict[str, Outcome]] = {}
            for task in suite.tasks:
                with console.stage(task.name) as stage:
                    outcomes[task.name], found = bench.compare(task)
                    rows += found
                    result = bench.result(rows, outcomes)
                    write_comparison(paths.root, result)
                    counts = f"{len(suite.policies)} policies, {len(found)} cells x {suite.n}"
                    stage.result = f"{task.demos} demonstrations, {counts}"
        for line in _lines(result):
            console.note(line)
        write_metrics(paths, "bench_policies", seconds=console.seconds, stages=_figures(result))
        console.final(f"report: {paths.report.resolve()}")
    return 0


@dataclass(frozen=True)
class _Bench:
    """A comparison in its folder."""

    suite: Suite
    settings: Settings
    plans: dict[tuple[str, str], stages.Plan]
    root: Path
    console: Console
    pool: Pool
    workers: int

    def compare(self, task: TaskRow) -> tuple[dict[str, Outcome], list[CellResult]]:
        """Demonstrate, train, evaluate and time; cells begin while later policies are still in training."""
        self.demonstrate(task)
        trainings = {policy.name: self.train(task, policy) for policy in self.suite.policies}
        outcomes: dict[str, Outcome] = {}
        for cell in self.suite.cells:
            trainings[cell.policy].result()
            found = outcomes[cell.key] = self.evaluate(task, cell)
            self.console.note(f"      {task.name:<9} {cell.key:<36} {sum(found.successes)}/{self.suite.n}")
        costs = self.time(task)
        margin = self.suite.margin
        return outcomes, [row(task.name, cell, outcomes, costs[cell.key], margin) for cell in self.suite.cells]

    def paths(self, task: TaskRow, *below: str) -> RunPaths:
        """The folder of a task, or one below it."""
        return RunPaths(self.root.joinpath("tasks", task.name, *below))

    def spec(self, task: TaskRow) -> Task:
        """The task of a row; kept in its folder."""
        saved = self.paths(task).task
        if saved.is_file():
            return load_task(saved)
        return _find(task, self.settings)

    def propose(self, task: TaskRow) -> None:
        """Find the task and keep it: a sentence that cannot be read must not stop the comparison after hours."""
        paths = self.paths(task)
        spec = self.spec(task)
        paths.root.mkdir(parents=True, exist_ok=True)
        stages.save_task(spec, paths)

    def demonstrate(self, task: TaskRow) -> None:
        """Collect and export."""
        spec, paths = self.spec(task), self.paths(task)
        demos = stages.collect_demos(self.settings, spec, paths, self.console, n=task.demos, workers=self.workers)
        wanted = {"image_size": 96, "cameras": []}
        stages.export_dataset(self.settings, wanted, spec, demos, paths, self.console)
        self.console.note(f"      {task.name:<9} {task.demos} demonstrations")

    def train(self, task: TaskRow, policy: PolicyRow) -> Future:
        """Queue a training."""
        folder = self.paths(task, "policies", policy.name)
        plan = self.plans[task.name, policy.name]
        return self.pool.submit(_train, self.settings, plan, self.paths(task).dataset, folder)

    def evaluate(self, task: TaskRow, cell: Cell) -> Outcome:
        """The outcome of a cell; the seeds are the same in all."""
        folder = self.paths(task, "cells", cell.key.replace(":", "-"))
        how = {"sampler": {"name": cell.sampler}, "execution": cell.execution, "accelerate": cell.accelerate}
        report = stages.evaluate_policy(
            self.settings | how, self.spec(task), self.checkpoint(task, cell.policy), folder, self.console,
            n=self.suite.n, workers=self.workers, pool=self.pool,
        )  # fmt: skip
        return _outcome(report)

    def time(self, task: TaskRow) -> dict[str, Cost]:
        """The cost of every cell's decisions."""
        arrays = stages.load_dataset(self.settings, self.paths(task).dataset)
        load = target(self.settings, "load_policy")
        entries = []
        for cell in self.suite.cells:
            checkpoint = self.checkpoint(task, cell.policy)
            policy = load(checkpoint, device="cpu", sampler=cell.sampler, accelerate=cell.accelerate)
            plain = policy
            if cell.accelerate != "none":
                plain = load(checkpoint, device="cpu", sampler=cell.sampler, accelerate="none")
            stride = EXECUTORS[cell.execution].every or policy.horizon.Ta
            entries.append(Timed(cell.key, policy, stride, plain))
        return measure(entries, arrays, self.suite.decisions, self.settings["threads"])

    def checkpoint(self, task: TaskRow, policy: str) -> Path:
        """Where a training left its policy."""
        return stages.find_checkpoint(str(self.paths(task, "policies", policy).root))

    def result(self, rows: Sequence[CellResult], outcomes: dict[str, dict[str, Outcome]]) -> BenchResult:
        """Everything as one record."""
        return BenchResult(
            robostack=__version__,
            suite=self.suite.name,
            machine=_machine(),
            margin=self.suite.margin,
            threads=self.settings["threads"],
            rows=tuple(rows),
            outcomes={task: {key: o.bits for key, o in cells.items()} for task, cells in outcomes.items()},
        )


def _plan(policy: PolicyRow, settings: Settings, console: Console) -> stages.Plan:
    """What a row trains with; refused now rather than after the demonstrations."""
    changes = [f"policy.{key}={value}" for key, value in policy.settings.items()]
    given = [f"policy={policy.policy}", *changes, f"seed={settings['seed']}", "dataset=-", "progress=false"]
    try:
        return stages.plan_training(load_settings("train", given), console)
    except ConfigError as error:
        raise ConfigError(f"policy '{policy.name}' of the suite: {error}") from error


def _check(cell: Cell, plan: stages.Plan, settings: Settings) -> None:
    """Refuse a cell that cannot act, before any work is done for it."""
    if cell.execution not in EXECUTORS:
        raise UnknownName(f"execution of the suite's cell '{cell.key}'", cell.execution, EXECUTORS)
    try:
        stages.require_sampler(settings, plan, cell.sampler)
    except RobostackError as error:
        raise ConfigError(f"cell '{cell.key}' of the suite: {error}") from error


def _find(task: TaskRow, settings: Settings) -> Task:
    """A row's task: a file, a library id, or a sentence."""
    if " " not in task.task:
        return stages.find_task(task.task)
    return stages.propose_task(settings | {"sentence": task.task, "robot": task.robot, "control_mode": "ee_pose"})


def _train(settings: Settings, plan: stages.Plan, dataset: Path, folder: RunPaths) -> None:
    folder.root.mkdir(parents=True, exist_ok=True)
    stages.train_policy(settings, plan, dataset, folder)


def _outcome(report: Any) -> Outcome:
    rollouts = report.rollouts
    counted = all(r.evaluations is not None for r in rollouts)
    scores = [r.score for r in rollouts]
    return Outcome(
        successes=[r.success for r in rollouts],
        failures=report.failures,
        decisions=sum(r.decisions for r in rollouts),
        steps=sum(r.steps for r in rollouts),
        evaluations=float(sum(r.evaluations for r in rollouts)) if counted else None,
        scores=scores if None not in scores else None,
    )


def _machine() -> str:
    cores = stages.resolve_workers("auto")
    return f"{_processor()}, {cores} core{'s' if cores > 1 else ''}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _lines(result: BenchResult) -> list[str]:
    """The table for a terminal."""
    lines = [f"{'task':<12} {'cell':<34} {'success':>9}  {'p50 ms':>8} {'p99 ms':>8}  compared"]
    for r in result.rows:
        words = r.verdict + (f" ({100 * r.comparison.difference:+.1f} points)" if r.comparison else "")
        lines.append(f"{r.task:<12} {r.cell:<34} {f'{r.k}/{r.n}':>9}  {r.p50_ms:>8.2f} {r.p99_ms:>8.2f}  {words}")
    return lines


def _figures(result: BenchResult) -> dict[str, dict[str, Any]]:
    return {
        f"{r.task} {r.cell}": {"k": r.k, "n": r.n, "p50_ms": r.p50_ms, "p99_ms": r.p99_ms, "verdict": r.verdict}
        for r in result.rows
    }
