"""What a student can do: rows of an evaluation per task, read from the files that the verbs write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from robostack.data.atomic import one_line
from robostack.errors import DataError
from robostack.task.spec import Frozen, TaskSpec

FORMAT = "robostack.student/1"
_FIX = "pass the metrics.json of  robostack eval  or  run, a folder of such, or a student report"


class Row(Frozen):
    """One evaluation of one task.

    Attributes:
        task_id: content hash of the task; ``path`` is where its task.json lies, when that is known.
        skill_tags: skills of its subgoals.
        factors: scene factor -> bin, e.g. {"clutter": "2"}.
        n, k: episodes, and those whose goal held at the end.
        first_k: episodes in which the goal held at some time.
        trained_on: demonstrations of this task that the student has been trained on.
        failures: failure code -> episodes.
    """

    task_id: str
    family: str = ""
    path: str = ""
    skill_tags: tuple[str, ...] = ()
    factors: dict[str, str] = Field(default_factory=dict)
    n: int = Field(ge=1)
    k: int = Field(ge=0)
    first_k: int | None = None
    trained_on: int = Field(default=0, ge=0)
    failures: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts(self) -> Row:
        if self.k > self.n:
            raise ValueError(f"k={self.k} successes of n={self.n} episodes")
        return self


class StudentReport(Frozen):
    """Evaluations of one student, in the order in which they were made.

    Attributes:
        policy_id: which student.
    """

    format: str = FORMAT
    policy_id: str = ""
    rows: tuple[Row, ...] = Field(min_length=1)


def read_report(path: Path | str, *, trained_on: int = 0) -> StudentReport:
    """Read a student report, the ``metrics.json`` of an evaluation, or a folder of evaluations.

    Args:
        path: a file, or a folder; in a folder every ``metrics.json`` of an evaluation up to two levels below counts,
            the oldest first.
        trained_on: demonstrations per task, for evaluations that do not say it.

    Raises:
        DataError: nothing to read there, or a file of another kind.
    """
    path = Path(path)
    if not path.is_dir():
        return _read_file(path, trained_on)
    files = sorted({*path.glob("metrics.json"), *path.glob("*/metrics.json"), *path.glob("*/*/metrics.json")}, key=_age)
    rows = [row for file in files if (row := _row(file, _load(file), trained_on)) is not None]
    if not rows:
        raise DataError(f"{path} holds no evaluation: {_FIX}")
    return StudentReport(policy_id=path.name, rows=tuple(rows))


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, str(path)


def _read_file(path: Path, trained_on: int) -> StudentReport:
    values = _load(path)
    if values.get("format") == FORMAT:
        try:
            return StudentReport.model_validate(values)
        except ValidationError as error:
            raise DataError(f"{path} is no student report: {_first(error)}") from error
    row = _row(path, values, trained_on)
    if row is None:
        raise DataError(f"{path} is no evaluation: {_FIX}")
    return StudentReport(policy_id=path.parent.name, rows=(row,))


def _load(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({one_line(error)})"
        raise DataError(f"{path} {reason}: {_FIX}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no JSON object: {_FIX}")
    return values


def _row(path: Path, values: Mapping[str, Any], trained_on: int) -> Row | None:
    """The row of a ``metrics.json``; None when it is of a command that evaluates nothing."""
    figures = _figures(values)
    if figures is None:
        return None
    described = _describe(path.parent / "task.json", str(values.get("task_id")))
    try:
        return Row.model_validate({"trained_on": trained_on, **figures, **described})
    except ValidationError as error:
        raise DataError(f"{path} is damaged: {_first(error)}") from error


def _figures(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Counts of the verb ``eval``, or of the verb ``run``."""
    stages = values.get("stages") or {}
    evaluation = stages.get("evaluate") if isinstance(stages, Mapping) else None
    if values.get("verb") == "eval" and isinstance(evaluation, Mapping):
        n, k = evaluation.get("n"), evaluation.get("successes")
        figures = {"n": n, "k": k, "failures": dict(stages.get("failures") or {})}
        first = evaluation.get("first_time_success")
        return figures | ({"first_k": round(first * n)} if isinstance(first, float) and isinstance(n, int) else {})
    policy = values.get("policy")
    if isinstance(policy, Mapping) and isinstance(policy.get("n"), int):
        n = policy["n"]
        figures = {"n": n, "k": round(policy["success"] * n), "first_k": round(policy["first_time_success"] * n)}
        trained = (values.get("demos") or {}).get("n")
        figures |= {"trained_on": trained} if isinstance(trained, int) else {}
        return figures | {"failures": dict(values.get("failure_codes") or {})}
    return None


def _describe(path: Path, task_id: str) -> dict[str, Any]:
    """What the evaluated task is; only its id where its task.json is not beside the figures."""
    if not path.is_file():
        return {"task_id": task_id}
    spec = TaskSpec.load(path)
    if spec.id != task_id:
        raise DataError(f"{path} is task {spec.id}, the figures beside it are of {task_id}: evaluate again")
    return {"task_id": task_id, "path": str(path), **tags(spec)}


def tags(spec: TaskSpec) -> dict[str, Any]:
    """Family, skills and scene factors of a task, as rows hold them."""
    distractors = sum(entity.role == "distractor" for entity in spec.entities)
    factors = {"robot": spec.robot.name, "clutter": str(distractors), "objects": str(len(spec.entities))}
    skills = tuple(dict.fromkeys(subgoal.skill for subgoal in spec.subgoals))
    return {"family": spec.family, "skill_tags": skills, "factors": factors}


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    return f"{'.'.join(str(part) for part in details['loc']) or 'root'}: {details['msg']}"
