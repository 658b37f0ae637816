"""Sort blocks by colour into receptacles or regions of the same colour."""

from __future__ import annotations

from robostack.errors import SentenceError
from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Entity, Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, Group, GroupPhrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, entity, placement, row, yaw_of
from simgen.grammar.production import Draft, Meanings, Production
from simgen.grammar.words import BLOCKS, BOWLS, PALETTES, PLATES, TRAYS, ZONES

MOST = 3


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    objs, dsts = slots["objs"], slots.get("dsts", Group("zone", "region"))
    assert isinstance(objs, Group)
    assert isinstance(dsts, Group)
    things = objs.things(default=2, palette=PALETTES["block"])
    _check(things, dsts)
    homes = tuple(Thing(dsts.card, dsts.noun, thing.color) for thing in things)
    spots, rest = row(homes, profile)
    relation, skill = ("in", "place_in") if dsts.card in ("bowl", "tray") else ("on", "place_on")
    room = GRIPPER_ROOM * profile.object_scale
    items = tuple(entity(t, str(t.color), "manipuland", placement(rest, yaw_of(t), room), profile) for t in things)
    role = "zone" if dsts.card == "zone" else "receptacle"
    targets: tuple[Entity, ...] = tuple(
        entity(h, str(h.color), role, spot, profile) for h, spot in zip(homes, spots, strict=True)
    )
    pairs = [(t.id, h.id, atom(relation, t.id, h.id)) for t, h in zip(things, homes, strict=True)]
    return Draft(
        entities=(*items, *targets),
        goal=all_of(*(goal for *_, goal in pairs)),
        subgoals=tuple(Subgoal(skill=skill, args=(thing, home), goal=goal) for thing, home, goal in pairs),
        never=() if role == "zone" else tuple(atom("moved", h.id, RECEPTACLE_SHIFT) for h in homes),
    )


def _check(things: tuple[Thing, ...], dsts: Group) -> None:
    colors = tuple(t.color for t in things)
    if len(set(colors)) != len(colors):
        raise SentenceError(
            f"it names one colour twice ({', '.join(map(str, colors))}); one block per colour is sorted"
        )
    if len(colors) > MOST:
        raise SentenceError(f"it names {len(colors)} blocks; two or three can be sorted")
    if dsts.colors and set(dsts.colors) != set(colors):
        raise SentenceError(f"the colours of the {dsts.noun}s are not those of the blocks: {', '.join(dsts.colors)}")
    if dsts.count and dsts.count != len(colors):
        raise SentenceError(f"it names {dsts.count} {dsts.noun}s for {len(colors)} blocks")


SORT = Production(
    family="sort",
    summary="sort blocks by colour",
    slots={
        "verb": Choice(("sort", "group", "organize", "separate")),
        "put": Choice(("put", "place", "move")),
        "objs": GroupPhrase(BLOCKS),
        "color": Choice(("color", "colour")),
        "prep": Choice(("into", "onto", "in", "on", "to")),
        "dsts": GroupPhrase({**PLATES, **BOWLS, **TRAYS, **ZONES}),
    },
    templates=(
        "{verb} {objs} by {color}",
        "{verb} {objs} by {color} {prep} {dsts}",
        "{verb} {objs} {prep} {dsts} by {color}",
        "please {verb} {objs} by {color}",
        "please {verb} {objs} by {color} {prep} {dsts}",
        "{put} {objs} {prep} {dsts} of the same {color}",
        "{put} {objs} {prep} {dsts} of their {color}",
        "match {objs} to {dsts} by {color}",
    ),
    examples=(
        "sort the blocks by colour into the plates",
        "sort the red and blue blocks by colour",
        "put the red, green and blue cubes in the bowls of the same color",
    ),
    draft=_draft,
)
