"""What ``robostack gen asset`` does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from robostack.errors import ConfigError, UnknownName
from robostack.sim.cards import load_asset
from simgen.assets.hollow import Claim
from simgen.assets.intake import Progress, intake
from simgen.assets.read import Up
from simgen.assets.record import ASSET_GATES, IntakeReport

CLAIMS: tuple[Claim, ...] = ("interior", "surface")


@dataclass(frozen=True)
class AssetSettings:
    """The verb's settings; see ``simgen.assets.intake.intake``.

    Attributes:
        file: mesh or URDF; ``pybullet_data:<file>`` for one of that package.
        out: data folder that gets the card; make it ``$ROBOSTACK_DATA`` and tasks find it.
    """

    file: str
    name: str
    licence: str
    out: str
    nouns: tuple[str, ...] = ()
    scale: float | None = None
    up: Up = "auto"
    mass: float | None = None
    density: float | None = None
    max_hulls: int = 16
    claims: tuple[Claim, ...] = ()
    graspable: bool = True
    copy: bool = False

    def __post_init__(self):
        for key in ("file", "name", "out"):
            if not getattr(self, key):
                raise ConfigError(f"{key} is missing: robostack gen asset file=<mesh> name=<word> licence=<SPDX id>")
        if self.up not in ("auto", "y", "z"):
            raise ConfigError(f"up={self.up} must be auto, y or z")
        for key in ("scale", "mass", "density"):
            value = getattr(self, key)
            if value is not None and not (type(value) in (int, float) and 0.0 < value < math.inf):
                raise ConfigError(f"{key} must be a number above 0, or null to find it out, not {value}")
        for claim in self.claims:
            if claim not in CLAIMS:
                raise UnknownName("claim", str(claim), CLAIMS)


@dataclass(frozen=True)
class AssetResult:
    """What was taken in.

    Attributes:
        lines: the verdict of each gate, for a person.
    """

    report: IntakeReport
    card: Path
    lines: tuple[str, ...]


def import_asset(settings: AssetSettings, progress: Progress | None = None) -> AssetResult:
    """Take an object in; raises AssetError with the reason when a gate says no."""
    report = intake(
        settings.file,
        name=settings.name,
        licence=settings.licence,
        out_dir=settings.out,
        nouns=settings.nouns,
        scale=settings.scale,
        up=settings.up,
        mass=settings.mass,
        density=settings.density,
        max_hulls=settings.max_hulls,
        claims=settings.claims,
        graspable=settings.graspable,
        copy=settings.copy,
        progress=progress,
    ).raise_for_failure()
    assert report.card is not None
    load_asset.cache_clear()  # the name may have meant another object until now
    return AssetResult(report, report.card, summary(report))


def summary(report: IntakeReport) -> tuple[str, ...]:
    """One line per gate that was tried."""
    lines = []
    for record in sorted(report.records, key=lambda r: r.gate):
        figures = ", ".join(f"{key} {_short(value)}" for key, value in record.metrics.items())
        verdict = "ok" if record.ok else record.code
        lines.append(f"{record.gate} {ASSET_GATES[record.gate]}: {verdict}; {record.detail or figures}")
    return tuple(lines)


def _short(value) -> str:
    if isinstance(value, tuple):
        return " ".join(_short(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
