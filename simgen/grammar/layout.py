"""Entities and where they may start. World frame: x forward, y left; the workspace is the robot's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from robostack.errors import SceneError, SentenceError
from robostack.task.profile import CARD_SIZES, RobotProfile
from robostack.task.spec import Entity, Placement, Role
from simgen.grammar.kinds import Thing
from simgen.grammar.words import PALETTES

Box = tuple[float, float, float, float]

GRIPPER_ROOM = 0.03  # free space around every object, for the fingers [m at scale 1]
PUSH_MIN, PUSH_MAX = 0.08, 0.2  # distance from the object to the centre of the region [m at scale 1]
PUSH_ROOM = 0.05  # free workspace behind the object, for the closed gripper [m at scale 1]
JITTER = 0.01  # a region's own randomness [m at scale 1]

_AXES = {"left": (1, 1.0), "right": (1, -1.0), "front": (0, 1.0), "back": (0, -1.0)}


def resolve_colors(things: Sequence[Thing]) -> tuple[str, ...]:
    """The colour of every thing: its own, else the first of its palette that nothing else has.

    Raises:
        SentenceError: two things are the same one.
    """
    taken = [thing.color for thing in things]
    colors: list[str] = []
    for thing in things:
        color = thing.color or next(c for c in PALETTES[thing.card] if c not in taken)
        taken.append(color)
        colors.append(color)
    for i, (first, color) in enumerate(zip(things, colors, strict=True)):
        for second, other in zip(things[i + 1 :], colors[i + 1 :], strict=True):
            same = (first.card, color, first.direction) == (second.card, other, second.direction)
            if same or first.id == second.id:
                raise SentenceError(
                    f"it names the same {first.noun} twice ('{first.words}' and '{second.words}'); "
                    "give the objects different colours"
                )
    return tuple(colors)


def entity(thing: Thing, color: str, role: Role, placement: Placement, profile: RobotProfile) -> Entity:
    """An entity in the robot's size; ``size`` stays open where it is the card's default."""
    size = profile.size(thing.card)
    own = None if size == CARD_SIZES[thing.card] else size
    return Entity(id=thing.id, card=thing.card, color=color, role=role, placement=placement, size=own)


def placement(box: Box, yaw: float = 0.0, clearance: float = 0.0) -> Placement:
    """A placement in millimetres, so that the identity of a task does not hang on rounding."""
    x0, y0, x1, y1 = (round(v, 3) for v in box)
    return Placement(box=(x0, y0, x1, y1), yaw=(0.0 - yaw, yaw), clearance=round(clearance, 3))


def anywhere(thing: Thing, profile: RobotProfile, clearance: float = GRIPPER_ROOM) -> Placement:
    """Anywhere in the workspace; with any yaw where that can be seen."""
    return placement(profile.workspace, yaw_of(thing), clearance * profile.object_scale)


def yaw_of(thing: Thing) -> float:
    """Half range of the random rotation about z [rad]."""
    return round(math.pi, 6) if thing.card in ("block", "tray") else 0.0


@dataclass(frozen=True)
class Lane:
    """A region at one end of the workspace, and the direction in which it lies.

    Attributes:
        axis: 0 for x, 1 for y.
        sign: +1 if the region lies at the upper end of the axis.
        region: where its centre may be.
        edge: coordinate of the region's inner edge at its innermost placement [m].
    """

    axis: int
    sign: float
    region: Box
    edge: float


def lane(direction: str | None, profile: RobotProfile) -> Lane:
    """Lay a region out; without a direction at the left end. A quarter of it may stand out of the workspace."""
    axis, sign = _AXES[direction or "left"]
    s, half = profile.object_scale, profile.size("zone")[0] / 2.0
    low, high = profile.workspace[axis], profile.workspace[axis + 2]
    middle = (profile.workspace[1 - axis] + profile.workspace[3 - axis]) / 2.0
    along = (high if sign > 0 else low) - sign * (0.5 * half + JITTER * s)
    box = _box(axis, (along - JITTER * s, along + JITTER * s), (middle - 2 * JITTER * s, middle + 2 * JITTER * s))
    return Lane(axis, sign, box, along - sign * (half + JITTER * s))


def before(region: Lane, thing: Thing, profile: RobotProfile) -> Placement:
    """Anywhere in the workspace short of the region: the object never starts in it."""
    low, high = _reach(region, profile, GRIPPER_ROOM * profile.object_scale, math.inf)
    across = (profile.workspace[1 - region.axis], profile.workspace[3 - region.axis])
    return placement(_box(region.axis, (low, high), across), yaw_of(thing), GRIPPER_ROOM * profile.object_scale)


def pushable(region: Lane, thing: Thing, profile: RobotProfile) -> Placement:
    """Short of the region at a pushing distance, roughly in line with it, with room for the gripper behind."""
    s, half = profile.object_scale, profile.size("zone")[0] / 2.0
    nearest = max(GRIPPER_ROOM * s, PUSH_MIN * s - half)
    furthest = PUSH_MAX * s - half - 2.0 * JITTER * s
    low, high = _reach(region, profile, nearest, furthest, PUSH_ROOM * s)
    x0, y0, x1, y1 = region.region
    middle = (y0 + y1) / 2.0 if region.axis == 0 else (x0 + x1) / 2.0
    box = _box(region.axis, (low, high), (middle - 0.04 * s, middle + 0.04 * s))
    return placement(box, yaw_of(thing), GRIPPER_ROOM * s)


def _reach(
    region: Lane, profile: RobotProfile, nearest: float, furthest: float, room: float = 0.0
) -> tuple[float, float]:
    """Interval of the lane's axis between two distances from the region's edge, inside the workspace less ``room``."""
    start = profile.workspace[region.axis if region.sign > 0 else region.axis + 2] + region.sign * room
    inner = region.edge - region.sign * nearest
    outer = region.edge - region.sign * furthest
    outer = max(outer, start) if region.sign > 0 else min(outer, start)
    if region.sign * (inner - outer) <= 0.0:
        raise too_small(profile, "a region with an object before it")
    return min(inner, outer), max(inner, outer)


def row(things: Sequence[Thing], profile: RobotProfile) -> tuple[tuple[Placement, ...], Box]:
    """Receptacles side by side along the far edge of the workspace, and the box that is left for the objects.

    Raises:
        SceneError: the workspace is too narrow for them.
    """
    s = profile.object_scale
    x0, y0, x1, y1 = profile.workspace
    depth, width = footprint(things[0], profile)
    gap = GRIPPER_ROOM * s
    pitch = (y1 - y0) / len(things)
    slack = min(0.5 * (pitch - width - gap), JITTER * s)
    near = x1 - depth / 2.0 - JITTER * s - gap
    if slack < 0.0 or near <= x0:
        raise too_small(profile, f"{len(things)} of card '{things[0].card}' side by side")
    centres = [y1 - (i + 0.5) * pitch for i in range(len(things))]
    spots = tuple(placement((x1 - JITTER * s, y - slack, x1, y + slack), 0.0, gap / 2.0) for y in centres)
    return spots, (x0, y0, near, y1)


def footprint(thing: Thing, profile: RobotProfile) -> tuple[float, float]:
    """Extents of the bounding box on the table along x and y at yaw 0 [m]."""
    size = profile.size(thing.card)
    if thing.card in ("block", "tray", "zone", "bin", "box", "lid"):
        return size[0], size[1]
    return 2.0 * size[0], 2.0 * size[0]


def too_small(profile: RobotProfile, what: str) -> SceneError:
    """The workspace does not hold what the sentence asks for."""
    return SceneError(
        "PLACEMENT_INFEASIBLE",
        f"the workspace {profile.workspace} of robot '{profile.name}' is too small for {what}: "
        "use fewer objects, a smaller object_scale or another robot",
    )


def _box(axis: int, along: tuple[float, float], across: tuple[float, float]) -> Box:
    (a0, a1), (b0, b1) = along, across
    return (a0, b0, a1, b1) if axis == 0 else (b0, a0, b1, a1)
