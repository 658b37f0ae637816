"""Put the lid on a box."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, entity, placement, resolve_colors
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.words import LIDDED, LIDS

OFF_CENTRE = 0.25  # of the box's width: a lid that is further off does not cover it
BOX_SHIFT = 0.08  # the box stays where it is [m]
TWIST = 0.3  # half range of the lid's yaw [rad]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    lid, box = meaning(slots, "obj", Thing), meaning(slots, "dst", Thing)
    colors, room = resolve_colors((box, lid)), GRIPPER_ROOM * profile.object_scale
    inset = round((0.5 - OFF_CENTRE) * min(profile.size(box.card)[:2]), 4)
    covers = atom("on", lid.id, box.id, inset=inset)
    return Draft(
        entities=(
            entity(box, colors[0], "receptacle", placement(profile.workspace, 0.0, room), profile),
            entity(lid, colors[1], "manipuland", placement(profile.workspace, TWIST, room), profile),
        ),
        goal=all_of(covers, atom("upright", box.id)),
        subgoals=(Subgoal(skill="place_on", args=(lid.id, box.id), goal=covers),),
        never=(atom("moved", box.id, BOX_SHIFT),),
    )


COVER = Production(
    family="cover",
    summary="put the lid on a box",
    slots={
        "verb": Choice(("put", "place", "set")),
        "obj": NounPhrase(LIDS),
        "prep": Choice(("on", "onto", "on top of")),
        "dst": NounPhrase(LIDDED),
        "cover": Choice(("cover", "cap", "top")),
    },
    templates=(
        "{verb} {obj} {prep} {dst}",
        "pick up {obj} and {verb} it {prep} {dst}",
        "take {obj} and {verb} it {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{cover} {dst} with {obj}",
        "please {cover} {dst} with {obj}",
        "{obj} goes {prep} {dst}",
    ),
    examples=("put the lid on the box", "cover the brown box with the lid", "place the white lid onto the carton"),
    draft=_draft,
    needs=Needs(depth=0.16, width=0.34, grip=0.026, mass=0.12),
)
