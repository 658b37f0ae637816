"""Make room first: what stands on the plate goes to the table, then the object takes its place."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import (
    GRIPPER_ROOM,
    entity,
    footprint,
    placement,
    resolve_colors,
    too_small,
    yaw_of,
)
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.rooms import quarter, resting, spot
from simgen.grammar.words import BLOCKS, CYLINDERS, PLATES


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """The blocker goes to the right of the plate, a strip that nothing else starts in."""
    blocker, obj, dst = (meaning(slots, name, Thing) for name in ("blocker", "obj", "dst"))
    colors, s = resolve_colors((dst, blocker, obj)), profile.object_scale
    x0, y0, x1, y1 = profile.workspace
    step = round(0.5 * (footprint(dst, profile)[1] + footprint(blocker, profile)[1]) + 0.03 * s, 3)
    left, strip = y1 - 0.06 * s, footprint(blocker, profile)[1]
    right = y0 + step + strip
    if right > left - 0.02 * s:
        raise too_small(profile, "a plate with room beside it")
    low = max(right, left - 0.08 * s)
    room = GRIPPER_ROOM * s
    home = entity(dst, colors[0], "receptacle", placement((x1 - 0.08 * s, low, x1, left), 0.0, room), profile)
    above = placement(profile.workspace, min(yaw_of(blocker), quarter()))
    first = entity(blocker, colors[1], "manipuland", above, profile)
    start = placement((x0, y0, x1, low - step - strip), yaw_of(obj), room)
    aside, on = atom("on", blocker.id, "table"), atom("on", obj.id, dst.id)
    return Draft(
        entities=(home, resting(first, home, spot(0.005 * s)), entity(obj, colors[2], "manipuland", start, profile)),
        goal=all_of(on, aside),
        subgoals=(
            Subgoal(skill="place_beside", args=(blocker.id, dst.id, 0.0, -step), goal=aside),
            Subgoal(skill="place_on", args=(obj.id, dst.id), goal=on),
        ),
        never=(atom("moved", dst.id, RECEPTACLE_SHIFT),),
        init=(atom("on", blocker.id, dst.id),),
    )


RELOCATE = Production(
    family="relocate",
    summary="take an object off a plate and put another on it",
    slots={
        "take": Choice(("take", "move", "get", "remove")),
        "verb": Choice(("put", "place", "set")),
        "blocker": NounPhrase({**BLOCKS, **CYLINDERS}),
        "obj": NounPhrase({**BLOCKS, **CYLINDERS}),
        "dst": NounPhrase(PLATES),
        "off": Choice(("off", "from", "off of")),
    },
    templates=(
        "{take} {blocker} {off} {dst} and {verb} {obj} on it",
        "{take} {blocker} {off} {dst} and then {verb} {obj} on it",
        "{take} {blocker} {off} {dst}, then {verb} {obj} on it",
        "please {take} {blocker} {off} {dst} and {verb} {obj} there instead",
        "replace {blocker} on {dst} with {obj}",
        "please replace {blocker} on {dst} with {obj}",
        "{verb} {obj} on {dst} in place of {blocker}",
    ),
    examples=(
        "take the green block off the plate and then put the red block on it",
        "replace the yellow cylinder on the blue plate with the red cube",
        "put the red block on the plate in place of the green block",
    ),
    draft=_draft,
    needs=Needs(width=0.36),
)
