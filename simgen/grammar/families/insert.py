"""Put a peg into a hole."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, anywhere, entity, placement, resolve_colors
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.rooms import fixture, rooms
from simgen.grammar.words import PEGS, SOCKETS

TWIST = 0.6  # half range of the peg's yaw at the start [rad]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    peg, socket = meaning(slots, "obj", Thing), meaning(slots, "dst", Thing)
    colors, s = resolve_colors((socket, peg)), profile.object_scale
    (room,), rest = rooms((socket,), profile)
    start = placement(anywhere(peg, rest).box, TWIST, GRIPPER_ROOM * s)
    inside = atom("in", peg.id, socket.id)
    return Draft(
        entities=(fixture(socket, colors[0], room), entity(peg, colors[1], "manipuland", start, profile)),
        goal=all_of(inside, atom("upright", peg.id)),
        subgoals=(Subgoal(skill="insert", args=(peg.id, socket.id), goal=inside),),
    )


INSERT = Production(
    family="insert",
    summary="put a peg into a hole",
    slots={
        "verb": Choice(("insert", "put", "push", "fit", "stick")),
        "obj": NounPhrase(PEGS),
        "prep": Choice(("into", "in")),
        "dst": NounPhrase(SOCKETS),
    },
    templates=(
        "{verb} {obj} {prep} {dst}",
        "pick up {obj} and {verb} it {prep} {dst}",
        "take {obj} and {verb} it {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{obj} goes {prep} {dst}",
        "{obj} should be {prep} {dst}",
    ),
    examples=(
        "insert the red peg into the socket",
        "put the peg in the hole",
        "pick up the blue peg and fit it into the gray socket",
    ),
    draft=_draft,
    needs=Needs(width=0.28, grip=0.025, mass=0.04),
)
