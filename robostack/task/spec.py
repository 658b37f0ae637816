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
from robostack.task.predicate import COMPARISONS, AnyPred, Atom, Count, Exists, ForAll, Pred, children

Role = Literal["manipuland", "receptacle", "zone", "distractor", "fixture", "tool"]
ControlMode = Literal["ee_pose", "joint_pos"]


class Frozen(BaseModel):
    """Immutable, closed to unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Placement(Frozen):
    """Where an entity may start.

    Attributes:
        box: (x_min, y_min, x_max, y_max) for its centre [m]: on the table in the world frame, on another entity in the
            frame of its support face (``inside``: of its interior's floor), whose origin is the middle of that face.
        yaw: range of the rotation about z, relative to the support [rad].
        clearance: least distance between its footprint and every other one on the same support [m].
        on: "table", or the id of an earlier entity that it starts on.
        inside: it starts on the floor of that entity's interior instead of on its support face.
    """

    box: tuple[float, float, float, float]
    yaw: tuple[float, float] = (0.0, 0.0)
    clearance: float = Field(default=0.02, ge=0.0)
    on: str = "table"
    inside: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Placement:
        x0, y0, x1, y1 = self.box
        if x0 > x1 or y0 > y1 or self.yaw[0] > self.yaw[1]:
            raise ValueError(f"placement bounds are reversed: box={self.box} yaw={self.yaw}")
        return self


class Entity(Frozen):
    """An object of the scene; ``card`` names its asset card.

    Attributes:
        role: a ``fixture`` is bolted to the table where it was placed; a ``tool`` is moved, but the goal is another's.
        size: overrides the card's default size [m]; a mesh takes one number, the factor on its own size.
        mass: overrides the card's mass [kg].
        friction: overrides the card's sliding friction.
        joints: joint name -> range of its fraction at reset; 0 is closed, 1 is open; closed where nothing is said.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    card: str
    color: str
    role: Role
    placement: Placement
    size: tuple[float, ...] | None = None
    mass: float | None = Field(default=None, gt=0.0)
    friction: float | None = Field(default=None, gt=0.0)
    joints: dict[str, tuple[float, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _joint_ranges(self) -> Entity:
        for name, (low, high) in self.joints.items():
            if not 0.0 <= low <= high <= 1.0:
                raise ValueError(f"joint '{name}' of '{self.id}' starts in ({low:g}, {high:g}), not within 0 to 1")
        return self


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
    """What the user said. ``slots`` are the parsed parts: rendering them gives ``text`` back exactly.

    ``paraphrases`` say the same in other words; they are not part of the task's identity.
    """

    text: str = Field(min_length=1)
    paraphrases: tuple[str, ...] = ()
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


Skill = Literal[
    "pick",  # (a): grasp it and hold it up
    "place_on",  # (a, b): pick a, set it down on b's face
    "place_in",  # (a, b): pick a, let it go in b's interior
    "stack",  # (a, b): pick a, set it on b, edges aligned
    "place_beside",  # (a, b, dx, dy): pick a, set it on the table at b's position plus (dx, dy) [m, world]
    "place_at",  # (a, x, y): pick a, set it on the table at (x, y) [m, world]
    "push_to",  # (a, b): push a over the table onto the zone b
    "tool_push",  # (t, a, b): pick the tool t, push a with it onto the zone b, set the tool down
    "insert",  # (a, b): pick a, put it into the hole of b, axes aligned
    "open",  # (o, joint): move a joint to its open end
    "close",  # (o, joint): move a joint to its closed end
    "press",  # (o, joint): push a joint to its open end and withdraw
    "turn",  # (o, joint, fraction): move a joint to a fraction
    "achieve",  # (): nothing is known of how; a search or a learner has to find out
]


class Subgoal(Frozen):
    """A hint for the expert: which skill brings about which predicate. The goal stays authoritative.

    Attributes:
        args: what the skill takes: entity ids, a joint's name after its entity, numbers.
    """

    skill: Skill
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
    init: tuple[Pred, ...] = ()
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
        for index, entity in enumerate(self.entities):
            if entity.placement.on not in ("table", *ids[:index]):
                raise ValueError(
                    f"'{entity.id}' starts on '{entity.placement.on}', which is no entity listed before it"
                )
            if entity.placement.inside and entity.placement.on == "table":
                raise ValueError(f"'{entity.id}' starts inside the table: name the entity that it starts inside")
        for pred in self.predicates():
            _check_names(pred, frozenset((*ids, "table")), frozenset())
        return self

    def predicates(self) -> tuple[AnyPred, ...]:
        """Every predicate of the task: init, goal, never, those of the subgoals."""
        return (*self.init, self.goal, *self.never, *(s.goal for s in self.subgoals))

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def canonical(self) -> str:
        """Sorted keys, floats rounded to 1e-6; no provenance, no paraphrases, no fields at their default.

        Fields that later versions of the schema add therefore leave the identity of today's tasks alone.
        """
        values = self.model_dump(
            mode="json",
            by_alias=True,
            exclude_defaults=True,
            exclude={"provenance": True, "instruction": {"paraphrases"}},
        )
        return json.dumps(_rounded({**values, "schema_version": self.schema_version}), sort_keys=True)

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


def _check_names(pred: AnyPred, ids: frozenset[str], bound: frozenset[str]) -> None:
    """Raise ValueError for an entity or variable that does not exist. Joint names are checked against the cards."""
    if isinstance(pred, (ForAll, Exists, Count)):
        among = pred.body.among
        unknown = [n for n in among if n not in ids] if isinstance(among, tuple) else []
        if unknown:
            raise ValueError(f"a quantifier ranges over {unknown}, entities are {sorted(ids)}")
        if pred.body.var in bound:
            raise ValueError(f"the variable '{pred.body.var}' is bound twice")
        bound = bound | {pred.body.var}
    if isinstance(pred, Atom):
        named = [arg for arg in pred.args if arg not in COMPARISONS]
        for arg in named[:1] if pred.name == "joint" else named:  # its second argument is the name of a joint
            for name in arg if isinstance(arg, tuple) else (arg,):
                known = isinstance(name, str) and (name[1:] in bound if name.startswith("$") else name in ids)
                if isinstance(name, str) and not known:
                    raise ValueError(f"'{pred.name}' refers to '{name}', entities are {sorted(ids)}")
    for part in children(pred):
        _check_names(part, ids, bound)


def _rounded(value):
    if isinstance(value, float):
        return round(value, 6) + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value
