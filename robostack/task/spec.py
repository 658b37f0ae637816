"""TaskSpec: a task as data. The same object whether a grammar, a language model or a person wrote it.

World frame: origin at the robot's base, x forward, y left, z up; the table top is the plane z = 0.
Lengths in metres, angles in radians, times in seconds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robostack.errors import SpecError
from robostack.task.predicate import Pred, atoms_of

Role = Literal["manipuland", "receptacle", "zone", "distractor"]
ControlMode = Literal["ee_pose", "joint_pos"]


class Frozen(BaseModel):
    """Immutable, closed to unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Placement(Frozen):
    """Where an entity may start.

    Attributes:
        box: (x_min, y_min, x_max, y_max) for its centre on the table, world frame [m].
        yaw: range of the rotation about z [rad].
        clearance: least distance between its footprint and every other one [m].
    """

    box: tuple[float, float, float, float]
    yaw: tuple[float, float] = (0.0, 0.0)
    clearance: float = Field(default=0.02, ge=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> Placement:
        x0, y0, x1, y1 = self.box
        if x0 > x1 or y0 > y1 or self.yaw[0] > self.yaw[1]:
            raise ValueError(f"placement bounds are reversed: box={self.box} yaw={self.yaw}")
        return self


class Entity(Frozen):
    """An object of the scene; ``card`` names its asset card, ``size`` overrides the card's default [m]."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    card: str
    color: str
    role: Role
    placement: Placement
    size: tuple[float, ...] | None = None


class RobotRef(Frozen):
    """Which robot, and how it is commanded."""

    name: str
    control_mode: ControlMode = "ee_pose"
    control_hz: float = Field(default=20.0, gt=0.0)


class Physics(Frozen):
    """Simulation step [s], and randomisation of mass and friction as +- fractions (0 disables)."""

    timestep: float = Field(default=0.002, gt=0.0, le=0.02)
    mass_jitter: float = Field(default=0.0, ge=0.0, le=0.9)
    friction_jitter: float = Field(default=0.0, ge=0.0, le=0.9)


class Instruction(Frozen):
    """What the user said. ``slots`` are the parsed parts: rendering them gives ``text`` back exactly."""

    text: str = Field(min_length=1)
    template: str = ""
    slots: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)


class Hold(Frozen):
    """How long and how still the goal must hold to count.

    Attributes:
        seconds: the goal's margin stays >= 0 for this long.
        max_lin: upper bound on the speed of every manipuland [m/s].
        max_ang: the same for angular speed [rad/s].
        released: no manipuland may be touched by the robot.
    """

    seconds: float = Field(default=0.5, ge=0.0)
    max_lin: float = Field(default=0.02, gt=0.0)
    max_ang: float = Field(default=0.2, gt=0.0)
    released: bool = True


class Subgoal(Frozen):
    """A hint for the expert: which skill brings about which predicate. The goal stays authoritative.

    Attributes:
        skill: ``place_beside`` puts args[0] on the table at the position of args[1] plus (args[2], args[3]) [m, world].
        args: entity ids, then numbers.
    """

    skill: Literal["pick", "place_on", "place_in", "stack", "push_to", "place_beside"]
    args: tuple[str | float, ...]
    goal: Pred


class TaskSpec(Frozen):
    """A task. Identity is the content hash ``id``, not the ``name``."""

    schema_version: Literal["robostack.task/1"] = "robostack.task/1"
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    family: str
    instruction: Instruction
    robot: RobotRef
    entities: tuple[Entity, ...] = Field(min_length=1)
    goal: Pred
    hold: Hold = Hold()
    never: tuple[Pred, ...] = ()
    subgoals: tuple[Subgoal, ...] = ()
    horizon_s: float = Field(default=15.0, gt=0.0)
    physics: Physics = Physics()
    provenance: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _closed(self) -> TaskSpec:
        ids = [entity.id for entity in self.entities]
        if len(set(ids)) != len(ids):
            raise ValueError(f"entity ids are not unique: {ids}")
        for pred in (self.goal, *self.never, *(s.goal for s in self.subgoals)):
            for node in atoms_of(pred):
                for arg in node.args:
                    names = arg if isinstance(arg, tuple) else (arg,)
                    unknown = [n for n in names if isinstance(n, str) and n not in (*ids, "table")]
                    if unknown:
                        raise ValueError(f"'{node.name}' refers to {unknown}, entities are {ids}")
        return self

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON without provenance."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def canonical(self) -> str:
        """Sorted keys, floats rounded to 1e-6, no provenance."""
        return json.dumps(_rounded(self.model_dump(mode="json", by_alias=True, exclude={"provenance"})), sort_keys=True)

    def entity(self, entity_id: str) -> Entity:
        """The entity of that id."""
        return next(e for e in self.entities if e.id == entity_id)

    def manipulands(self) -> tuple[Entity, ...]:
        """Entities that the task asks to move."""
        return tuple(e for e in self.entities if e.role == "manipuland")

    def to_json(self) -> str:
        """Readable JSON; ``from_json`` inverts it."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2)

    @classmethod
    def from_json(cls, text: str, source: str = "task") -> TaskSpec:
        """Parse and validate; raises SpecError with the path of the first wrong field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = "/".join(str(part) for part in first["loc"]) or "root"
            raise SpecError(f"{source} is not a valid TaskSpec: {where}: {first['msg']}") from error

    @classmethod
    def load(cls, path: Path | str) -> TaskSpec:
        """Read a spec from a JSON file."""
        path = Path(path)
        if not path.is_file():
            raise SpecError(f"no task at {path}: pass the path of a task.json, as written by  robostack gen")
        return cls.from_json(path.read_text(), str(path))


def _rounded(value):
    if isinstance(value, float):
        return round(value, 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value
