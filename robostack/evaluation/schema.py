"""The schema of ``metrics.json``, checked before anything is written.

Rates are in [0, 1], times in seconds unless the name says otherwise; unknown fields and non-finite numbers are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robostack.data.atomic import write_atomic
from robostack.errors import DataError

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(ge=0.0)]


class Metrics(BaseModel):
    """Base: immutable, closed, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ExpertMetrics(Metrics):
    """How often the scripted expert solved the task, over ``n`` seeds."""

    success: Rate
    n: Count


class DemoMetrics(Metrics):
    """Demonstrations: how many, how many of them replayed bit-exactly, how fast they were recorded."""

    n: Count
    replayed_exact: Count
    per_minute: Positive

    @model_validator(mode="after")
    def _part_of_all(self) -> DemoMetrics:
        if self.replayed_exact > self.n:
            raise ValueError(f"replayed_exact={self.replayed_exact} of n={self.n}")
        return self


class PolicyMetrics(Metrics):
    """Success of the policy at the end of its episodes, with Wilson's 95 % interval.

    Attributes:
        first_time_success: rate of the episodes in which the goal held at some time.
    """

    success: Rate
    n: Annotated[int, Field(ge=1)]
    wilson_low: Rate
    wilson_high: Rate
    first_time_success: Rate

    @model_validator(mode="after")
    def _ordered(self) -> PolicyMetrics:
        if not self.wilson_low - 1e-9 <= self.success <= self.wilson_high + 1e-9:
            raise ValueError(f"success={self.success} lies outside [{self.wilson_low}, {self.wilson_high}]")
        return self

    @property
    def successes(self) -> int:
        """Number of successful episodes."""
        return round(self.success * self.n)


class LatencyMetrics(Metrics):
    """Percentiles of the time of one policy inference [ms]."""

    p50: Positive
    p99: Positive

    @model_validator(mode="after")
    def _ordered(self) -> LatencyMetrics:
        if self.p50 > self.p99:
            raise ValueError(f"p50={self.p50} exceeds p99={self.p99}")
        return self


class EffortMetrics(Metrics):
    """What the policy's episodes took, all together.

    Attributes:
        held_steps: control steps in which the robot waited for a decision.
        nfe_per_decision: network evaluations per decision; None when the policy does not count them.
        nfe_per_action: network evaluations per command that a decision gave.
    """

    decisions: Count
    held_steps: Count
    nfe_per_decision: Positive | None = None
    nfe_per_action: Positive | None = None


class EnvMetrics(Metrics):
    """Speed of the simulated environment, with the expert or policy left out.

    Attributes:
        frame_96x96_ms: time of one camera frame [ms]; None without a renderer.
    """

    control_steps_per_s: Positive
    frame_96x96_ms: Positive | None = None


class RunMetrics(Metrics):
    """``metrics.json`` of the verb ``run``.

    Attributes:
        wall_s: duration of the whole run [s].
        stages: duration of each stage [s], in the order of their execution.
        failure_codes: code -> number of policy episodes that failed so.
        params: number of the policy's weights.
    """

    task_id: str
    robot: str
    expert: ExpertMetrics
    demos: DemoMetrics
    policy: PolicyMetrics
    latency_ms: LatencyMetrics
    env: EnvMetrics
    wall_s: Positive
    effort: EffortMetrics | None = None
    sentence: str | None = None
    stages: dict[str, Positive] | None = None
    peak_rss_gib: Positive | None = None
    failure_codes: dict[str, Count] | None = None
    params: Count | None = None


def write_json_atomic(path: Path | str, model: BaseModel) -> Path:
    """Write a model as readable JSON, complete or not at all; fields that are None are left out.

    The content is validated again, since pydantic does not check what ``model_construct`` or ``model_copy`` were given.

    Raises:
        DataError: a value that the schema forbids.
        StorageError: the disk is full or not writable.
    """
    path = Path(path)
    try:
        checked = type(model).model_validate(model.model_dump())
    except ValidationError as error:
        raise DataError(f"{path.name} would be invalid: {_first(error)}") from error
    write_atomic(path, (checked.model_dump_json(indent=2, exclude_none=True) + "\n").encode())
    return path


def read_metrics(path: Path | str) -> RunMetrics:
    """Read and check a ``metrics.json``.

    Raises:
        DataError: missing, or not of this schema.
    """
    try:
        return RunMetrics.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): pass the metrics.json of a finished run") from error
    except ValidationError as error:
        raise DataError(f"{path} is not the metrics of a run: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    where = ".".join(str(part) for part in details["loc"]) or "root"
    return f"{where}: {details['msg']}"
