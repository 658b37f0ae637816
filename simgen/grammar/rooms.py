"""Where fixtures stand, and which part of the workspace is left for the objects.

Fixtures face the robot from the far edge of the workspace, so that their handles stay within reach over the whole
travel. Where a sentence speaks of a fixture and of objects, the workspace is cut along x: each gets a room of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from robostack.task.predicate import AnyPred, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Entity, Placement
from simgen.grammar.kinds import Thing
from simgen.grammar.layout import GRIPPER_ROOM, JITTER, entity, placement, too_small

JOINTS = {"drawer": "slide", "cabinet": "hinge", "button": "press", "lever": "hinge", "dial": "turn"}
OPEN, SHUT = 0.8, 0.05  # fractions of a joint's range that count as open and as closed
STARTS_OPEN, STARTS_SHUT = (0.92, 1.0), (0.0, 0.0)
TALL = 0.24  # depth of a workspace whose arm reaches the top of a cabinet [m at scale 1]
TURN_WIDTH = 0.1  # across x and y that fingers sweep on turning a dial [m at scale 1]


@dataclass(frozen=True)
class Reach:
    """What a fixture takes up about its origin, and where its handle goes [m].

    Attributes:
        far, near: x of the handle where it is furthest from the robot, and nearest to it.
        left, right: extents to +y and to -y, what moving parts sweep included.
    """

    far: float
    near: float
    left: float
    right: float


def reach_of(card: str, size: tuple[float, ...], scale: float) -> Reach:
    """The reach of a fixture of that size; proportions are those of the cards' shapes."""
    if card == "drawer":
        handle = -0.5 * size[0] - 0.255 * size[1]
        return Reach(handle, handle - 0.65 * size[0], 0.5 * size[1], 0.5 * size[1])
    if card == "cabinet":
        handle = -0.5 * size[0] - 0.285 * size[1]
        return Reach(handle, -0.5 * size[0] - 0.82 * size[1], 0.82 * size[1], 0.5 * size[1])
    if card == "lever":
        return Reach(0.49 * size[0], -0.49 * size[0], 0.2 * size[0], 0.2 * size[0])
    if card == "shelf":
        return Reach(0.0, -0.5 * size[0], 0.5 * size[1], 0.5 * size[1])
    half = {"button": 1.0, "dial": 1.3, "socket": 1.5}[card] * size[0]
    side = max(half, 0.5 * TURN_WIDTH * scale) if card == "dial" else half
    return Reach(0.0, 0.0, side, side)


def rooms(things: tuple[Thing, ...], profile: RobotProfile) -> tuple[tuple[RobotProfile, ...], RobotProfile]:
    """One room per fixture, from the left edge on, and the rest of the workspace for the objects.

    Raises:
        SceneError: nothing is left.
    """
    x0, y0, x1, top = profile.workspace
    gap, found = GRIPPER_ROOM * profile.object_scale, []
    for thing in things:
        reach = reach_of(thing.card, profile.size(thing.card), profile.object_scale)
        bottom = round(top - reach.left - reach.right - 2.0 * gap, 4)
        if bottom <= y0:
            raise too_small(profile, f"'{thing.words}' and what goes with it")
        found.append(replace(profile, workspace=(x0, bottom, x1, top)))
        top = bottom
    return tuple(found), replace(profile, workspace=(x0, y0, x1, top))


def stand(thing: Thing, profile: RobotProfile) -> Placement:
    """A fixture at the far edge of a room, in the middle of its width, with a little randomness.

    Raises:
        SceneError: its handle would leave the workspace.
    """
    s, (x0, y0, x1, y1) = profile.object_scale, profile.workspace
    reach = reach_of(thing.card, profile.size(thing.card), s)
    x = x1 - JITTER * s - reach.far
    if thing.card in ("cabinet", "lever"):  # the handle is high up, where an arm reaches less far
        x = 0.5 * (x0 + x1 - reach.far - reach.near)
    if thing.card == "cabinet" and x1 - x0 < TALL * s:
        raise too_small(profile, f"'{thing.words}'")
    slack = 0.5 * (y1 - y0 - reach.left - reach.right)
    y = 0.5 * (y0 + y1 + reach.right - reach.left)
    jitter = min(slack, 5 * JITTER * s)
    if round(x - JITTER * s + reach.near - x0, 6) < 0.0 or slack < 0.0:
        raise too_small(profile, f"'{thing.words}'")
    box = (x - JITTER * s, y - jitter, x + JITTER * s, y + jitter)
    return placement(box, 0.0, min(slack, GRIPPER_ROOM * s))


def fixture(
    thing: Thing, color: str, profile: RobotProfile, joints: Mapping[str, tuple[float, float]] | None = None
) -> Entity:
    """A fixture at the far edge of the room ``profile``, its joint starting within a range of fractions."""
    made = entity(thing, color, "fixture", stand(thing, profile), profile)
    started = {name: range_ for name, range_ in (joints or {}).items() if range_ != STARTS_SHUT}
    return made.model_copy(update={"joints": started}) if started else made


def joint(thing: Thing, comparison: str, fraction: float) -> AnyPred:
    """The joint of a fixture compares with a fraction of its range."""
    return atom("joint", thing.id, JOINTS[thing.card], comparison, fraction)


def resting(made: Entity, support: Entity, box: tuple[float, float, float, float], *, inside: bool = False) -> Entity:
    """The entity, starting on another one (or inside it) instead of on the table."""
    x0, y0, x1, y1 = (round(v, 4) for v in box)
    spot = Placement(box=(x0, y0, x1, y1), yaw=made.placement.yaw, clearance=0.0, on=support.id, inside=inside)
    return made.model_copy(update={"placement": spot})


def spot(half: float = 0.0) -> tuple[float, float, float, float]:
    """The middle of a face, give or take ``half`` [m]."""
    return (-half, -half, half, half)


def quarter() -> float:
    """A quarter turn [rad]."""
    return round(0.5 * math.pi, 6)
