"""Put so many of several objects into a container."""

from __future__ import annotations

from robostack.errors import SentenceError
from robostack.task.predicate import Count, Select, Tally, all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.articulated import others
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, Group, GroupPhrase, NounPhrase, Quantity, QuantityPhrase, Thing
from simgen.grammar.layout import anywhere, entity, resolve_colors
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.words import BALLS, BLOCKS, BOWLS, CRATES, CYLINDERS, PALETTES, TRAYS

MOST = 4


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    quantity, dst, group = meaning(slots, "n", Quantity), meaning(slots, "dst", Thing), meaning(slots, "objs", Group)
    things = group.things(default=max(3, quantity.n + 1), palette=PALETTES[group.card])
    if not quantity.n < len(things) <= MOST:
        raise SentenceError(f"it asks for {quantity.n} of {len(things)} {group.noun}s; there must be more, up to four")
    colors = resolve_colors((*things, dst))
    items = tuple(
        entity(t, c, "manipuland", anywhere(t, profile), profile) for t, c in zip(things, colors, strict=False)
    )
    among = Select(role="manipuland", card=group.card)
    tally = Tally(var="x", among=among, cmp=quantity.cmp, n=quantity.n, pred=atom("in", "$x", dst.id))
    counted = Count(body=tally)  # pyright: ignore[reportCallIssue]  # populate_by_name
    return Draft(
        entities=(entity(dst, colors[-1], "receptacle", anywhere(dst, profile), profile), *items),
        goal=all_of(counted, atom("upright", dst.id)),
        subgoals=tuple(
            Subgoal(skill="place_in", args=(t.id, dst.id), goal=atom("in", t.id, dst.id)) for t in things[: quantity.n]
        ),
        never=(atom("moved", dst.id, RECEPTACLE_SHIFT),),
    )


COUNT = Production(
    family="count",
    summary="put so many of several objects into a container",
    slots={
        "verb": Choice(("put", "place", "drop", "move")),
        "n": QuantityPhrase(("exactly", "only", "just", "at least")),
        "objs": GroupPhrase({**BLOCKS, **CYLINDERS, **BALLS}),
        "prep": Choice(("in", "into", "inside")),
        "dst": NounPhrase({**BOWLS, **TRAYS, **CRATES}),
    },
    templates=(
        "{verb} {n} of {objs} {prep} {dst}",
        "please {verb} {n} of {objs} {prep} {dst}",
        "can you {verb} {n} of {objs} {prep} {dst}",
        "pick {n} of {objs} and {verb} them {prep} {dst}",
        "{n} of {objs} should be {prep} {dst}",
        "of {objs}, {verb} {n} {prep} {dst}",
    ),
    examples=(
        "put two of the blocks in the bowl",
        "drop exactly one of the three balls into the tray",
        "place at least two of the four cubes in the crate",
    ),
    draft=_draft,
    needs=Needs(width=0.3),
    contrast=others("n", ("one", "two", "three")),
)
