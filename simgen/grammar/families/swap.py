"""Two objects on two plates change places."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import entity, placement, resolve_colors, row, yaw_of
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.rooms import quarter, resting, spot
from simgen.grammar.words import BLOCKS, CYLINDERS, PALETTES


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """The first object waits on the table in front of the plates while the second moves."""
    things = (meaning(slots, "a", Thing), meaning(slots, "b", Thing))
    colors, s = resolve_colors(things), profile.object_scale
    free = [color for color in PALETTES["plate"] if color not in colors]
    plates = tuple(Thing("plate", "plate", color) for color in free[:2])
    spots, rest = row(plates, profile)
    homes = tuple(entity(p, str(p.color), "receptacle", place, profile) for p, place in zip(plates, spots, strict=True))
    items = tuple(
        resting(entity(t, c, "manipuland", placement(rest, min(yaw_of(t), quarter())), profile), home, spot(0.005 * s))
        for t, c, home in zip(things, colors, homes, strict=True)
    )
    (a, b), (first, second) = (t.id for t in things), (p.id for p in plates)
    x, y = round(0.5 * (rest[0] + rest[2]), 3), round(0.5 * (rest[1] + rest[3]), 3)
    aside, there, here = atom("on", a, "table"), atom("on", b, first), atom("on", a, second)
    return Draft(
        entities=(*homes, *items),
        goal=all_of(here, there),
        subgoals=(
            Subgoal(skill="place_at", args=(a, x, y), goal=aside),
            Subgoal(skill="place_on", args=(b, first), goal=there),
            Subgoal(skill="place_on", args=(a, second), goal=here),
        ),
        never=tuple(atom("moved", p.id, RECEPTACLE_SHIFT) for p in plates),
        init=(atom("on", a, first), atom("on", b, second)),
    )


SWAP = Production(
    family="swap",
    summary="let two objects on plates change places",
    slots={
        "verb": Choice(("swap", "exchange", "switch")),
        "a": NounPhrase({**BLOCKS, **CYLINDERS}),
        "b": NounPhrase({**BLOCKS, **CYLINDERS}),
        "put": Choice(("put", "place", "move")),
    },
    templates=(
        "{verb} {a} and {b}",
        "{verb} {a} with {b}",
        "please {verb} {a} and {b}",
        "can you {verb} {a} and {b}",
        "let {a} and {b} change places",
        "{verb} {a} and {b} on their plates",
        "{put} {a} where {b} is and {b} where {a} is",
    ),
    examples=(
        "swap the red block and the green block",
        "exchange the yellow cylinder with the blue cube",
        "put the red block where the green block is and the green block where the red block is",
    ),
    draft=_draft,
    needs=Needs(depth=0.2, width=0.4),
)
