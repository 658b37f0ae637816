"""Put three or four objects in a row."""

from __future__ import annotations

from robostack.errors import SentenceError
from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, Group, GroupPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, entity, footprint, placement, resolve_colors, too_small, yaw_of
from simgen.grammar.production import Draft, Meanings, Production
from simgen.grammar.words import BLOCKS, CYLINDERS, PALETTES

GAP, MAX_GAP, START_GAP = 0.02, 0.035, 0.05  # between neighbours: aimed at, allowed, at reset [m at scale 1]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """The first object stays; the others go to its left and right in turn: 0, +1, -1, +2 pitches along y.

    Neighbours start further apart than the goal allows, so no start is a solution. The anchor starts where all slots
    lie in the workspace, and far enough from the rest to keep them free.
    """
    group = slots["objs"]
    assert isinstance(group, Group)
    things = group.things(default=3, palette=PALETTES[group.card])
    if not 3 <= len(things) <= 4:
        raise SentenceError(f"it names {len(things)} {group.noun}s; three or four can be lined up")
    colors = resolve_colors(things)
    s, n = profile.object_scale, len(things)
    width = footprint(things[0], profile)[1]
    pitch = round(width + GAP * s, 3)
    reach = pitch * (n // 2)
    x0, y0, x1, y1 = profile.workspace
    if y0 + reach >= y1 - reach:
        raise too_small(profile, f"a row of {n}")
    anchor = placement((x0, y0 + reach, x1, y1 - reach), yaw_of(things[0]), reach + GRIPPER_ROOM * s)
    other = placement(profile.workspace, yaw_of(things[0]), START_GAP * s)
    entities = tuple(
        entity(t, c, "manipuland", anchor if i == 0 else other, profile)
        for i, (t, c) in enumerate(zip(things, colors, strict=True))
    )
    ids = tuple(t.id for t in things)
    extent = round((n - 2) * width + (n - 1) * MAX_GAP * s, 3)
    return Draft(
        entities=entities,
        goal=all_of(atom("aligned", ids), atom("spread", ids, extent), *(atom("on", i, "table") for i in ids)),
        subgoals=tuple(_beside(things, k, pitch, MAX_GAP * s) for k in range(1, n)),
    )


def _beside(things: tuple[Thing, ...], k: int, pitch: float, gap: float) -> Subgoal:
    """Object k goes to slot +1, -1, +2 of the first: next to what already stands on that side."""
    slot = (k + 1) // 2 * (1 if k % 2 else -1)
    neighbour = things[0] if k < 3 else things[k - 2]
    goal = all_of(atom("near", things[k].id, neighbour.id, round(gap, 4)), atom("on", things[k].id, "table"))
    return Subgoal(skill="place_beside", args=(things[k].id, things[0].id, 0.0, round(slot * pitch, 3)), goal=goal)


LINE_UP = Production(
    family="line_up",
    summary="put three or four objects in a row",
    slots={
        "objs": GroupPhrase({**BLOCKS, **CYLINDERS}),
        "line": Choice(("line", "row", "straight line")),
        "put": Choice(("put", "place", "arrange", "set")),
        "make": Choice(("make", "form", "build")),
        "of": Choice(("of", "with", "from")),
    },
    templates=(
        "line up {objs}",
        "line {objs} up",
        "{put} {objs} in a {line}",
        "align {objs}",
        "{make} a {line} {of} {objs}",
        "please line up {objs}",
        "please {put} {objs} in a {line}",
    ),
    examples=(
        "line up the red, green and blue blocks",
        "line up the three cylinders",
        "arrange the four blocks in a row",
    ),
    draft=_draft,
)
