"""Checks of a TaskSpec against the table of atoms, and of a compiled World against the spec."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from robostack.errors import SpecError, UnknownName
from robostack.task.atoms import ATOMS, AtomRecord
from robostack.task.contradiction import contradiction, held_at_end
from robostack.task.ground import ground, grounded_atoms, members
from robostack.task.margins import margin
from robostack.task.predicate import (
    COMPARISONS,
    And,
    AnyPred,
    Atom,
    Count,
    Exists,
    ForAll,
    Once,
    Or,
    Seq,
    children,
    memoryless,
    remembers,
    walk,
)
from robostack.task.spec import Subgoal, TaskSpec
from robostack.task.world import World

_JOINT_SKILLS = ("open", "close", "press", "turn")  # their second argument is the name of a joint

_EXPECTED = {
    "entity": "an entity id",
    "support": "an entity id or 'table'",
    "entities": "a list of two or more different entity ids",
    "number": "a finite number >= 0",
    "count": "a whole number >= 0",
    "fraction": "a fraction of the joint's range, 0 (closed) to 1 (open),",
    "joint": "the name of a joint",
    "comparison": ">=, <= or ==",
    "pose": "seven finite numbers: x, y, z and a unit quaternion w, x, y, z",
    "direction": "two finite numbers (dx, dy), not both 0",
}


def check(spec: TaskSpec) -> None:
    """Static check of every predicate of the task, and of the references of its subgoals.

    Atoms exist and have the right arguments and tolerances, with every member of a set in place of a variable; sets are
    not empty; ``once`` and ``seq`` stand only where they mean something; nothing in a goal excludes another part.

    Raises:
        SpecError: names the first wrong part, what is expected, and the closest existing names.
    """
    for where, pred in _located(spec):
        try:
            problem = _misplaced(pred, where) or _atoms_problem(pred, spec) or _sets_problem(pred, spec)
            if not problem and (found := contradiction(ground(pred, spec))):
                problem = f"contradiction: {found} exclude each other"
        except (SpecError, UnknownName) as error:
            raise SpecError(f"task '{spec.name}', {where}: {error}") from error
        if problem:
            raise SpecError(f"task '{spec.name}', {where}: {problem}")
    if held := held_at_end(spec, memoryless(ground(spec.goal, spec))):
        raise SpecError(
            f"task '{spec.name}', goal: contradiction: {held}, yet hold.released asks for empty hands; "
            "set hold.released to false"
        )
    ids = frozenset(entity.id for entity in spec.entities)
    for number, subgoal in enumerate(spec.subgoals):
        _check_subgoal(spec, number, subgoal, ids)


def _check_subgoal(spec: TaskSpec, number: int, subgoal: Subgoal, ids: frozenset[str]) -> None:
    args = subgoal.args[:1] if subgoal.skill in _JOINT_SKILLS else subgoal.args
    unknown = [a for a in args if isinstance(a, str) and a not in ids and a != "table"]
    if unknown:
        raise SpecError(f"task '{spec.name}', subgoals/{number} refers to {unknown}; entities are {sorted(ids)}")


def _located(spec: TaskSpec) -> Iterator[tuple[str, AnyPred]]:
    yield from ((f"init/{i}", p) for i, p in enumerate(spec.init))
    yield "goal", spec.goal
    yield from ((f"never/{i}", p) for i, p in enumerate(spec.never))
    yield from ((f"subgoals/{i}", s.goal) for i, s in enumerate(spec.subgoals))


def _located_atoms(spec: TaskSpec) -> Iterator[tuple[str, Atom]]:
    for where, pred in _located(spec):
        for atom in grounded_atoms(pred, spec.entities):
            yield where, atom


def _misplaced(pred: AnyPred, where: str) -> str:
    """A remembering or distinct node where it has no meaning."""
    if where != "goal" and remembers(pred):
        return "'once' and 'seq' belong to the goal only: init, never and subgoals are judged on one state"
    return _misplaced_memory(pred, "") or _misplaced_distinct(pred)


def _misplaced_memory(pred: AnyPred, inside: str) -> str:
    if isinstance(pred, (Once, Seq)):
        if inside:
            return f"'{type(pred).__name__.lower()}' cannot stand inside '{inside}': only 'and', 'or' may be around it"
        inside = type(pred).__name__.lower()
    elif not isinstance(pred, (And, Or)):
        inside = type(pred).__name__.lower()
    return next(filter(None, (_misplaced_memory(part, inside) for part in children(pred))), "")


def _misplaced_distinct(pred: AnyPred) -> str:
    allowed = {id(node.body.pred) for node in walk(pred) if isinstance(node, ForAll)}
    if any(isinstance(n, Exists) and n.body.distinct and id(n) not in allowed for n in walk(pred)):
        return "'distinct' compares the choices of a 'forall': put the 'exists' right below one"
    return ""


def _atoms_problem(pred: AnyPred, spec: TaskSpec) -> str:
    ids = frozenset(entity.id for entity in spec.entities)
    for atom in grounded_atoms(pred, spec.entities):
        problem = _problem(ATOMS[atom.name], atom, ids)
        if problem:
            return f"'{atom.name}' {problem}"
        if atom.name == "contains_count":
            _, items, cmp, n = atom.args
            problem = _tally_problem(str(cmp), int(n), len(items))  # pyright: ignore[reportArgumentType]  # just checked
            if problem:
                return f"'contains_count' {problem}"
    return ""


def _sets_problem(pred: AnyPred, spec: TaskSpec) -> str:
    counts = (node for node in walk(pred) if isinstance(node, Count))
    sizes = ((c.body, len(members(c.body.among, spec.entities))) for c in counts)
    return next(filter(None, (f"'count' {p}" for b, size in sizes if (p := _tally_problem(b.cmp, b.n, size)))), "")


def _tally_problem(cmp: str, n: int, size: int) -> str:
    if cmp in (">=", "==") and n > size:
        return f"asks for {n} of {size}: that can never hold"
    if (cmp == ">=" and n == 0) or (cmp == "<=" and n >= size):
        return f"asks for {cmp} {n} of {size}: that always holds"
    return ""


def _problem(record: AtomRecord, atom: Atom, ids: frozenset[str]) -> str:
    if len(atom.args) != len(record.kinds):
        return f"takes {len(record.kinds)} arguments ({', '.join(record.kinds)}), not {len(atom.args)}"
    for index, (kind, value) in enumerate(zip(record.kinds, atom.args, strict=True)):
        if not _fits(kind, value, ids):
            return f"needs {_EXPECTED[kind]} as argument {index + 1}, not {value!r}; entities are {sorted(ids)}"
    named = [a for k, a in zip(record.kinds, atom.args, strict=True) if k in ("entity", "support")]
    if len(set(named)) != len(named):
        return f"relates '{named[0]}' to itself"
    for name, value in atom.tol.items():
        if name not in record.tol:
            return f"has no tolerance '{name}'; available: {', '.join(sorted(record.tol)) or 'none'}"
        if not (math.isfinite(value) and value >= 0.0):
            return f"needs a finite tolerance '{name}' >= 0, not {value}"
    return ""


def _fits(kind: str, value: Any, ids: frozenset[str]) -> bool:
    if kind in ("entity", "support"):
        return isinstance(value, str) and (value in ids or (kind == "support" and value == "table"))
    if kind == "joint":
        return isinstance(value, str) and value not in COMPARISONS and not value.startswith("$")
    if kind == "comparison":
        return value in COMPARISONS
    if kind in ("number", "count", "fraction"):
        if not (isinstance(value, float) and math.isfinite(value) and value >= 0.0):
            return False
        return value <= 1.0 if kind == "fraction" else kind == "number" or value == int(value)
    if not isinstance(value, tuple):
        return False
    if kind == "entities":
        return len(value) >= 2 and len(set(value)) == len(value) and set(value) <= ids
    if not all(isinstance(v, float) and math.isfinite(v) for v in value):
        return False
    if kind == "direction":
        return len(value) == 2 and math.hypot(*value) > 1e-9
    return len(value) == 7 and abs(math.hypot(*value[3:]) - 1.0) < 1e-3


def check_bindings(spec: TaskSpec, world: World) -> None:
    """Check that the compiled scene has what the predicates need: faces, interiors, collision geoms, free joints.

    Raises:
        SpecError: names the first entity that lacks something, and the card it comes from.
    """
    for entity in spec.entities:
        if entity.id not in world.entities:
            raise SpecError(f"entity '{entity.id}' is not in the scene; it has {sorted(world.entities)}")
        if entity.role == "manipuland" and world.entities[entity.id].dof < 0:
            raise SpecError(f"entity '{entity.id}' is to be moved but is fixed to the table: card '{entity.card}'")
    for where, atom in _located_atoms(spec):
        record = ATOMS[atom.name]
        for index, need in record.needs:
            value = atom.args[index]
            for name in value if isinstance(value, tuple) else (value,):
                if isinstance(name, str) and not _has(world, name, need):
                    card = world.entities[name].card
                    able = sorted(e.id for e in spec.entities if _has(world, e.id, need))
                    raise SpecError(
                        f"task '{spec.name}', {where}: '{atom.name}' needs {_NEEDS[need]}, which '{name}' (card "
                        f"'{card}') lacks; entities that have it: {able}"
                    )
        if atom.name == "joint":
            _check_joint(spec, where, str(atom.args[0]), str(atom.args[1]), world)
        if record.snapshot and world.initial is None:
            raise SpecError(f"task '{spec.name}', {where}: '{atom.name}' needs world.initial: take it after reset")


def _check_joint(spec: TaskSpec, where: str, entity: str, joint: str, world: World) -> None:
    joints = world.entities[entity].joints
    if joint not in joints:
        raise SpecError(f"task '{spec.name}', {where}: '{entity}' has no joint '{joint}'; it has {sorted(joints)}")


def init_violation(spec: TaskSpec, world: World) -> AnyPred | None:
    """The first predicate of ``spec.init`` that the state does not satisfy, or None."""
    return next((pred for pred in spec.init if not margin(pred, world) >= 0.0), None)


_NEEDS = {
    "surface": "a support face",
    "interior": "a hollow interior",
    "geoms": "collision geoms",
    "joints": "a joint",
}


def _has(world: World, name: str, need: str) -> bool:
    if name == "table":
        return bool(world.table_geoms) if need == "geoms" else need != "joints"
    binding = world.entities[name]
    return bool(getattr(binding, need)) if need in ("geoms", "joints") else getattr(binding, need) is not None
