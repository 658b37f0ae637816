"""What a shape builder gets, what it returns, and the table of shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import mujoco

from robostack.registry import Registry
from robostack.sim.cards import AssetCard, JointCard
from robostack.task.world import Grip, Interior, Surface

Rgba = tuple[float, float, float, float]


@dataclass(frozen=True)
class Blank:
    """An empty body that a builder fills.

    Attributes:
        spec, body: where the geoms go; the body's name prefixes those of its parts.
        size: as the shape's labels say [m].
        rgba: the entity's colour.
        mass: of the whole object [kg].
        friction: sliding, torsional [m], rolling [m].
        joints: what resists the joints at the card's own size.
        volume: volume of this size over that of the card's.
        card: what is built.
    """

    spec: mujoco.MjSpec
    body: mujoco.MjsBody
    size: tuple[float, ...]
    rgba: Rgba
    mass: float
    friction: tuple[float, float, float]
    joints: Mapping[str, JointCard]
    volume: float
    card: AssetCard


@dataclass(frozen=True)
class JointShape:
    """A joint that a builder made.

    Attributes:
        kind: ``slide`` [m] or ``hinge`` [rad].
        joint, body, handle: names of the joint, of the body it moves and of the site where a robot takes hold.
        closed, open: joint positions at fractions 0 and 1.
    """

    kind: Literal["slide", "hinge"]
    joint: str
    body: str
    handle: str
    closed: float
    open: float


@dataclass(frozen=True)
class Shape:
    """What a shape offers besides its geoms.

    Attributes:
        half: half extents of the bounding box about the body origin, by the farther side [m].
        rest_z: height of the body origin when it rests on a surface [m].
        footprint: half extents of its footprint [m].
        round: whether the footprint is a disc.
        outline: (x_min, y_min, x_max, y_max) of an uneven footprint, with what moving parts sweep [m, body].
        surface_body, interior_body: names of the bodies that carry them where it is a moving part; else empty.
        joints: by name.
        grip: the part by which a gripper takes it; None for the whole of it.
    """

    half: tuple[float, float, float]
    rest_z: float
    footprint: tuple[float, float]
    round: bool
    surface: Surface | None = None
    interior: Interior | None = None
    outline: tuple[float, float, float, float] | None = None
    surface_body: str = ""
    interior_body: str = ""
    joints: Mapping[str, JointShape] = field(default_factory=dict)
    grip: Grip | None = None


Builder = Callable[[Blank], Shape]


@dataclass(frozen=True)
class ShapeKind:
    """A builder with the names of the lengths that make up its size, and of the joints that it makes."""

    build: Builder
    labels: tuple[str, ...]
    joints: tuple[str, ...] = ()


SHAPES: Registry[ShapeKind] = Registry("shape")


def shape(name: str, *labels: str, joints: tuple[str, ...] = ()) -> Callable[[Builder], Builder]:
    """Decorator that registers a builder."""

    def register(build: Builder) -> Builder:
        SHAPES.add(name, ShapeKind(build, labels, joints))
        return build

    return register
