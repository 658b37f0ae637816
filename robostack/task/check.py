"""Checks of a TaskSpec against the table of atoms, and of a compiled World against the spec."""

from __future__ import annotations

import math
from typing import Any

from robostack.errors import SpecError, UnknownName
from robostack.task.atoms import ATOMS, AtomRecord
from robostack.task.predicate import Atom, atoms_of
from robostack.task.spec import TaskSpec
from robostack.task.world import World

_EXPECTED = {
    "entity": "an entity id",
    "support": "an entity id or 'table'",
    "entities": "a list of two or more different entity ids",
    "number": "a finite number >= 0",
    "pose": "seven finite numbers: x, y, z and a unit quaternion w, x, y, z",
    "direction": "two finite numbers (dx, dy), not both 0",
}


def check(spec: TaskSpec) -> None:
    """Static check: every atom exists, with the right arguments and tolerances; raises SpecError.

    Raises:
        SpecError: names the first wrong atom, what is expected, and the closest existing names.
    """
    ids = frozenset(entity.id for entity in spec.entities)
    for where, atom in _located_atoms(spec):
        try:
            record = ATOMS[atom.name]
        except UnknownName as error:
            raise SpecError(f"task '{spec.name}', {where}: {error}") from error
        problem = _problem(record, atom, ids)
        if problem:
            raise SpecError(f"task '{spec.name}', {where}: '{atom.name}' {problem}")
    for number, subgoal in enumerate(spec.subgoals):
        unknown = [a for a in subgoal.args if isinstance(a, str) and a not in ids and a != "table"]
        if unknown:
            raise SpecError(f"task '{spec.name}', subgoals/{number} refers to {unknown}; entities are {sorted(ids)}")


def _located_atoms(spec: TaskSpec):
    for where, pred in (
        ("goal", spec.goal),
        *((f"never/{i}", p) for i, p in enumerate(spec.never)),
        *((f"subgoals/{i}", s.goal) for i, s in enumerate(spec.subgoals)),
    ):
        for atom in atoms_of(pred):
            yield where, atom


def _problem(record: AtomRecord, atom: Atom, ids: frozenset[str]) -> str:
    if len(atom.args) != len(record.kinds):
        return f"takes {len(record.kinds)} arguments ({', '.join(record.kinds)}), not {len(atom.args)}"
    for index, (kind, value) in enumerate(zip(record.kinds, atom.args, strict=True)):
        if not _fits(kind, value, ids):
            return f"needs {_EXPECTED[kind]} as argument {index + 1}, not {value!r}; entities are {sorted(ids)}"
    named = [a for a in atom.args if isinstance(a, str)]
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
    if kind == "number":
        return isinstance(value, float) and math.isfinite(value) and value >= 0.0
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
        if record.snapshot and world.initial is None:
            raise SpecError(f"task '{spec.name}', {where}: '{atom.name}' needs world.initial: take it after reset")


_NEEDS = {"surface": "a support face", "interior": "a hollow interior", "geoms": "collision geoms"}


def _has(world: World, name: str, need: str) -> bool:
    if name == "table":
        return need != "geoms" or bool(world.table_geoms)
    binding = world.entities[name]
    return bool(binding.geoms) if need == "geoms" else getattr(binding, need) is not None
