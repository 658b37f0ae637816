"""Stand an object on a shelf."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, anywhere, entity, placement, resolve_colors, yaw_of
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.rooms import fixture, rooms
from simgen.grammar.words import BLOCKS, CYLINDERS, MUGS, SHELVES

TWIST = 0.5  # half range of a mug's yaw: its handle stays where a hand can pass it [rad]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    obj, dst = meaning(slots, "obj", Thing), meaning(slots, "dst", Thing)
    colors, s = resolve_colors((dst, obj)), profile.object_scale
    (room,), rest = rooms((dst,), profile)
    yaw = TWIST if obj.card == "mug" else yaw_of(obj)
    start = placement(anywhere(obj, rest).box, yaw, GRIPPER_ROOM * s)
    on = atom("on", obj.id, dst.id)
    return Draft(
        entities=(fixture(dst, colors[0], room), entity(obj, colors[1], "manipuland", start, profile)),
        goal=all_of(on, atom("upright", obj.id)),
        subgoals=(Subgoal(skill="place_on", args=(obj.id, dst.id), goal=on),),
    )


SHELF = Production(
    family="shelf",
    summary="stand an object on a shelf",
    slots={
        "verb": Choice(("put", "place", "set", "stand")),
        "obj": NounPhrase({**MUGS, **BLOCKS, **CYLINDERS}),
        "prep": Choice(("on", "onto", "on top of")),
        "dst": NounPhrase(SHELVES),
    },
    templates=(
        "{verb} {obj} {prep} {dst}",
        "pick up {obj} and {verb} it {prep} {dst}",
        "take {obj} and {verb} it {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{obj} goes {prep} {dst}",
        "{verb} {obj} upright {prep} {dst}",
    ),
    examples=(
        "put the mug on the shelf",
        "place the red block on top of the shelf",
        "stand the white mug upright on the shelf",
    ),
    draft=_draft,
    needs=Needs(width=0.42, grip=0.062, mass=0.12),
)
