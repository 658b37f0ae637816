"""Robot and asset cards: a robot or an object is one YAML file in ``data/``, checked when it is read."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from robostack.errors import SpecError, UnknownName
from robostack.paths import find_cards
from robostack.task.profile import RobotProfile
from robostack.task.spec import Frozen
from robostack.task.world import Interior, Surface, Symmetry

Vec3 = tuple[float, float, float]


class Source(Frozen):
    """Where the robot's description lies: ``file`` relative to the root's directory of robots."""

    root: Literal["example-robot-data", "menagerie", "card"] = "example-robot-data"
    file: str


class ArmCard(Frozen):
    """The arm's joints from base to wrist, all revolute.

    Attributes:
        home: joint positions of the rest pose [rad].
        kp, kd: gains of the position servo [N m/rad, N m s/rad].
        force: torque limit [N m].
        velocity: speed limit that the controller respects [rad/s].
        range: replaces the description's joint ranges [rad] where given.
    """

    joints: tuple[str, ...]
    home: tuple[float, ...]
    kp: tuple[float, ...]
    kd: tuple[float, ...]
    force: tuple[float, ...]
    velocity: tuple[float, ...]
    range: tuple[tuple[float, float], ...] | None = None
    armature: float = 0.1
    damping: float = 1.0

    @model_validator(mode="after")
    def _same_length(self) -> ArmCard:
        for name in ("home", "kp", "kd", "force", "velocity", "range"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.joints):
                raise ValueError(f"arm.{name} has {len(values)} values for {len(self.joints)} joints")
        return self


class Pad(Frozen):
    """A box that touches objects: centre and half extents in the frame of ``body`` [m], Euler xyz [rad]."""

    body: str
    side: Literal["left", "right"]
    pos: Vec3
    half: Vec3
    euler: Vec3 = (0.0, 0.0, 0.0)


class ParallelGripper(Frozen):
    """A two-finger gripper that robostack builds itself and bolts to ``body`` (z of the body points outwards).

    Attributes:
        stroke: travel of each finger [m].
        palm: half extents of the palm [m].
        finger: half extents of each finger [m].
    """

    body: str
    stroke: float = 0.0425
    palm: Vec3 = (0.03, 0.06, 0.045)
    finger: Vec3 = (0.011, 0.006, 0.03)


class GripperCard(Frozen):
    """How the gripper closes. Joint values at fully open and closed; the first joint is driven, others mimic it.

    Attributes:
        max_opening: the widest object between the pads [m].
        pad_solref: time constant of the pads' contacts, at least twice the physics step [s]; shorter is harder.
        release_s: how slowly it should open to let go without dragging the object [s].
        hidden: bodies whose own collision shapes are replaced by the pads.
    """

    joints: tuple[str, ...]
    open: float
    closed: float
    kp: float
    kd: float
    force: float
    armature: float = 0.1
    damping: float = 10.0
    max_opening: float
    release_s: float = 0.25
    pad_solref: float = 0.01
    pads: tuple[Pad, ...] = ()
    hidden: tuple[str, ...] = ()
    attach: ParallelGripper | None = None


class Tcp(Frozen):
    """Tool-centre frame on ``body``: z is the approach direction, y the direction in which the fingers close."""

    body: str
    pos: Vec3 = (0.0, 0.0, 0.0)
    euler: Vec3 = (0.0, 0.0, 0.0)


class RobotCard(Frozen):
    """Everything that makes an arm usable: its description, servo, gripper, tool frame and workspace.

    Attributes:
        workspace: (x_min, y_min, x_max, y_max) on the table where the tool reaches straight down [m].
        lift: height of the tool in free transport [m].
        control_hz: default control rate.
        object_scale: factor on the default object sizes.
        rotation_weight: weight of 1 rad against 1 m in inverse kinematics; small for arms with 5 joints.
        tilt_tolerance: how far the tool may deviate from a planned orientation [rad]; wide for arms with 5 joints.
        base_height: height of the base frame above the table [m].
        colors: regular expression on body names -> RGBA; the first match paints.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str
    licence: str
    source: Source
    arm: ArmCard
    gripper: GripperCard
    tcp: Tcp
    workspace: tuple[float, float, float, float]
    lift: float
    control_hz: float = 20.0
    object_scale: float = 1.0
    rotation_weight: float = 0.3
    tilt_tolerance: float = 0.06
    base_height: float = 0.0
    colors: dict[str, tuple[float, float, float, float]] = Field(default_factory=dict)
    path: str = ""

    @property
    def profile(self) -> RobotProfile:
        """What a task generator needs to know of the robot."""
        return RobotProfile(
            name=self.name,
            workspace=self.workspace,
            object_scale=self.object_scale,
            gripper_max_opening_m=self.gripper.max_opening,
            control_hz=self.control_hz,
        )


class JointCard(Frozen):
    """A joint of an articulated object: what resists its motion.

    Attributes:
        damping: [N s/m] or [N m s/rad].
        friction: dry friction [N] or [N m].
        spring: stiffness of a return spring that closes it [N/m] or [N m/rad]; 0 for none.
    """

    damping: float = Field(gt=0.0)
    friction: float = Field(default=0.0, ge=0.0)
    spring: float = Field(default=0.0, ge=0.0)


class MeshFile(Frozen):
    """A file of triangles, and what it must hash to.

    Attributes:
        file: relative to the folder of the card, or to that of the package.
        group: name of one object in an OBJ file; all of them where nothing is said.
    """

    file: str
    group: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class MeshCard(Frozen):
    """Geometry of an imported object. The body frame is that of its rest pose: origin amid its bounding box, z up.

    Attributes:
        root: where the files lie: beside the card, or in an installed package that is not copied.
        visual: what is seen.
        parts: convex pieces that touch; the convex hull of the visual file where there are none.
        unit: metres per unit of the files.
        pos, quat: pose of the files' frame in the body frame [m], wxyz.
        half: half extents of the bounding box [m].
        volume: sum over the convex pieces [m^3].
        feet: small balls sunk into the face that it rests on, on which it stands [m].
        surface, interior: what it offers to others, found and tried out when it was imported.
        provenance: where it comes from, and what was done to it.
    """

    root: Literal["card", "pybullet_data"] = "card"
    visual: MeshFile
    parts: tuple[MeshFile, ...] = ()
    unit: float = Field(default=1.0, gt=0.0)
    pos: Vec3 = (0.0, 0.0, 0.0)
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    half: Vec3
    volume: float = Field(gt=0.0)
    feet: tuple[Vec3, ...] = ()
    surface: Surface | None = None
    interior: Interior | None = None
    provenance: dict[str, str] = Field(default_factory=dict)


class Grasp(Frozen):
    """A grasp from above at scale 1, in the body frame at rest.

    Attributes:
        pos: middle of the two contacts [m].
        yaw: direction in which the fingers close, about z [rad]; modulo half a turn.
        width: distance of the two contacts [m].
    """

    pos: Vec3
    yaw: float
    width: float = Field(gt=0.0)


class AssetCard(Frozen):
    """An object class.

    Attributes:
        shape: geometry builder in ``robostack.sim.objects``.
        fixed: bolted to the table where it was placed.
        joints: joint name -> what resists it; the shape defines which joints there are, their axes and ranges.
        size: default size, in the order that the shape defines [m].
        mass: default mass at default size [kg]; scales with the volume.
        friction: sliding, torsional [m], rolling [m].
        grasp_axis: ``none``, ``faces`` (four yaws of a square), ``axial`` (any yaw), ``rim`` (over the edge) or
            ``card`` (``grasps``, best first).
        mesh: geometry of the shape ``mesh``, whose size is one factor.
    """

    name: str
    nouns: tuple[str, ...]
    licence: str
    shape: str
    fixed: bool = False
    joints: dict[str, JointCard] = Field(default_factory=dict)
    size: tuple[float, ...]
    mass: float = Field(ge=0.0)
    friction: Vec3 = (0.8, 0.01, 0.0005)
    symmetry: Symmetry
    grasp_axis: Literal["none", "faces", "axial", "rim", "card"]
    grasps: tuple[Grasp, ...] = ()
    mesh: MeshCard | None = None
    path: str = ""

    @model_validator(mode="after")
    def _mesh_is_a_mesh(self) -> AssetCard:
        if (self.shape == "mesh") != (self.mesh is not None):
            raise ValueError(f"shape '{self.shape}': the shape mesh, and no other, needs the field mesh")
        if (self.grasp_axis == "card") != bool(self.grasps):
            raise ValueError(f"grasp_axis '{self.grasp_axis}': the axis card, and no other, needs a list of grasps")
        return self


Card = TypeVar("Card", bound=BaseModel)


def _load(group: str, kind: str, name: str, cls: type[Card], extra: dict[str, Any]) -> Card:
    cards = find_cards(group)
    if name not in cards:
        raise UnknownName(
            kind, name, cards, f"A new one is one YAML file in data/{group}/ or $ROBOSTACK_DATA/{group}/."
        )
    try:
        values = yaml.safe_load(cards[name].read_text())
        if not isinstance(values, dict):
            raise SpecError(f"{cards[name]} is not a valid {kind} card: it holds no fields, only {values!r}")
        return cls.model_validate({**values, **extra})
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise SpecError(f"{cards[name]} is not a valid {kind} card: {where}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{cards[name]} is not YAML: {' '.join(str(error).split())}") from error


@functools.cache
def load_robot(name: str) -> RobotCard:
    """The robot card of that name; raises UnknownName listing the others."""
    path = find_cards("robots").get(name, Path())
    return _load("robots", "robot", name, RobotCard, {"path": str(path)})


@functools.cache
def load_asset(name: str) -> AssetCard:
    """The asset card of that name; raises UnknownName listing the others."""
    path = find_cards("assets").get(name, Path())
    return _load("assets", "object", name, AssetCard, {"path": str(path)})


def robots() -> tuple[str, ...]:
    """Names of all robot cards."""
    return tuple(sorted(find_cards("robots")))
