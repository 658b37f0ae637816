"""Tasks whose scenes and success come from another package, so that figures can be compared with those of others."""

from __future__ import annotations

import hashlib
from typing import Literal

from robostack.task.spec import Frozen, Instruction, RobotRef


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
