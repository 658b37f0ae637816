"""Stack two or three objects."""

from __future__ import annotations

import itertools

from robostack.task.predicate import all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import anywhere, entity, resolve_colors
from simgen.grammar.production import Draft, Meanings, Production
from simgen.grammar.words import BLOCKS, CYLINDERS


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    tower = [thing for name in ("base", "mid", "top") if isinstance(thing := slots.get(name), Thing)]
    colors = resolve_colors(tower)
    roles = ("receptacle", "manipuland", "manipuland")
    entities = tuple(
        entity(thing, color, role, anywhere(thing, profile), profile)
        for thing, color, role in zip(tower, colors, roles, strict=False)
    )
    steps = [(upper.id, lower.id, atom("on", upper.id, lower.id)) for lower, upper in itertools.pairwise(tower)]
    return Draft(
        entities=entities,
        goal=all_of(*(on for *_, on in steps), atom("on", tower[0].id, "table")),
        subgoals=tuple(Subgoal(skill="stack", args=(upper, lower), goal=on) for upper, lower, on in steps),
    )


_ON = Choice(("on", "onto", "on top of"))

STACK = Production(
    family="stack",
    summary="stack two or three blocks",
    slots={
        "verb": Choice(("stack", "put", "place", "set", "move")),
        "top": NounPhrase({**BLOCKS, **CYLINDERS}),
        "mid": NounPhrase(BLOCKS),
        "base": NounPhrase(BLOCKS),
        "on": _ON,
        "over": _ON,
        "make": Choice(("build", "make")),
    },
    templates=(
        "{verb} {top} {on} {base}",
        "pick up {top} and {verb} it {on} {base}",
        "take {top} and {verb} it {on} {base}",
        "please {verb} {top} {on} {base}",
        "can you {verb} {top} {on} {base}",
        "{top} goes {on} {base}",
        "{make} a tower with {base} at the bottom and {top} on top",
        "{make} a tower with {base} at the bottom, then {top}",
        "{verb} {top} {on} {mid} {over} {base}",
        "{verb} {mid} {on} {base} and {top} {over} {mid}",
        "{verb} {mid} {on} {base}, then {verb} {top} {over} {mid}",
        "{make} a tower with {base} at the bottom, then {mid}, then {top}",
        "{make} a tower with {base} at the bottom, {mid} in the middle and {top} on top",
        "please {verb} {top} {on} {mid} {over} {base}",
    ),
    examples=(
        "stack the green block on the blue block",
        "stack the red block on the green block on the blue block",
        "build a tower with the blue block at the bottom, then the green block, then the red block",
    ),
    draft=_draft,
)
