"""Push an object into a region with a stick."""

from __future__ import annotations

from robostack.task.predicate import Seq, all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.push_to import LIFT
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, Box, Lane, entity, lane, placement, pushable, resolve_colors
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.words import BALLS, BLOCKS, CYLINDERS, STICKS, ZONES


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """The stick lies lengthwise on the side of the workspace that the push leaves free."""
    tool, obj, dst = (meaning(slots, name, Thing) for name in ("tool", "obj", "dst"))
    colors, s = resolve_colors((tool, obj, dst)), profile.object_scale
    region = lane(dst.direction, profile)
    on, picked = atom("on", obj.id, dst.id), atom("grasped", tool.id)
    return Draft(
        entities=(
            entity(dst, colors[2], "zone", placement(region.region), profile),
            entity(tool, colors[0], "tool", placement(_aside(region, profile), 0.0, GRIPPER_ROOM * s), profile),
            entity(obj, colors[1], "manipuland", pushable(region, obj, profile), profile),
        ),
        goal=Seq(parts=(picked, all_of(on, atom("upright", obj.id)))),  # pyright: ignore[reportCallIssue]
        subgoals=(Subgoal(skill="tool_push", args=(tool.id, obj.id, dst.id), goal=on),),
        never=(atom("lifted", obj.id, LIFT), atom("grasped", obj.id)),
    )


def _aside(region: Lane, profile: RobotProfile) -> Box:
    s, (x0, y0, x1, y1) = profile.object_scale, profile.workspace
    left = region.axis == 1 and region.sign < 0.0
    low, high = (y1 - 0.1 * s, y1 - 0.05 * s) if left else (y0 + 0.02 * s, y0 + 0.07 * s)
    middle = 0.5 * (x0 + x1)
    return (middle - 0.01 * s, low, middle + 0.01 * s, high)


TOOL_PUSH = Production(
    family="tool_push",
    summary="push an object into a region with a stick",
    slots={
        "verb": Choice(("push", "slide", "shove", "move")),
        "tool": NounPhrase(STICKS),
        "obj": NounPhrase({**BLOCKS, **CYLINDERS, **BALLS}),
        "prep": Choice(("to", "into", "onto", "in")),
        "dst": NounPhrase(ZONES, directed=True),
    },
    templates=(
        "use {tool} to {verb} {obj} {prep} {dst}",
        "{verb} {obj} {prep} {dst} with {tool}",
        "{verb} {obj} {prep} {dst} using {tool}",
        "please use {tool} to {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst} with {tool}",
        "pick up {tool} and {verb} {obj} {prep} {dst} with it",
        "take {tool} and use it to {verb} {obj} {prep} {dst}",
    ),
    examples=(
        "use the stick to push the yellow cylinder to the left region",
        "push the red block into the region with the stick",
        "take the stick and use it to push the can to the right region",
    ),
    draft=_draft,
    needs=Needs(depth=0.2, width=0.45, grip=0.02, mass=0.07),
)
