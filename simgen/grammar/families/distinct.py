"""Put every object somewhere else than the others."""

from __future__ import annotations

from robostack.errors import SentenceError
from robostack.task.predicate import Bound, Exists, ForAll, Select, atom
from robostack.task.predicate import Choice as Chosen
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, Group, GroupPhrase, Phrase, Thing
from simgen.grammar.layout import GRIPPER_ROOM, entity, placement, row, yaw_of
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.words import BLOCKS, CYLINDERS, PALETTES

MOST = 3
FLAT = {"plates": "plate", "dishes": "plate"}
HOLLOW = {"bowls": "bowl", "trays": "tray"}


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    group, card = meaning(slots, "objs", Group), str(slots.get("dsts", slots.get("bins")))
    things = group.things(default=2, palette=PALETTES[group.card])
    colors = [str(t.color) for t in things]
    if not 2 <= len(set(colors)) == len(colors) <= MOST:
        raise SentenceError(f"it names {len(colors)} {group.noun}s; two or three of different colours can be spread")
    free = [c for c in PALETTES[card] if c not in colors]
    homes = tuple(Thing(card, card, color) for color in dict.fromkeys(free))[: len(things)]
    spots, rest = row(homes, profile)
    relation, skill = ("on", "place_on") if card == "plate" else ("in", "place_in")
    room = GRIPPER_ROOM * profile.object_scale
    some = Chosen(var="y", among=Select(role="receptacle", card=card), distinct=True, pred=atom(relation, "$x", "$y"))
    each = Bound(
        var="x",
        among=Select(role="manipuland", card=group.card),
        pred=Exists(body=some),  # pyright: ignore[reportCallIssue]  # populate_by_name
    )
    return Draft(
        entities=(
            *(entity(h, str(h.color), "receptacle", place, profile) for h, place in zip(homes, spots, strict=True)),
            *(entity(t, str(t.color), "manipuland", placement(rest, yaw_of(t), room), profile) for t in things),
        ),
        goal=ForAll(body=each),  # pyright: ignore[reportCallIssue]  # populate_by_name
        subgoals=tuple(
            Subgoal(skill=skill, args=(t.id, h.id), goal=atom(relation, t.id, h.id))
            for t, h in zip(things, homes, strict=True)
        ),
        never=tuple(atom("moved", h.id, RECEPTACLE_SHIFT) for h in homes),
    )


DISTINCT = Production(
    family="distinct",
    summary="put every object on a plate of its own",
    slots={
        "verb": Choice(("put", "place", "set", "move")),
        "spread": Choice(("spread", "distribute")),
        "objs": GroupPhrase({**BLOCKS, **CYLINDERS}),
        "prep": Choice(("on", "onto")),
        "dsts": Phrase(FLAT),
        "in": Choice(("in", "into")),
        "bins": Phrase(HOLLOW),
    },
    templates=(
        "{verb} {objs} {prep} different {dsts}",
        "please {verb} {objs} {prep} different {dsts}",
        "can you {verb} {objs} {prep} different {dsts}",
        "{verb} {objs} {prep} separate {dsts}",
        "{spread} {objs} over different {dsts}",
        "{verb} {objs} {in} different {bins}",
        "please {verb} {objs} {in} different {bins}",
        "{verb} {objs} {in} separate {bins}",
        "{spread} {objs} over different {bins}",
    ),
    examples=(
        "put the blocks on different plates",
        "place the red and blue cubes on separate plates",
        "spread the three cylinders over different trays",
    ),
    draft=_draft,
    needs=Needs(depth=0.2, width=0.4),
)
