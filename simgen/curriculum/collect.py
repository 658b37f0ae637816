"""Close the loop: an evaluation becomes a plan, and the plan becomes demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robostack.data.atomic import storage_errors, write_json
from robostack.errors import ExpertError, UnknownName
from robostack.paths import data_dirs
from robostack.task.spec import TaskSpec
from simgen.curriculum.allocate import Plan, Rule, Step, nodes, plan_demos
from simgen.curriculum.report import read_report
from simgen.demos import DemoReport, collect
from simgen.library.store import find_folder


@dataclass(frozen=True)
class Feedback:
    """Outcome of one round of feedback.

    Attributes:
        demos: demonstrations collected.
        collected: task id -> what was collected.
        refused: task id -> why nothing was collected.
        lines: the plan, for a terminal.
    """

    plan: Plan
    demos: int
    collected: dict[str, DemoReport]
    refused: dict[str, str]
    lines: tuple[str, ...]


def feedback(
    report: Path | str,
    out_dir: Path | str,
    *,
    budget: int,
    rule: Rule = "frontier",
    trained_on: int = 0,
    gather: bool = True,
    seed: int = 1,
    workers: int = 1,
    progress: bool = False,
) -> Feedback:
    """Plan the next demonstrations from an evaluation, write ``plan.json``, and collect them into ``demos/<task>/``.

    Args:
        report: a student report, a ``metrics.json``, or a folder of evaluations.
        out_dir: where the plan and the demonstrations go.
        budget: demonstrations.
        rule: ``frontier``, or ``uniform`` as the control arm.
        trained_on: demonstrations per task so far, for evaluations that do not say it.
        gather: false: plan only.
        seed: picks the scenes of the demonstrations; another one than that of the student's demonstrations.
        workers: processes.
        progress: whether to show progress bars.

    Raises:
        DataError: the report cannot be read.
        UnknownName: a task of the report is neither beside it nor in the library.
    """
    out_dir = Path(out_dir)
    plan = plan_demos(nodes(read_report(report, trained_on=trained_on).rows), budget, rule)
    with storage_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    write_json(out_dir / "plan.json", plan_values(plan))
    wanted = [step for step in plan.steps if step.demos] if gather else []
    files = {step.node.task_id: _find(step) for step in wanted}
    specs = {task_id: TaskSpec.load(path) for task_id, path in files.items()}  # before anything is collected
    collected: dict[str, DemoReport] = {}
    refused: dict[str, str] = {}
    for step in wanted:
        task_id = step.node.task_id
        try:
            collected[task_id] = collect(
                specs[task_id],
                out_dir / "demos" / task_id,
                n=step.demos,
                seed=seed,
                workers=workers,
                progress=progress,
                folder=files[task_id].parent,
            )
        except ExpertError as error:
            refused[task_id] = str(error)
    return Feedback(plan, sum(r.n for r in collected.values()), collected, refused, tuple(describe(plan)))


def plan_values(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values."""
    return {
        "rule": plan.rule,
        "budget": plan.budget,
        "steps": [_values(step) for step in plan.steps],
        "proposals": [_values(step) for step in plan.proposals],
    }


def describe(plan: Plan) -> list[str]:
    """The plan as lines for a terminal."""
    lines = [f"{'task':<18}{'family':<18}{'success':>8}{'spent':>7}{'demos':>7}  what"]
    lines += [_line(step) for step in sorted(plan.steps, key=lambda step: (-step.demos, step.node.task_id))]
    if plan.proposals:
        lines += ["proposals (each resulting task has to pass the gates)", *map(_proposal, plan.proposals)]
    return lines


def _line(step: Step) -> str:
    node = step.node
    return (
        f"{node.task_id:<18}{node.family or '-':<18}{node.p:>8.2f}{node.spent:>7}{step.demos:>7}"
        f"  {step.action}: {step.why}"
    )


def _proposal(step: Step) -> str:
    other = f" and {step.other}" if step.other else ""
    return f"  {step.action:<15} {step.node.task_id}{other}: {step.why}"


def _values(step: Step) -> dict[str, Any]:
    values: dict[str, Any] = {"task_id": step.node.task_id, "action": step.action, "demos": step.demos}
    return values | {"p": round(step.node.p, 4), "why": step.why} | ({"other": step.other} if step.other else {})


def _find(step: Step) -> Path:
    """The ``task.json`` of a step: beside its evaluation, or in a library."""
    node = step.node
    if node.path and Path(node.path).is_file():
        return Path(node.path)
    roots: Sequence[Path] = [root / "tasks" for root in data_dirs()]
    try:
        return find_folder(node.task_id, roots) / "task.json"
    except UnknownName as error:
        known = error.available
        raise UnknownName("task of the report", node.task_id, known, "Keep task.json beside metrics.json.") from error
