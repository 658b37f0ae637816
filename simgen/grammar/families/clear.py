"""Move everything off a plate, out of a tray or out of a region."""

from __future__ import annotations

from robostack.errors import SentenceError
from robostack.task.predicate import AnyPred, Bound, ForAll, Not, Or, Select, all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Placement, Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, Group, GroupPhrase, NounPhrase, Thing
from simgen.grammar.layout import (
    JITTER,
    entity,
    footprint,
    placement,
    resolve_colors,
    too_small,
)
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.rooms import resting
from simgen.grammar.words import BLOCKS, PALETTES, PLATES, TRAYS, ZONES

MOST = 2
APART = 0.036  # of the two objects from the middle of what is cleared [m at scale 1]
EVERYWHERE = 1.0  # a lateral tolerance that never matters on a table [m]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """What is cleared lies at the far edge; the objects go to spots along the near edge."""
    dst, group = meaning(slots, "dst", Thing), slots.get("objs", Group("block", "block"))
    assert isinstance(group, Group)
    things = group.things(default=MOST, palette=tuple(c for c in PALETTES["block"] if c != dst.color))
    if len(things) > MOST:
        raise SentenceError(f"it names {len(things)} {group.noun}s; one or two can be cleared away")
    colors, s = resolve_colors((dst, *things)), profile.object_scale
    x0, y0, x1, y1 = profile.workspace
    depth, half = footprint(dst, profile)[0], 0.5 * footprint(things[0], profile)[0]
    line = x1 - depth / 2.0 if dst.card == "zone" else x1 - 2.0 * JITTER * s
    near = round(x0 + JITTER * s, 3)
    if near + half + 2.0 * JITTER * s > line - JITTER * s - depth / 2.0:
        raise too_small(profile, f"'{dst.words}' with room to clear it")
    middle = 0.5 * (y0 + y1)
    stands = placement((line - JITTER * s, middle - 5 * JITTER * s, line + JITTER * s, middle + 5 * JITTER * s))
    role = "zone" if dst.card == "zone" else "receptacle"
    home = entity(dst, colors[0], role, stands, profile)
    items = tuple(
        resting(entity(t, c, "manipuland", Placement(box=profile.workspace), profile), home, _lie(place, s))
        for t, c, place in zip(things, colors[1:], (-APART, APART), strict=False)
    )
    away = all_of(atom("on", "$x", "table"), _off("$x", dst, profile))
    goal = ForAll(body=Bound(var="x", among=Select(role="manipuland"), pred=away))  # pyright: ignore[reportCallIssue]
    spots = [round(middle + (k - 0.5) * 0.12 * s, 3) for k in range(len(things))]
    return Draft(
        entities=(home, *items),
        goal=goal,
        subgoals=tuple(
            Subgoal(
                skill="place_at",
                args=(t.id, near, y),
                goal=all_of(atom("on", t.id, "table"), _off(t.id, dst, profile)),
            )
            for t, y in zip(things, spots, strict=True)
        ),
        never=() if role == "zone" else (atom("moved", dst.id, RECEPTACLE_SHIFT),),
        init=tuple(atom("in" if dst.card == "tray" else "on", t.id, dst.id) for t in things),
    )


def _lie(offset: float, s: float) -> tuple[float, float, float, float]:
    return (offset * s - 0.002 * s, -0.004 * s, offset * s + 0.002 * s, 0.004 * s)


def _off(item: str, dst: Thing, profile: RobotProfile) -> AnyPred:
    """Not on it; of a painted region the whole object is beside it, to whichever side."""
    if dst.card != "zone":
        off = atom("in" if dst.card == "tray" else "on", item, dst.id)
        return Not(part=off)  # pyright: ignore[reportCallIssue]  # populate_by_name
    gap = round(0.5 * (profile.size("zone")[0] + profile.size("block")[0]), 4)
    sides = ("left_of", "right_of", "front_of", "behind")
    parts = tuple(atom(side, item, dst.id, gap=gap, lateral=EVERYWHERE) for side in sides)
    return Or(parts=parts)  # pyright: ignore[reportCallIssue]  # populate_by_name


CLEAR = Production(
    family="clear",
    summary="move everything off a plate, tray or region",
    slots={
        "verb": Choice(("clear", "empty", "clear off", "free up")),
        "take": Choice(("take", "move", "get")),
        "dst": NounPhrase({**PLATES, **TRAYS, **ZONES}),
        "off": Choice(("off", "out of", "away from")),
        "objs": GroupPhrase(BLOCKS),
    },
    templates=(
        "{verb} {dst}",
        "please {verb} {dst}",
        "can you {verb} {dst}",
        "{take} everything {off} {dst}",
        "please {take} everything {off} {dst}",
        "{take} {objs} {off} {dst}",
        "{take} {objs} {off} {dst} and put them on the table",
    ),
    examples=(
        "clear the plate",
        "take everything out of the gray tray",
        "move the red and blue blocks off the plate",
    ),
    draft=_draft,
    needs=Needs(depth=0.2, width=0.3),
)
