"""Put an object into an open container."""

from __future__ import annotations

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import anywhere, entity, resolve_colors
from simgen.grammar.production import Draft, Meanings, Production
from simgen.grammar.words import BALLS, BLOCKS, BOWLS, CRATES, CYLINDERS, TRAYS

RECEPTACLE_SHIFT = 0.15  # a receptacle that is shoved further than this spoils the episode [m]


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    obj, dst = slots["obj"], slots["dst"]
    assert isinstance(obj, Thing)
    assert isinstance(dst, Thing)
    colors = resolve_colors((obj, dst))
    inside = atom("in", obj.id, dst.id)
    return Draft(
        entities=(
            entity(obj, colors[0], "manipuland", anywhere(obj, profile), profile),
            entity(dst, colors[1], "receptacle", anywhere(dst, profile), profile),
        ),
        goal=all_of(inside, atom("upright", dst.id)),
        subgoals=(Subgoal(skill="place_in", args=(obj.id, dst.id), goal=inside),),
        never=(atom("moved", dst.id, RECEPTACLE_SHIFT),),
    )


PUT_IN = Production(
    family="put_in",
    summary="put an object into a bowl or tray",
    slots={
        "verb": Choice(("put", "place", "set", "move", "drop")),
        "obj": NounPhrase({**BLOCKS, **CYLINDERS, **BALLS}),
        "prep": Choice(("in", "into", "inside")),
        "dst": NounPhrase({**BOWLS, **TRAYS, **CRATES}),
    },
    templates=(
        "{verb} {obj} {prep} {dst}",
        "pick up {obj} and {verb} it {prep} {dst}",
        "take {obj} and {verb} it {prep} {dst}",
        "grab {obj} and {verb} it {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{obj} goes {prep} {dst}",
        "{obj} should be {prep} {dst}",
    ),
    examples=(
        "put the red cube in the bowl",
        "place the green ball into the blue bowl",
        "pick up the yellow cylinder and drop it in the gray tray",
    ),
    draft=_draft,
)
