"""Put an object to one side of another."""

from __future__ import annotations

from collections.abc import Iterator

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal, TaskSpec
from simgen.grammar.kinds import Choice, NounPhrase, Phrase, Thing
from simgen.grammar.layout import (
    GRIPPER_ROOM,
    JITTER,
    Box,
    entity,
    footprint,
    placement,
    resolve_colors,
    too_small,
    yaw_of,
)
from simgen.grammar.production import Draft, Meanings, Production, Slots, meaning
from simgen.grammar.words import BLOCKS, BOWLS, CYLINDERS, PLATES

GAP, LATERAL = 0.02, 0.1  # the relations' default tolerances [m at scale 1]
REFERENCE_SHIFT = 0.05  # the relation is brought about by moving the object, not the reference [m]

SIDES = {
    "to the left of": "left_of",
    "left of": "left_of",
    "on the left side of": "left_of",
    "to the right of": "right_of",
    "right of": "right_of",
    "on the right side of": "right_of",
    "in front of": "front_of",
    "behind": "behind",
}
_STEPS = {"left_of": (0, 1), "right_of": (0, -1), "front_of": (1, 0), "behind": (-1, 0)}


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """At the start neither the relation nor its opposite holds: the object is too far to the side for both."""
    obj, ref, side = meaning(slots, "obj", Thing), meaning(slots, "ref", Thing), str(slots["side"])
    colors, s = resolve_colors((obj, ref)), profile.object_scale
    axis = 0 if _STEPS[side][0] else 1
    step = 0.5 * (footprint(obj, profile)[axis] + footprint(ref, profile)[axis]) + 0.04 * s
    start, stands = _boxes(axis, step, profile)
    tol = {} if s == 1.0 else {"gap": round(GAP * s, 4), "lateral": round(LATERAL * s, 4)}
    goal = all_of(atom(side, obj.id, ref.id, **tol), atom("on", obj.id, "table"))
    dx, dy = (round(part * step, 3) for part in _STEPS[side])
    room = GRIPPER_ROOM * s
    return Draft(
        entities=(
            entity(obj, colors[0], "manipuland", placement(start, yaw_of(obj), room), profile),
            entity(ref, colors[1], "receptacle", placement(stands, yaw_of(ref), room), profile),
        ),
        goal=goal,
        subgoals=(Subgoal(skill="place_beside", args=(obj.id, ref.id, dx, dy), goal=goal),),
        never=(atom("moved", ref.id, REFERENCE_SHIFT),),
    )


def _boxes(axis: int, step: float, profile: RobotProfile) -> tuple[Box, Box]:
    """Where the object starts and where the reference stands; both sides of the reference are within reach."""
    s, lows, highs = profile.object_scale, profile.workspace[:2], profile.workspace[2:]
    across, low, high = 1 - axis, lows[axis] + step, highs[axis] - step
    inner, outer = highs[across] - 6 * JITTER * s, highs[across] - JITTER * s
    limit = inner - (LATERAL + JITTER) * s
    if low > high or limit <= lows[across]:
        raise too_small(profile, "one thing beside another")
    if axis:
        return (lows[0], lows[1], limit, highs[1]), (inner, low, outer, high)
    return (lows[0], lows[1], highs[0], limit), (low, inner, high, outer)


def _opposite(slots: Slots, spec: TaskSpec) -> Iterator[Slots]:
    """The other side along the same axis, which does not hold at the start either."""
    del spec
    across = {"left_of": "to the right of", "right_of": "to the left of", "front_of": "behind", "behind": "in front of"}
    yield {**slots, "side": across[SIDES[slots["side"]]]}


RELATIVE_PLACE = Production(
    family="relative_place",
    summary="put an object to one side of another",
    slots={
        "verb": Choice(("put", "place", "set", "move")),
        "obj": NounPhrase({**BLOCKS, **CYLINDERS}),
        "side": Phrase(SIDES),
        "ref": NounPhrase({**BOWLS, **PLATES, **BLOCKS, **CYLINDERS}),
    },
    templates=(
        "{verb} {obj} {side} {ref}",
        "pick up {obj} and {verb} it {side} {ref}",
        "take {obj} and {verb} it {side} {ref}",
        "please {verb} {obj} {side} {ref}",
        "can you {verb} {obj} {side} {ref}",
        "{obj} goes {side} {ref}",
        "{obj} should be {side} {ref}",
    ),
    examples=(
        "put the red block to the left of the bowl",
        "place the green cube behind the blue plate",
        "put the can to the right of the red block",
    ),
    draft=_draft,
    contrast=_opposite,
)
