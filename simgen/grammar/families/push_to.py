"""Push an object along the table into a region."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import entity, lane, placement, pushable, resolve_colors
from simgen.grammar.production import Draft, Meanings, Production
from simgen.grammar.words import BLOCKS, CYLINDERS, ZONES

LIFT = 0.03  # an object that is lifted this high is not pushed [m]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    obj, dst = slots["obj"], slots["dst"]
    assert isinstance(obj, Thing)
    assert isinstance(dst, Thing)
    colors = resolve_colors((obj, dst))
    region = lane(dst.direction, profile)
    on = atom("on", obj.id, dst.id)
    return Draft(
        entities=(
            entity(obj, colors[0], "manipuland", pushable(region, obj, profile), profile),
            entity(dst, colors[1], "zone", placement(region.region), profile),
        ),
        goal=all_of(on, atom("upright", obj.id)),
        subgoals=(Subgoal(skill="push_to", args=(obj.id, dst.id), goal=on),),
        never=(atom("lifted", obj.id, LIFT),),
    )


PUSH_TO = Production(
    family="push_to",
    summary="push an object into a region",
    slots={
        "verb": Choice(("push", "slide", "shove", "nudge")),
        "obj": NounPhrase({**BLOCKS, **CYLINDERS}),
        "prep": Choice(("to", "into", "onto", "in")),
        "dst": NounPhrase(ZONES, directed=True),
    },
    templates=(
        "{verb} {obj} {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{verb} {obj} across the table {prep} {dst}",
        "use the gripper to {verb} {obj} {prep} {dst}",
        "without lifting it, {verb} {obj} {prep} {dst}",
        "{verb} {obj} until it is in {dst}",
    ),
    examples=(
        "push the yellow cylinder to the left region",
        "slide the red block into the blue region",
        "push the can across the table to the right region",
    ),
    draft=_draft,
)
