"""G1: what can be told from the spec alone, in a millisecond."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from pydantic import ValidationError

from robostack.errors import RobostackError
from robostack.task.check import check
from robostack.task.ground import members
from robostack.task.predicate import AnyPred, Atom, Count, Exists, ForAll, Once, Seq, atoms_of, children, walk
from robostack.task.spec import TaskSpec
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.contradiction import contradiction
from simgen.gates.record import Metric
from simgen.gates.registry import gate

MAX_ENTITIES, MAX_NODES, MAX_DEPTH = 16, 600, 12
MIN_TEXT, MAX_TEXT = 5, 300
REACH_M = 2.0  # nothing on a table is further away
SIZE_M, MASS_KG, TIMESTEP_S = (0.001, 1.5), (1e-4, 50.0), (2e-4, 0.01)
HORIZON_S, HOLD_S, HZ = (1.0, 300.0), (0.0, 10.0), (1.0, 500.0)
SECONDS_PER_SUBGOAL = 1.5  # the fastest skill, a press, takes longer


@gate("G1", limit_s=10.0)
def static(candidate: Candidate) -> dict[str, Metric]:
    """Schema, predicates, limits, ranges, text, budget; every object has a purpose, and nothing contradicts itself."""
    spec = candidate.spec
    _schema(spec)
    nodes = sum(1 for pred in spec.predicates() for _ in walk(pred))
    depth = max(_depth(pred) for pred in spec.predicates())
    metrics: dict[str, Metric] = {"entities": len(spec.entities), "nodes": nodes, "depth": depth}
    _limits(spec, nodes, depth, metrics)
    _ranges(spec)
    _text(spec)
    _predicates(spec, metrics)
    _purpose(spec)
    _budget(spec)
    return metrics


def _schema(spec: TaskSpec) -> None:
    """``model_copy`` does not validate; reading back what would be stored does."""
    try:
        TaskSpec.model_validate_json(json.dumps(spec.model_dump(mode="json", by_alias=True, warnings="none")))
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("root",), "msg": str(error)}
        where = "/".join(str(part) for part in first["loc"]) or "root"
        raise GateFailure(Code.SCHEMA, f"{where}: {first['msg']}") from error


def _predicates(spec: TaskSpec, metrics: dict[str, Metric]) -> None:
    try:
        check(spec)
        problem = ""
    except RobostackError as error:
        problem = str(error)
    try:
        found = contradiction(spec)
    except (RobostackError, LookupError, ValueError):  # of atoms that make no sense
        found = ""
    if found:
        raise GateFailure(Code.CONTRADICTION, found, metrics)
    if problem:
        raise GateFailure(Code.PREDICATE, problem, metrics)


def _depth(pred: AnyPred) -> int:
    return 1 + max((_depth(part) for part in children(pred)), default=0)


def _limits(spec: TaskSpec, nodes: int, depth: int, metrics: dict[str, Metric]) -> None:
    for what, value, most in (
        ("entities", len(spec.entities), MAX_ENTITIES),
        ("predicate nodes", nodes, MAX_NODES),
        ("levels of nesting", depth, MAX_DEPTH),
    ):
        if value > most:
            raise GateFailure(Code.LIMITS, f"{value} {what}, at most {most} are allowed", metrics)


def _ranges(spec: TaskSpec) -> None:
    def within(what: str, value: float, bounds: tuple[float, float]) -> None:
        if not (math.isfinite(value) and bounds[0] <= value <= bounds[1]):
            raise GateFailure(Code.RANGE, f"{what} = {value:g} is outside {bounds[0]:g} to {bounds[1]:g}")

    within("horizon_s", spec.horizon_s, HORIZON_S)
    within("hold.seconds", spec.hold.seconds, HOLD_S)
    within("control_hz", spec.robot.control_hz, HZ)
    within("timestep", spec.physics.timestep, TIMESTEP_S)
    for entity in spec.entities:
        for value in entity.placement.box:
            within(f"placement box of '{entity.id}'", value, (-REACH_M, REACH_M))
        for value in entity.placement.yaw:
            within(f"yaw of '{entity.id}'", value, (-2 * math.pi, 2 * math.pi))
        for value in entity.size or ():
            meshes_factor = entity.size is not None and len(entity.size) == 1
            within(f"size of '{entity.id}'", value, (SIZE_M[0], 10.0 if meshes_factor else SIZE_M[1]))
        if entity.mass is not None:
            within(f"mass of '{entity.id}'", entity.mass, MASS_KG)
    for pred in spec.predicates():
        for atom in atoms_of(pred):
            for value in _numbers(atom):
                within(f"a number of '{atom.name}'", value, (-10.0, 100.0))


def _numbers(atom: Atom) -> Iterator[float]:
    for arg in (*atom.args, *atom.tol.values()):
        for value in arg if isinstance(arg, tuple) else (arg,):
            if isinstance(value, (int, float)):
                yield float(value)


def _text(spec: TaskSpec) -> None:
    for text in (spec.instruction.text, *spec.instruction.paraphrases):
        if not MIN_TEXT <= len(text.strip()) <= MAX_TEXT:
            raise GateFailure(Code.TEXT, f"an instruction of {len(text)} characters; use {MIN_TEXT} to {MAX_TEXT}")
        if not text.isprintable() or " " not in text.strip():
            raise GateFailure(Code.TEXT, f"{text[:40]!r} is not one line of words")


def _purpose(spec: TaskSpec) -> None:
    """Everything that is to be moved occurs in the goal; no subgoal is given twice."""
    named = {name for pred in (spec.goal,) for name in _names(spec, pred)}
    for entity in spec.manipulands():
        if entity.id not in named:
            raise GateFailure(
                Code.UNUSED_OBJECT, f"'{entity.id}' is a manipuland, but the goal does not speak of it: change its role"
            )
    if any(isinstance(node, (Seq, Once)) for node in walk(spec.goal)):
        return  # doing a thing twice may be the task
    seen = set()
    for subgoal in spec.subgoals:
        key = subgoal.model_dump_json(by_alias=True)
        if key in seen:
            raise GateFailure(Code.DUPLICATE_SUBGOAL, f"subgoal {subgoal.skill}{subgoal.args} is given twice")
        seen.add(key)


def _names(spec: TaskSpec, pred: AnyPred) -> Iterator[str]:
    if isinstance(pred, (ForAll, Exists, Count)):
        among = pred.body.among
        yield from members(among, spec.entities)
    if isinstance(pred, Atom):
        for arg in pred.args:
            for name in arg if isinstance(arg, tuple) else (arg,):
                if isinstance(name, str):
                    yield name
    for part in children(pred):
        yield from _names(spec, part)


def _budget(spec: TaskSpec) -> None:
    needed = SECONDS_PER_SUBGOAL * max(1, len(spec.subgoals)) + spec.hold.seconds
    if spec.horizon_s < needed:
        raise GateFailure(
            Code.BUDGET,
            f"{len(spec.subgoals)} subgoals and {spec.hold.seconds:g} s of hold need {needed:g} s, "
            f"horizon_s is {spec.horizon_s:g}",
        )
