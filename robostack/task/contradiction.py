"""Parts of one conjunction that can never hold together, found without a scene."""

from __future__ import annotations

import math

from robostack.task.atoms import ATOMS
from robostack.task.predicate import And, AnyPred, Atom, Not, Once, Or, Seq, children
from robostack.task.spec import TaskSpec
from robostack.task.wording import text

_MIRRORED = {"right_of": "left_of", "behind": "front_of"}  # right_of(a, b) is left_of(b, a)
_ONE_WAY = ("on", "in", "above", "left_of", "front_of")  # never true both ways round
_OPPOSITE = {"grasped": "released", "released": "grasped"}
_HANDS = ("grasped", "lifted")  # true only while nothing but the robot carries it


def contradiction(pred: AnyPred) -> str:
    """Two parts of a grounded predicate that exclude each other, in words; empty when there are none to be seen.

    Sees, within a conjunction that has to hold: ranges of one joint or one distance that do not meet, a part and its
    negation, one-way relations asked both ways, and an object both grasped and released.
    """
    parts = _flat(pred)
    for found in (_negated(parts), _ranges(parts), _opposed(parts)):
        if found:
            return found
    for part in parts:
        below = [contradiction(p) for p in children(part)] if isinstance(part, (Or, Once, Seq)) else []
        if below and (all(below) if isinstance(part, Or) else any(below)):
            return next(filter(None, below))
    return ""


def held_at_end(spec: TaskSpec, goal: AnyPred) -> str:
    """A part of the goal that contradicts ``hold.released``, as text; empty when there is none."""
    carried = {e.id for e in spec.entities if e.role in ("manipuland", "tool")}
    atoms = (p for p in _flat(goal) if isinstance(p, Atom)) if spec.hold.released else ()
    return next((text(a) for a in atoms if a.name in _HANDS and a.args[0] in carried), "")


def _flat(pred: AnyPred) -> tuple[AnyPred, ...]:
    return tuple(p for part in pred.parts for p in _flat(part)) if isinstance(pred, And) else (pred,)


def _negated(parts: tuple[AnyPred, ...]) -> str:
    for part in parts:
        if isinstance(part, Not) and part.part in parts:
            return f"{text(part.part)} and {text(part)}"
    return ""


def _ranges(parts: tuple[AnyPred, ...]) -> str:
    """Intervals of one quantity whose intersection is empty."""
    seen: dict[tuple, tuple[float, float, list[str]]] = {}
    for part in parts:
        if isinstance(part, Atom) and (found := _interval(part)):
            key, low, high = found
            before_low, before_high, said = seen.get(key, (-math.inf, math.inf, []))
            low, high = max(low, before_low), min(high, before_high)
            seen[key] = (low, high, [*said, text(part)])
            if low > high:
                return " and ".join(seen[key][2])
    return ""


def _interval(atom: Atom) -> tuple[tuple, float, float] | None:
    """What the atom measures, and between which bounds it wants it."""
    if atom.name == "joint":
        entity, joint, comparison, value = atom.args
        assert isinstance(value, float), atom
        slack = atom.tol.get("frac", ATOMS["joint"].tol["frac"]) if comparison == "==" else math.inf
        low = value if comparison == ">=" else value - slack
        high = value if comparison == "<=" else value + slack
        return ("joint", entity, joint), low, high
    if atom.name in ("near", "far"):
        a, b, distance = atom.args
        assert isinstance(distance, float), atom
        bounds = (-math.inf, distance) if atom.name == "near" else (distance, math.inf)
        return ("distance", *sorted((str(a), str(b)))), *bounds
    return None


def _opposed(parts: tuple[AnyPred, ...]) -> str:
    seen: dict[tuple, str] = {}
    for part in parts:
        if not isinstance(part, Atom):
            continue
        name, args = part.name, part.args
        if name in _MIRRORED:
            name, args = _MIRRORED[name], args[::-1]
        opposite = (name, args[::-1]) if name in _ONE_WAY else (_OPPOSITE.get(name), args)
        if opposite in seen:
            return f"{seen[opposite]} and {text(part)}"
        seen[(name, args)] = text(part)
    return ""
