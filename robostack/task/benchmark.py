"""Tasks whose scenes and success come from another package, so that figures can be compared with those of others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from robostack.errors import SpecError
from robostack.task.spec import Frozen, Instruction, RobotRef, TaskSpec


class PushTTask(Frozen):
    """gym-pusht's environment. It has those parts of a TaskSpec that tasks of all kinds share.

    Attributes:
        benchmark: marks its ``task.json``.
        environment: the package that makes the scenes, and its version.
    """

    benchmark: Literal["pusht"] = "pusht"
    environment: Literal["gym-pusht==0.1.8"] = "gym-pusht==0.1.8"
    name: Literal["pusht"] = "pusht"
    instruction: Instruction = Instruction(text="push the T onto its outline")
    robot: RobotRef = RobotRef(name="pusht", control_hz=10.0)
    horizon_s: float = 30.0

    @property
    def id(self) -> str:
        """Content hash, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Readable JSON."""
        return self.model_dump_json(indent=2)


BENCHMARKS = {"pusht": PushTTask}
"""Tasks that a name stands for, where others need a ``task.json``."""

Task = TaskSpec | PushTTask


def task_from_json(text: str, source: str = "task") -> Task:
    """Parse and validate a ``task.json`` of either kind.

    Raises:
        SpecError: it is neither; names the first wrong field.
    """
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict) or "benchmark" not in values:
        return TaskSpec.from_json(text, source)
    try:
        return PushTTask.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(
            f"{source} is not a benchmark that this robostack has ({'/'.join(map(str, first['loc']))}: {first['msg']}):"
            f" pass task=<one of {', '.join(BENCHMARKS)}>"
        ) from error


def load_task(path: Path) -> Task:
    """Read a task of either kind from a JSON file."""
    return task_from_json(path.read_text(), str(path)) if path.is_file() else TaskSpec.load(path)
