"""Contradictions that need no physics: pairs of conjuncts that no state satisfies together."""

from __future__ import annotations

import itertools

from robostack.task.evaluate import text
from robostack.task.predicate import And, AnyPred, Atom, Count, Exists, ForAll, Not
from robostack.task.spec import TaskSpec
from simgen.gates.sets import bound, canonical, members

_OPPOSITE = {"left_of": "right_of", "right_of": "left_of", "front_of": "behind", "behind": "front_of"}
_RESTING = ("on", "in")


def contradiction(spec: TaskSpec) -> str:
    """Why no state can satisfy the goal, or an empty string when nothing speaks against it."""
    count = _impossible_count(spec, spec.goal)
    if count:
        return count
    parts = list(_conjuncts(spec, spec.goal))
    forms = {canonical(spec, p) for p in parts}
    for part in parts:
        if isinstance(part, Not) and canonical(spec, part.part) in forms:
            return f"the goal asks for {text(part.part)} and for its opposite"
    for never in spec.never:
        if canonical(spec, never) in forms:
            return f"the goal asks for {text(never)}, which must never be"
    atoms = [p for p in parts if isinstance(p, Atom)]
    for a, b in itertools.combinations(atoms, 2):
        if canonical(spec, a) != canonical(spec, b) and _exclude(spec, a, b, atoms):
            return f"{text(a)} and {text(b)} exclude each other"
    return _circle(atoms)


def _conjuncts(spec: TaskSpec, pred: AnyPred):
    if isinstance(pred, And):
        for part in pred.parts:
            yield from _conjuncts(spec, part)
    elif isinstance(pred, ForAll) and isinstance(pred.body.pred, Atom):
        for member in members(spec, pred.body.among):
            yield bound(pred.body.pred, {pred.body.var: member})
    else:
        yield pred


def _impossible_count(spec: TaskSpec, pred: AnyPred) -> str:
    """A count of more members than there are, or a distinct choice with more choosers than choices."""
    if isinstance(pred, And):
        return next((found for part in pred.parts if (found := _impossible_count(spec, part))), "")
    if isinstance(pred, Count) and pred.body.cmp != "<=":
        there = len(members(spec, pred.body.among))
        if pred.body.n > there:
            return f"the goal counts {pred.body.n} of {there} entities"
    if isinstance(pred, ForAll) and isinstance(pred.body.pred, Exists) and pred.body.pred.body.distinct:
        choosers, choices = members(spec, pred.body.among), members(spec, pred.body.pred.body.among)
        if len(choosers) > len(choices):
            return f"{len(choosers)} entities cannot each have another one of {len(choices)}"
    return ""


def _exclude(spec: TaskSpec, a: Atom, b: Atom, atoms: list[Atom]) -> bool:
    if a.name == b.name == "joint" and a.args[:2] == b.args[:2]:
        (low_a, high_a), (low_b, high_b) = _fractions(a), _fractions(b)
        return max(low_a, low_b) > min(high_a, high_b)
    if {a.name, b.name} == {"near", "far"} and set(a.args[:2]) == set(b.args[:2]):
        near, far = (a, b) if a.name == "near" else (b, a)
        return _number(far) > _number(near)
    if a.name in _OPPOSITE and b.name in _OPPOSITE:
        if b.name == _OPPOSITE[a.name] and a.args == b.args:
            return True
        return a.name == b.name and a.args == b.args[::-1]
    if a.name == b.name == "in" and a.args[0] == b.args[0]:
        return not _nested(a.args[1], b.args[1], atoms) and not _nested(b.args[1], a.args[1], atoms)
    if a.name == b.name == "on" and a.args[0] == b.args[0]:
        return all(_role(spec, str(x.args[1])) == "zone" for x in (a, b))
    return {a.name, b.name} == {"lifted", "on"} and a.args[0] == b.args[0]


def _fractions(joint: Atom) -> tuple[float, float]:
    cmp, value = str(joint.args[2]), _number(joint)
    return (value if cmp != "<=" else -1.0, value if cmp != ">=" else 2.0)


def _number(atom: Atom) -> float:
    return next(float(a) for a in reversed(atom.args) if isinstance(a, (int, float)))


def _nested(inner, outer, atoms: list[Atom]) -> bool:
    """The goal puts one into the other, or could: only a receptacle that is itself put somewhere is nested."""
    return any(a.name in _RESTING and a.args[:2] == (inner, outer) for a in atoms)


def _role(spec: TaskSpec, name: str) -> str:
    return "table" if name == "table" else spec.entity(name).role


def _circle(atoms: list[Atom]) -> str:
    """A thing that directly or indirectly rests on itself."""
    carries = {str(a.args[0]): str(a.args[1]) for a in atoms if a.name in _RESTING}
    for start in carries:
        seen, here = [start], carries[start]
        while here in carries and here not in seen:
            seen.append(here)
            here = carries[here]
        if here == start:
            return f"{' on '.join([*seen, start])}: a circle"
    return ""
