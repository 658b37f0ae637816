"""One small task per skill, for any robot: what the survey and the tests of the skills are run on."""

from __future__ import annotations

from collections.abc import Callable

from robostack.errors import UnknownName
from robostack.sim.cards import load_robot
from robostack.task.predicate import AnyPred, Once, all_of, atom
from robostack.task.profile import CARD_SIZES, RobotProfile
from robostack.task.spec import Entity, Instruction, Placement, RobotRef, Role, Skill, Subgoal, TaskSpec

Box = tuple[float, float, float, float]
Parts = tuple[list[Entity], AnyPred, list[Subgoal]]


def drill(name: str, robot: str) -> TaskSpec:
    """The drill of that name; raises UnknownName listing the others."""
    if name not in _DRILLS:
        raise UnknownName("drill", name, _DRILLS)
    entities, goal, subgoals = _DRILLS[name](load_robot(robot).profile)
    return TaskSpec(
        name=name,
        family="drill",
        instruction=Instruction(text=name.replace("_", " ")),
        robot=RobotRef(name=robot),
        entities=tuple(entities),
        goal=goal,
        subgoals=tuple(subgoals),
        horizon_s=40.0,
    )


def drills() -> tuple[str, ...]:
    """Names of all drills."""
    return tuple(_DRILLS)


def _thing(
    profile: RobotProfile,
    card: str,
    role: Role,
    box: Box,
    *,
    color: str = "blue",
    name: str = "",
    yaw: float = 0.0,
    joints: dict[str, tuple[float, float]] | None = None,
    clearance: float = 0.01,
    on: str = "table",
    inside: bool = False,
) -> Entity:
    """An entity in the robot's size; ``box`` in shares of the workspace, or in metres on another entity."""
    if on == "table":
        x0, y0, x1, y1 = profile.workspace
        at = (x0 + box[0] * (x1 - x0), y0 + box[1] * (y1 - y0), x0 + box[2] * (x1 - x0), y0 + box[3] * (y1 - y0))
    else:
        at = box
    size = profile.size(card)
    return Entity(
        id=name or card,
        card=card,
        color=color,
        role=role,
        placement=Placement(box=at, yaw=(-yaw, yaw), clearance=clearance * profile.object_scale, on=on, inside=inside),
        size=None if size == CARD_SIZES[card] else size,
        joints=joints or {},
    )


def _far(profile: RobotProfile) -> Box:
    """As far away as leaves the handles of open furniture in the workspace."""
    x0, _, x1, _ = profile.workspace
    near = 0.25 * profile.object_scale / (x1 - x0)
    return near, 0.3, near + 0.1, 0.7


def _sub(skill: Skill, *args: str | float, goal: AnyPred) -> Subgoal:
    return Subgoal(skill=skill, args=args, goal=goal)


def _joint(card: str, joint: str, skill: Skill, box: Box, start: tuple[float, float], goal: AnyPred, *args: float):
    def build(profile: RobotProfile) -> Parts:
        where = _far(profile) if card in ("drawer", "cabinet") else box
        thing = _thing(profile, card, "fixture", where, joints={joint: start}, yaw=0.2)
        return [thing], goal, [_sub(skill, card, joint, *args, goal=goal)]

    return build


def _put_away(profile: RobotProfile) -> Parts:
    drawer = _thing(profile, "drawer", "fixture", _far(profile))
    block = _thing(profile, "block", "manipuland", (0.1, 0.0, 0.9, 1.0), color="red", yaw=3.14, clearance=0.03)
    opened, closed = atom("joint", "drawer", "slide", ">=", 0.8), atom("joint", "drawer", "slide", "<=", 0.05)
    put = atom("in", "block", "drawer")
    goals = [
        _sub("open", "drawer", "slide", goal=opened),
        _sub("place_in", "block", "drawer", goal=put),
        _sub("close", "drawer", "slide", goal=closed),
    ]
    return [drawer, block], all_of(put, closed), goals


def _insert(profile: RobotProfile) -> Parts:
    socket = _thing(profile, "socket", "fixture", (0.2, 0.2, 0.8, 0.8), color="gray", yaw=0.7)
    peg = _thing(profile, "peg", "manipuland", (0.1, 0.0, 0.9, 1.0), color="red", yaw=3.14, clearance=0.03)
    goal = all_of(atom("in", "peg", "socket"), atom("upright", "peg"))
    return [socket, peg], goal, [_sub("insert", "peg", "socket", goal=goal)]


def _tool_push(profile: RobotProfile) -> Parts:
    s = profile.object_scale
    block = _thing(profile, "block", "manipuland", (0.45, 0.55, 0.55, 0.65), color="red", clearance=0.01)
    zone = _thing(profile, "zone", "zone", (0.95, 0.55, 0.98, 0.65), color="green")
    stick = _thing(profile, "stick", "tool", (0.3, 0.1, 0.5, 0.2), color="orange", clearance=0.03)
    goal = atom("on", "block", "zone")
    del s
    return [zone, block, stick], goal, [_sub("tool_push", "stick", "block", "zone", goal=goal)]


def _cover(profile: RobotProfile) -> Parts:
    box = _thing(profile, "box", "receptacle", (0.2, 0.2, 0.8, 0.8), yaw=0.7, clearance=0.03)
    lid = _thing(profile, "lid", "manipuland", (0.1, 0.0, 0.9, 1.0), color="red", yaw=0.7, clearance=0.03)
    goal = atom("on", "lid", "box")
    return [box, lid], goal, [_sub("place_on", "lid", "box", goal=goal)]


def _take_out(profile: RobotProfile) -> Parts:
    bin_ = _thing(profile, "bin", "receptacle", (0.3, 0.2, 0.7, 0.8), yaw=0.7, clearance=0.03)
    block = _thing(
        profile, "block", "manipuland", (-0.01, -0.01, 0.01, 0.01), color="red", yaw=0.7, on="bin", inside=True
    )
    zone = _thing(profile, "zone", "zone", (0.2, 0.0, 0.8, 1.0), color="green")
    goal = atom("on", "block", "zone")
    return [bin_, zone, block], goal, [_sub("place_on", "block", "zone", goal=goal)]


def _beside_shelf(profile: RobotProfile) -> Parts:
    """The block stands so close before the shelf that a hand from straight above does not fit."""
    scale = profile.object_scale
    size = tuple(scale * s for s in (0.16, 0.22, 0.15))
    x0, y0, x1, y1 = profile.workspace
    shelf = _thing(profile, "shelf", "fixture", (0.9, 0.5, 0.9, 0.5), color="brown", clearance=0.0)
    shelf = shelf.model_copy(update={"size": size})
    front = x0 + 0.9 * (x1 - x0) - 0.5 * size[0]
    depth = 0.5 * profile.size("block")[0]
    near, far = (front - depth - gap * scale - x0 for gap in (0.006, 0.002))
    box = (near / (x1 - x0), 0.4, far / (x1 - x0), 0.6)
    block = _thing(profile, "block", "manipuland", box, color="red", clearance=0.0)
    zone = _thing(profile, "zone", "zone", (0.2, 0.0, 0.4, 0.1), color="green")
    goal = atom("on", "block", "zone")
    return [shelf, block, zone], goal, [_sub("place_on", "block", "zone", goal=goal)]


def _around_wall(profile: RobotProfile) -> Parts:
    """A wall between the block and its place, higher than the arm can carry it."""
    wall = _thing(profile, "shelf", "distractor", (1.3, 0.5, 1.3, 0.5), color="brown")
    wall = wall.model_copy(update={"size": tuple(profile.object_scale * s for s in (0.3, 0.03, 0.55)), "id": "wall"})
    block = _thing(profile, "block", "manipuland", (0.8, 0.9, 0.95, 1.0), color="red", clearance=0.03)
    zone = _thing(profile, "zone", "zone", (0.75, 0.0, 0.9, 0.1), color="green")
    goal = atom("on", "block", "zone")
    return [wall, zone, block], goal, [_sub("place_on", "block", "zone", goal=goal)]


_MID: Box = (0.2, 0.2, 0.8, 0.8)
_DRILLS: dict[str, Callable[[RobotProfile], Parts]] = {
    "open_drawer": _joint("drawer", "slide", "open", _MID, (0.0, 0.1), atom("joint", "drawer", "slide", ">=", 0.8)),
    "close_drawer": _joint("drawer", "slide", "close", _MID, (0.6, 1.0), atom("joint", "drawer", "slide", "<=", 0.05)),
    "open_cabinet": _joint("cabinet", "hinge", "open", _MID, (0.0, 0.1), atom("joint", "cabinet", "hinge", ">=", 0.8)),
    "close_cabinet": _joint(
        "cabinet", "hinge", "close", _MID, (0.6, 1.0), atom("joint", "cabinet", "hinge", "<=", 0.05)
    ),
    "press_button": _joint(
        "button", "press", "press", _MID, (0.0, 0.0), Once(once=atom("joint", "button", "press", ">=", 0.8))
    ),
    "turn_dial": _joint("dial", "turn", "turn", _MID, (0.0, 0.1), atom("joint", "dial", "turn", "==", 0.5), 0.5),
    "turn_dial_fully": _joint("dial", "turn", "turn", _MID, (0.0, 0.1), atom("joint", "dial", "turn", ">=", 0.9), 1.0),
    "push_lever": _joint("lever", "hinge", "open", _MID, (0.0, 0.1), atom("joint", "lever", "hinge", ">=", 0.8)),
    "pull_lever": _joint("lever", "hinge", "close", _MID, (0.9, 1.0), atom("joint", "lever", "hinge", "<=", 0.2)),
    "put_away": _put_away,
    "insert": _insert,
    "tool_push": _tool_push,
    "cover": _cover,
    "take_out": _take_out,
    "beside_shelf": _beside_shelf,
    "around_wall": _around_wall,
}
