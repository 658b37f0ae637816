"""What a sentence and a goal say of the same world, compared word class by word class.

No model of language judges here: objects by colour and noun, relations by their lemmas, order by position, numbers by
value. A sentence whose words none of these know is not judged to contradict the goal; one that names other objects or
an opposite relation is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from robostack.paths import find_cards
from robostack.sim.cards import load_asset
from robostack.sim.objects import COLORS
from robostack.task.ground import grounded_atoms
from robostack.task.predicate import Atom, Count, Exists, ForAll, walk
from robostack.task.spec import Entity, TaskSpec

_SPELLINGS = {"grey": "gray"}
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_GENERIC = re.compile(r"\b(every|all|each|everything|objects?|things?|them|any|clear|sort|both)\b")

# Relation words that exclude an atom when none of the words that go with the atom is said.
_SAID = {
    "left_of": r"\bleft\b",
    "right_of": r"\bright\b",
    "front_of": r"\b(front|beyond|farther|further|past)\b",
    "behind": r"\b(behind|back|nearer|closer)\b",
    "on": r"\b(on|onto|top|stack|tower|pile|push|slide|rake|sort|region|zone|area|line|row|swap|over|to|clear|off)\b",
    "in": r"\b(in|into|inside|insert|sort|away|pack|store|tidy|fill|clear|swap|contains?|within|through|hole|to)\b",
    "lifted": r"\b(lift|raise|pick|hold|up|air|grab|take)\b",
    "aligned": r"\b(line|row|align\w*|straight|order|arrange|sort)\b",
    "sorted": r"\b(order|line|row|sort|left|right|arrange|then|front)\b",
    "near": r"\b(near|next|close|beside|touch\w*|together|by|to|gather|group)\b",
    "far": r"\b(far|away|apart|separate|from|clear|remove|off|out|un\w+)\b",
}
_OPEN = re.compile(r"\b(open|press|push|turn|pull|flip|switch|on|up|away|forward|half\w*|set|swing|rotate|twist)\b")
_SHUT = re.compile(r"\b(close|shut|closed|off|back|towards?|down|turn|push|half\w*|set|flip|pull|swing|rotate)\b")


def disagreement(spec: TaskSpec) -> str:
    """How text and goal contradict each other, in a line; empty when nothing says that they do."""
    said = " ".join(spec.instruction.text.lower().split())
    for word, color in _SPELLINGS.items():
        said = re.sub(rf"\b{word}\b", color, said)
    atoms = list(grounded_atoms(spec.goal, spec.entities))
    return next(_all(spec, said, atoms), "")


def _all(spec: TaskSpec, said: str, atoms: list[Atom]) -> Iterator[str]:
    yield from _objects(spec, said, atoms)
    yield from _relations(said, atoms)
    yield from _order(spec, said, atoms)
    yield from _numbers(spec, said)


def _objects(spec: TaskSpec, said: str, atoms: list[Atom]) -> Iterator[str]:
    """Named objects occur in the goal or as a reference of a subgoal, and the goal moves nothing that is not named."""
    meant = {name for atom in atoms for name in _names(atom)}
    meant |= {str(a) for s in spec.subgoals for a in s.args}
    for entity in spec.entities:
        phrases = _phrases(entity)
        if entity.id not in meant and any(re.search(rf"\bthe {phrase}\b", said) for phrase in phrases):
            others = [e for e in spec.entities if e.id in meant and set(_phrases(e)) & set(phrases)]
            if not others:
                yield f"the text names the {phrases[0]}, the goal does not speak of it"
    if _GENERIC.search(said):
        return
    for entity in spec.manipulands():
        nouns = "|".join(_nouns(entity.card))
        color = rf"\b{entity.color}\b"
        if entity.id in meant and not re.search(color, said) and not re.search(rf"\b({nouns})(e?s)?\b", said):
            yield f"the goal moves the {entity.color} {entity.card}, the text does not name it"
        elif entity.id in meant and not re.search(color, said) and _colored(said, nouns):
            yield f"the goal moves the {entity.color} {entity.card}, the text names others of its kind"


def _colored(said: str, nouns: str) -> bool:
    return bool(re.search(rf"\b({'|'.join(COLORS)}) ({nouns})(e?s)?\b", said))


def _relations(said: str, atoms: list[Atom]) -> Iterator[str]:
    for atom in atoms:
        words = _SAID.get(atom.name)
        if words is not None and "table" not in atom.args and not re.search(words, said):
            yield f"the goal asks for '{atom.name}', no word of the text does"
        if atom.name == "joint":
            cmp, value = str(atom.args[2]), float(str(atom.args[3]))
            shut = cmp == "<=" or value < 0.3
            if not re.search(_SHUT if shut else _OPEN, said):
                yield f"the goal {'closes' if shut else 'opens'} the joint, the text does not say so"


def _order(spec: TaskSpec, said: str, atoms: list[Atom]) -> Iterator[str]:
    """Who is put where: "the red block on the green one" is not "the green block on the red one"."""
    joints = r"(on|onto|on top of|in|into|inside|left of|right of|behind|in front of|next to)"
    for atom in atoms:
        if atom.name not in ("on", "in", "left_of", "right_of", "front_of", "behind"):
            continue
        a, b = (next((e for e in spec.entities if e.id == name), None) for name in atom.args[:2])
        if a is None or b is None or (a.color, a.card) == (b.color, b.card):
            continue
        first = rf"\b{_colored_phrase(a)} (to the )?{joints} (the )?{_colored_phrase(b)}\b"
        swapped = rf"\b{_colored_phrase(b)} (to the )?{joints} (the )?{_colored_phrase(a)}\b"
        if re.search(swapped, said) and not re.search(first, said):
            pair = f"the {a.color} {a.card} {atom.name} the {b.color} {b.card}"
            yield f"the goal puts {pair}, the text says the other way round"


def _numbers(spec: TaskSpec, said: str) -> Iterator[str]:
    counts = {node.body.n for node in walk(spec.goal) if isinstance(node, Count)}
    words = {n for word, n in _NUMBERS.items() if re.search(rf"\b{word}\b", said)}
    quantified = any(isinstance(node, (ForAll, Exists, Count)) for node in walk(spec.goal))
    if counts and words and not counts & words:
        yield f"the goal counts {sorted(counts)}, the text says {sorted(words)}"
    if counts and not words and re.search(r"\b(all|every|each)\b", said) and not _whole(spec):
        yield f"the text says all, the goal counts {sorted(counts)}"
    if quantified and not counts and words and re.search(r"\bexactly\b", said):
        yield "the text counts, the goal does not"


def _whole(spec: TaskSpec) -> bool:
    return any(isinstance(n, Count) and n.body.n >= len(spec.manipulands()) for n in walk(spec.goal))


def _names(atom: Atom) -> Iterator[str]:
    for arg in atom.args:
        yield from (str(a) for a in (arg if isinstance(arg, tuple) else (arg,)))


def _phrases(entity: Entity) -> list[str]:
    return [f"{entity.color} {noun}" for noun in _nouns(entity.card)]


def _colored_phrase(entity: Entity) -> str:
    return (
        rf"({entity.color} )?({'|'.join(_nouns(entity.card))})"
        if entity.role != "manipuland"
        else (rf"{entity.color} ({'|'.join(_nouns(entity.card))})")
    )


def _nouns(card: str) -> tuple[str, ...]:
    return load_asset(card).nouns if card in find_cards("assets") else (card,)
