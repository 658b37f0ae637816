"""Take one block off another and put it on the table."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, entity, footprint, placement, resolve_colors, too_small, yaw_of
from simgen.grammar.production import Draft, Meanings, Production, meaning
from simgen.grammar.rooms import quarter, resting, spot
from simgen.grammar.words import BLOCKS

APART, AIMED = 0.02, 0.05  # between the two at the end: asked for, aimed at [m at scale 1]
BASE_SHIFT = 0.1  # the lower one stays where it is [m]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    top, base = meaning(slots, "top", Thing), meaning(slots, "base", Thing)
    colors, s = resolve_colors((base, top)), profile.object_scale
    step = round(0.75 * (footprint(base, profile)[1] + footprint(top, profile)[1]) + AIMED * s, 3)
    x0, y0, x1, y1 = profile.workspace
    if y0 + step >= y1:
        raise too_small(profile, "two blocks side by side")
    below = placement((x0, y0 + step, x1, y1), yaw_of(base), GRIPPER_ROOM * s)
    lower = entity(base, colors[0], "receptacle", below, profile)
    upper = entity(top, colors[1], "manipuland", placement(profile.workspace, min(yaw_of(top), quarter())), profile)
    off = all_of(atom("on", top.id, "table"), atom("far", top.id, base.id, round(APART * s, 4)))
    return Draft(
        entities=(lower, resting(upper, lower, spot(0.003 * s))),
        goal=all_of(atom("on", top.id, "table"), atom("far", top.id, base.id, round(APART * s, 4))),
        subgoals=(Subgoal(skill="place_beside", args=(top.id, base.id, 0.0, -step), goal=off),),
        never=(atom("moved", base.id, BASE_SHIFT),),
        init=(atom("on", top.id, base.id),),
    )


UNSTACK = Production(
    family="unstack",
    summary="take a block off another",
    slots={
        "verb": Choice(("take", "lift", "remove", "unstack")),
        "put": Choice(("put", "place", "set")),
        "top": NounPhrase(BLOCKS),
        "base": NounPhrase(BLOCKS),
        "off": Choice(("off", "from", "off of", "down from")),
    },
    templates=(
        "{verb} {top} {off} {base}",
        "please {verb} {top} {off} {base}",
        "can you {verb} {top} {off} {base}",
        "{verb} {top} {off} {base} and {put} it on the table",
        "{verb} {top} {off} {base}, then {put} it on the table",
        "{verb} {top} {off} the top of {base}",
        "{put} {top}, which is on {base}, on the table",
    ),
    examples=(
        "unstack the red block from the blue block",
        "take the green block off the red block",
        "lift the yellow block off the blue cube and put it on the table",
    ),
    draft=_draft,
)
