"""``metrics.json``: the figures of one command, checked against a schema before they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from robostack import __version__
from robostack.cli.workspace import RunPaths
from robostack.data.atomic import write_json

Scalar = bool | int | float | str | None


class Metrics(BaseModel):
    """Figures of one finished command.

    Attributes:
        seconds: wall time of each stage [s]; a resumed stage counts only its last part.
        stages: the scalar results of each stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal["robostack.metrics/1"] = "robostack.metrics/1"
    robostack: str = __version__
    verb: str
    task_id: str | None = None
    sentence: str | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    stages: dict[str, dict[str, Scalar]] = Field(default_factory=dict)


def write_metrics(
    paths: RunPaths,
    verb: str,
    *,
    seconds: Mapping[str, float],
    stages: Mapping[str, Mapping[str, Scalar]],
    task_id: str | None = None,
    sentence: str | None = None,
) -> Metrics:
    """Validate and write; this is the last file of a command and marks it as finished."""
    metrics = Metrics(
        verb=verb,
        task_id=task_id,
        sentence=sentence,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        stages={name: dict(values) for name, values in stages.items()},
    )
    write_json(paths.metrics, metrics.model_dump(mode="json"))
    return metrics
