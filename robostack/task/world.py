"""The view of a simulated scene that predicates are evaluated on.

The simulator builds one ``World`` per compiled scene; everything here reads MuJoCo state and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.errors import SpecError

Symmetry = Literal["none", "axial", "cube", "box", "square_prism", "sphere"]

NOBODY, ROBOT, TABLE = -1, -2, -3  # owners of a geom that is no entity's


@dataclass(frozen=True)
class Surface:
    """A horizontal support face in the body frame: a rectangle, or a disc when ``round``.

    Attributes:
        center: centre of the face [m].
        half: half extents along body x and y [m]; the radius twice for a disc.
    """

    center: tuple[float, float, float]
    half: tuple[float, float]
    round: bool = False


@dataclass(frozen=True)
class Interior:
    """A hollow in the body frame: a box, or an upright cylinder when ``round`` (half[0] = half[1] = radius)."""

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    round: bool = False


@dataclass(frozen=True)
class Grip:
    """The part of an object that a gripper takes from above, a box in the body frame.

    Attributes:
        center, half: of the box [m].
        across: the body axes along which the fingers may close on it.
    """

    center: tuple[float, float, float]
    half: tuple[float, float, float]
    across: tuple[Literal["x", "y"], ...] = ("x", "y")


@dataclass(frozen=True)
class JointBinding:
    """A joint of an articulated entity. Its fraction is (q - closed) / (open - closed).

    Attributes:
        kind: ``slide`` [m] or ``hinge`` [rad].
        qpos, dof: addresses of the joint.
        closed, open: joint positions at fractions 0 and 1.
        body: the body that it moves.
        handle: id of the site where a robot takes hold or pushes; z of the site points out of the handle, towards the
            approaching gripper, y along the bar of the handle.
    """

    name: str
    kind: Literal["slide", "hinge"]
    qpos: int
    dof: int
    closed: float
    open: float
    body: int
    handle: int


@dataclass(frozen=True)
class EntityBinding:
    """Where an entity of the spec lives in the compiled model.

    Attributes:
        body: MuJoCo body id; of an articulated one its fixed base.
        geoms: ids of its collision geoms, those of its moving parts included; empty for a zone, which is only painted.
        dof: first velocity index of its free joint; -1 when it is fixed to the table.
        up: the axis that points up when it stands [body frame].
        half: half extents of its bounding box about the body origin [m].
        surface_body, interior_body: the body that carries them where it is another one, as a drawer's; else -1.
        joints: the joints of an articulated entity by name.
        grip: the part by which a gripper takes it, as a lid's knob; None for the whole of it.
    """

    id: str
    card: str
    color: str
    role: str
    body: int
    geoms: tuple[int, ...]
    dof: int
    symmetry: Symmetry
    half: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    surface: Surface | None = None
    interior: Interior | None = None
    surface_body: int = -1
    interior_body: int = -1
    joints: Mapping[str, JointBinding] = field(default_factory=dict)
    grip: Grip | None = None


@dataclass(frozen=True)
class RobotBinding:
    """Robot parts that predicates speak about.

    Attributes:
        geoms: ids of all collision geoms of the robot, pads included.
        pads: geom ids of the left and of the right finger pad.
        ee_site: id of the tool-centre site between the pads; its z axis is the approach direction.
    """

    geoms: frozenset[int]
    pads: tuple[tuple[int, ...], tuple[int, ...]]
    ee_site: int


@dataclass(frozen=True)
class Snapshot:
    """The state at reset: entity id -> position [m], rotation matrix [world frame] and lowest z [m].

    ``joints``: (entity id, joint name) -> fraction. ``qpos``: all generalised positions.
    """

    pos: Mapping[str, Float[np.ndarray, "3"]]
    rot: Mapping[str, Float[np.ndarray, "3 3"]]
    bottom: Mapping[str, float]
    joints: Mapping[tuple[str, str], float] = field(default_factory=dict)
    qpos: Float[np.ndarray, " Nq"] | None = None


@dataclass
class World:
    """A compiled scene with its live state. ``initial`` is what ``moved`` and ``lifted`` compare with.

    Attributes:
        geom_owner: per geom the index of its entity, or NOBODY, ROBOT, TABLE.
        index: entity id -> that index.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    entities: Mapping[str, EntityBinding]
    robot: RobotBinding
    table_geoms: frozenset[int]
    initial: Snapshot | None = None
    geom_owner: np.ndarray = field(init=False)
    index: Mapping[str, int] = field(init=False)
    _reset: tuple[Snapshot, World] | None = field(init=False, default=None, repr=False)

    def __post_init__(self):
        self.geom_owner = np.full(self.model.ngeom, NOBODY, dtype=np.int32)
        self.geom_owner[list(self.robot.geoms)] = ROBOT
        self.geom_owner[list(self.table_geoms)] = TABLE
        self.index = {name: index for index, name in enumerate(self.entities)}
        for index, binding in enumerate(self.entities.values()):
            self.geom_owner[list(binding.geoms)] = index

    def at_reset(self) -> World:
        """The scene as it was at reset, on data of its own that nobody may change; made once per episode.

        Raises:
            SpecError: there is no snapshot, or it has no ``qpos``.
        """
        initial = self.initial
        if initial is None or initial.qpos is None:
            raise SpecError("'initially' looks at the state at reset: set world.initial, with its qpos, after reset")
        if self._reset is None or self._reset[0] is not initial:
            data = mujoco.MjData(self.model)
            data.qpos[:] = initial.qpos
            data.mocap_pos[:], data.mocap_quat[:] = self.data.mocap_pos, self.data.mocap_quat  # fixtures stay put
            mujoco.mj_forward(self.model, data)
            then = replace(self, data=data)
            self._reset = initial, then
        return self._reset[1]

    def pos(self, entity: str) -> Float[np.ndarray, "3"]:
        """Position of the entity's body origin [m, world]; a view that changes with the state."""
        return self.data.xpos[self.entities[entity].body]

    def rot(self, entity: str) -> Float[np.ndarray, "3 3"]:
        """Rotation matrix of the entity's body, world frame; a view that changes with the state."""
        return self.data.xmat[self.entities[entity].body].reshape(3, 3)

    def com(self, entity: str) -> Float[np.ndarray, "3"]:
        """Centre of mass [m, world]."""
        return self.data.xipos[self.entities[entity].body]

    def fraction(self, entity: str, joint: str) -> float:
        """How far a joint is open now: 0 closed, 1 open."""
        binding = self.entities[entity].joints[joint]
        return (float(self.data.qpos[binding.qpos]) - binding.closed) / (binding.open - binding.closed)

    def joint_speed(self, entity: str, joint: str) -> float:
        """How fast a joint moves, in fractions of its range per second; >= 0."""
        binding = self.entities[entity].joints[joint]
        return abs(float(self.data.qvel[binding.dof]) / (binding.open - binding.closed))

    def velocity(self, entity: str) -> tuple[float, float]:
        """Linear [m/s] and angular [rad/s] speed; zero for an entity that is fixed to the table."""
        dof = self.entities[entity].dof
        if dof < 0:
            return 0.0, 0.0
        qvel = self.data.qvel[dof : dof + 6]
        return float(np.sqrt(qvel[:3] @ qvel[:3])), float(np.sqrt(qvel[3:] @ qvel[3:]))
