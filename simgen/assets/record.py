"""What the intake gates say of an imported object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from robostack.errors import AssetError
from robostack.task.spec import Frozen

AssetGate = Literal["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8"]

ASSET_GATES: Mapping[AssetGate, str] = {
    "A1": "licence",
    "A2": "closed, or made of few convex pieces",
    "A3": "size",
    "A4": "density and inertia",
    "A5": "stands still",
    "A6": "graspable from above",
    "A7": "joints",
    "A8": "hollow and face",
}

Metric = int | float | str | bool | tuple[int | float | str, ...]


class AssetRecord(Frozen):
    """Outcome of one intake gate.

    Attributes:
        code: "OK", or what is wrong in capitals, e.g. "TOO_LARGE".
        detail: one line for a person: the culprit and the fix.
        metrics: figures behind the verdict.
    """

    gate: AssetGate
    ok: bool
    code: str = "OK"
    detail: str = ""
    metrics: dict[str, Metric] = Field(default_factory=dict)


class GateFailure(Exception):
    """A gate says no; carries its record."""

    def __init__(self, gate: AssetGate, code: str, detail: str, **metrics: Metric):
        plain = {key: _finite(value) for key, value in metrics.items()}
        self.record = AssetRecord(gate=gate, ok=False, code=code, detail=detail, metrics=plain)
        super().__init__(f"{gate} {code}: {detail}")


def _finite(value: Metric) -> Metric:
    """A metric as it may be written: JSON knows no NaN, and a fault may be just that."""
    if isinstance(value, tuple):
        return tuple(str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class IntakeReport:
    """What became of a file.

    Attributes:
        records: in the order of the gates, up to the first failure.
        card: the asset card's file; None when a gate said no, in which case nothing was written.
        files: everything that was written.
    """

    name: str
    records: tuple[AssetRecord, ...]
    card: Path | None = None
    files: tuple[Path, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the object was taken in."""
        return self.card is not None

    @property
    def failed(self) -> AssetRecord | None:
        """The gate that said no."""
        return next((record for record in self.records if not record.ok), None)

    def raise_for_failure(self) -> IntakeReport:
        """Itself; raises AssetError with the failed gate's sentence."""
        if self.failed is not None:
            raise AssetError(f"'{self.name}' was not taken in: {self.failed.code}: {self.failed.detail}")
        return self
