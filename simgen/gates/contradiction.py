"""Contradictions that need no physics and that the language's own check leaves open."""

from __future__ import annotations

import itertools

from robostack.task.contradiction import contradiction as excluded
from robostack.task.contradiction import held_at_end
from robostack.task.ground import ground, members
from robostack.task.predicate import And, AnyPred, Atom, Count, Exists, ForAll, is_distinct, memoryless
from robostack.task.spec import TaskSpec
from robostack.task.wording import text
from simgen.gates.sets import canonical

_RESTING = ("on", "in")


def contradiction(spec: TaskSpec) -> str:
    """Why no state can satisfy the goal, or an empty string when nothing speaks against it.

    Raises:
        SpecError: a set of the goal is empty.
        UnknownName: an atom does not exist.
    """
    if count := _impossible_count(spec, spec.goal):
        return count
    goal = ground(spec.goal, spec)
    if found := excluded(goal):
        return f"{found} exclude each other"
    parts = _conjuncts(memoryless(goal))
    if held := held_at_end(spec, memoryless(goal)):
        return f"{held}, yet hold.released asks for empty hands"
    forms = {canonical(spec, p) for p in parts}
    for never in spec.never:
        if canonical(spec, ground(never, spec)) in forms:
            return f"the goal asks for {text(never)}, which must never be"
    atoms = [p for p in parts if isinstance(p, Atom) and p.name in (*_RESTING, "lifted")]
    for a, b in itertools.combinations(atoms, 2):
        if a.args[0] == b.args[0] and a.args != b.args and _two_places(spec, a, b, atoms):
            return f"{text(a)} and {text(b)} exclude each other"
    return _circle(atoms)


def _conjuncts(pred: AnyPred) -> tuple[AnyPred, ...]:
    return tuple(p for part in pred.parts for p in _conjuncts(part)) if isinstance(pred, And) else (pred,)


def _impossible_count(spec: TaskSpec, pred: AnyPred) -> str:
    """A count of more members than there are, or a distinct choice with more choosers than choices."""
    if isinstance(pred, And):
        return next((found for part in pred.parts if (found := _impossible_count(spec, part))), "")
    if isinstance(pred, Count) and pred.body.cmp != "<=":
        there = len(members(pred.body.among, spec.entities))
        if pred.body.n > there:
            return f"the goal counts {pred.body.n} of {there} entities"
    if isinstance(pred, ForAll) and is_distinct(pred):
        assert isinstance(pred.body.pred, Exists), pred
        choosers = members(pred.body.among, spec.entities)
        choices = members(pred.body.pred.body.among, spec.entities)
        if len(choosers) > len(choices):
            return f"{len(choosers)} entities cannot each have another one of {len(choices)}"
    return ""


def _two_places(spec: TaskSpec, a: Atom, b: Atom, atoms: list[Atom]) -> bool:
    """One thing in two containers, on two zones, or in the air and on something."""
    names = {a.name, b.name}
    if names == {"in"}:
        return not any(_nested(x, y, atoms) for x, y in ((a.args[1], b.args[1]), (b.args[1], a.args[1])))
    if names == {"on"}:
        return all(_role(spec, str(x.args[1])) == "zone" for x in (a, b))
    return "lifted" in names and len(names) == 2


def _nested(inner, outer, atoms: list[Atom]) -> bool:
    """The goal puts one container into the other."""
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
