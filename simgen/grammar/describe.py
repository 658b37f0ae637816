"""Goals in canonical English, from the predicate alone: what a task asks for, whatever its instruction claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robostack.task.predicate import (
    Among,
    And,
    AnyPred,
    Atom,
    Count,
    Exists,
    ForAll,
    Implies,
    Initially,
    Not,
    Once,
    Or,
    Select,
)
from robostack.task.spec import TaskSpec
from simgen.grammar.words import plural

NOUNS = {"zone": "region", "bin": "crate"}  # where the noun is not the card's name
NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six")
_AT = {">=": "at least", "<=": "at most", "==": "exactly"}
_SIDES = ("left_of", "right_of", "front_of", "behind")

_STATES = {  # joint of a card, open and closed
    "drawer": ("open", "closed"),
    "cabinet": ("open", "closed"),
    "button": ("pressed", "released"),
    "lever": ("pushed away", "pulled back"),
    "dial": ("turned all the way", "turned back"),
}
FRACTIONS = {0.25: "a quarter of the way", 0.5: "halfway", 0.75: "three quarters of the way"}

_FORMS = {
    "on": "{0} is on {1}",
    "in": "{0} is in {1}",
    "above": "{0} is above {1}",
    "left_of": "{0} is to the left of {1}",
    "right_of": "{0} is to the right of {1}",
    "front_of": "{0} is in front of {1}",
    "behind": "{0} is behind {1}",
    "near": "{0} is within {2} of {1}",
    "far": "{0} is at least {2} away from {1}",
    "upright": "{0} is upright",
    "pose_at": "{0} is at a given pose",
    "aligned": "{0} are in a line",
    "spread": "{0} are within {1} of each other",
    "sorted": "{0} are in this order",
    "contains_count": "{2} {3} of {1} are in {0}",
    "grasped": "{0} is held by the gripper",
    "lifted": "{0} is lifted by {1}",
    "released": "{0} is let go",
    "touching": "{0} is touching {1}",
    "moved": "{0} is moved by {1}",
    "still": "{0} is still",
}


def noun(card: str) -> str:
    """The canonical noun of a card."""
    return NOUNS.get(card, card)


def describe(goal: AnyPred, spec: TaskSpec) -> str:
    """One English sentence that says when the goal holds; entities are named by colour and card."""
    names = {e.id: f"the {e.color} {noun(e.card)}" for e in spec.entities} | {"table": "the table"}
    return _say(goal, names, spec)


def _say(pred: AnyPred, names: Mapping[str, str], spec: TaskSpec) -> str:
    if isinstance(pred, Atom):
        return _atom(pred, names, spec)
    if isinstance(pred, (ForAll, Exists, Count)):
        var = f"${pred.body.var}"
        said = _say(pred.body.pred, {**names, var: _quantified(pred, names)}, spec)
        return said.replace(" is ", " are ") if isinstance(pred, Count) and pred.body.n != 1 else said
    if isinstance(pred, Not) and isinstance(pred.part, Atom) and pred.part.name == "upright":
        return f"{_arg(pred.part.args[0], names)} is knocked over"
    if isinstance(pred, Not):
        inner = _say(pred.part, names, spec)
        return (
            inner.replace(" is ", " is not ", 1)
            if isinstance(pred.part, Atom) and " is " in inner
            else f"it is not so that {inner}"
        )
    if isinstance(pred, (Once, Initially)):
        when = "at some time" if isinstance(pred, Once) else "at the start"
        return f"{_say(pred.part, names, spec)} {when}"
    if isinstance(pred, Or) and _is_outside(pred):
        item, region = (names[str(a)] for a in pred.parts[0].args)  # pyright: ignore[reportAttributeAccessIssue]
        return f"{item} is out of {region}"
    parts = [_say(p, names, spec) for p in pred.parts]
    if isinstance(pred, Implies):
        return f"if {parts[0]}, {parts[1]}"
    return (" and " if isinstance(pred, And) else " or " if isinstance(pred, Or) else ", then ").join(parts)


def _is_outside(pred: Or) -> bool:
    """To one of the four sides of one thing: beside it, wherever."""
    atoms = [p for p in pred.parts if isinstance(p, Atom)]
    return (
        len(atoms) == 4 == len(pred.parts)
        and {a.name for a in atoms} == set(_SIDES)
        and len({a.args for a in atoms}) == 1
    )


def _quantified(pred: ForAll | Exists | Count, names: Mapping[str, str]) -> str:
    kind = _kind(pred.body.among, names)
    if isinstance(pred, Count):
        number = NUMBER_WORDS[pred.body.n] if pred.body.n < len(NUMBER_WORDS) else str(pred.body.n)
        return f"{_AT[pred.body.cmp]} {number} of the {plural(kind)}"
    if isinstance(pred, ForAll):
        return f"every {kind}"
    return f"a different {kind}" if pred.body.distinct else f"some {kind}"


def _kind(among: Among, names: Mapping[str, str]) -> str:
    if isinstance(among, Select):
        return " ".join(w for w in (among.color, noun(among.card) if among.card else "object") if w)
    nouns = {names[name].rsplit(" ", 1)[-1] for name in among}
    return nouns.pop() if len(nouns) == 1 else "object"


def _atom(atom: Atom, names: Mapping[str, str], spec: TaskSpec) -> str:
    if atom.name == "joint":
        return _joint(atom, names, spec)
    args = [_arg(a, names) for a in atom.args]
    if atom.name == "contains_count":
        args[2:] = [_AT[str(atom.args[2])], NUMBER_WORDS[int(float(str(atom.args[3]))) % len(NUMBER_WORDS)]]
    form = _FORMS.get(atom.name)
    return form.format(*args) if form else f"{atom.name} of {', '.join(args)}"


def _joint(atom: Atom, names: Mapping[str, str], spec: TaskSpec) -> str:
    entity, _, comparison, value = atom.args
    card = next((e.card for e in spec.entities if e.id == entity), "")
    opened, closed = _STATES.get(card, ("open", "closed"))
    fraction = float(str(value))
    if comparison == "==":
        way = FRACTIONS.get(round(fraction, 2), f"to {100 * fraction:.0f} percent")
        return f"{names[str(entity)]} is {'turned' if card == 'dial' else 'open'} {way}"
    return f"{names[str(entity)]} is {opened if comparison == '>=' else closed}"


def _arg(value: str | float | tuple, names: Mapping[str, str]) -> str:
    if isinstance(value, tuple):
        return listed([_arg(v, names) for v in value])
    return names.get(value, value) if isinstance(value, str) else f"{100 * value:.3g} cm"


def listed(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
