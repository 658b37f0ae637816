"""Put an object on a plate or into a region. On another block is the family ``stack``."""

from __future__ import annotations

from robostack.task.predicate import atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import anywhere, before, entity, lane, placement, resolve_colors
from simgen.grammar.production import Draft, Meanings, Production
from simgen.grammar.words import BLOCKS, CYLINDERS, PLATES, ZONES


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    obj, dst = slots["obj"], slots.get("dst", slots.get("zone"))
    assert isinstance(obj, Thing)
    assert isinstance(dst, Thing)
    colors = resolve_colors((obj, dst))
    on = atom("on", obj.id, dst.id)
    subgoals = (Subgoal(skill="place_on", args=(obj.id, dst.id), goal=on),)
    if dst.card == "zone":
        region = lane(dst.direction, profile)
        entities = (
            entity(obj, colors[0], "manipuland", before(region, obj, profile), profile),
            entity(dst, colors[1], "zone", placement(region.region), profile),
        )
        return Draft(entities, on, subgoals)
    entities = (
        entity(obj, colors[0], "manipuland", anywhere(obj, profile), profile),
        entity(dst, colors[1], "receptacle", anywhere(dst, profile), profile),
    )
    return Draft(entities, on, subgoals, never=(atom("moved", dst.id, RECEPTACLE_SHIFT),))


PUT_ON = Production(
    family="put_on",
    summary="put an object on a plate or in a region",
    slots={
        "verb": Choice(("put", "place", "set", "move")),
        "obj": NounPhrase({**BLOCKS, **CYLINDERS}),
        "prep": Choice(("on", "onto", "on top of")),
        "dst": NounPhrase(PLATES),
        "to": Choice(("in", "into", "on", "onto", "inside", "to")),
        "zone": NounPhrase(ZONES, directed=True),
    },
    templates=(
        "{verb} {obj} {prep} {dst}",
        "pick up {obj} and {verb} it {prep} {dst}",
        "take {obj} and {verb} it {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{obj} goes {prep} {dst}",
        "{obj} should be {prep} {dst}",
        "{verb} {obj} {to} {zone}",
        "pick up {obj} and {verb} it {to} {zone}",
        "please {verb} {obj} {to} {zone}",
    ),
    examples=(
        "put the red cube on the blue plate",
        "pick up the green cylinder and place it on the plate",
        "place the red block in the left region",
    ),
    draft=_draft,
)
