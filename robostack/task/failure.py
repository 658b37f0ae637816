"""Why an episode failed, computed from predicates."""

from __future__ import annotations

import math
from collections.abc import Collection
from enum import StrEnum

from robostack.task.choose import bottleneck
from robostack.task.ground import Env, choices, ground_in, members
from robostack.task.margins import Memory, choice_margins, diverged, evaluate
from robostack.task.monitor import GoalMonitor
from robostack.task.predicate import (
    And,
    AnyPred,
    Atom,
    Count,
    Exists,
    ForAll,
    Implies,
    Initially,
    Once,
    Or,
    Seq,
    atoms_of,
    children,
    is_distinct,
    negation,
    walk,
)
from robostack.task.spec import TaskSpec
from robostack.task.wording import text
from robostack.task.world import World


class FailureCode(StrEnum):
    """Why an episode failed; computed from predicates."""

    NEVER_VIOLATED = "NEVER_VIOLATED"
    DIVERGED = "DIVERGED"
    NOT_REACHED = "NOT_REACHED"
    NOT_GRASPED = "NOT_GRASPED"
    DROPPED = "DROPPED"
    NOT_RELEASED = "NOT_RELEASED"
    NOT_STILL = "NOT_STILL"
    HOLD_UNFINISHED = "HOLD_UNFINISHED"
    GOAL_LOST = "GOAL_LOST"
    GOAL_NOT_MET = "GOAL_NOT_MET"


def failure_code(spec: TaskSpec, world: World, monitor: GoalMonitor) -> str:
    """Why the episode that ``monitor`` watched failed, e.g. ``GOAL_NOT_MET:in(red_cube, bowl)``; empty on success.

    Checked in this order: a violated ``never``; NaN in the state; the goal holds, but not the rest of the hold; it was
    held before; the entities of the goal's worst part were not moved, dropped, or not carried although that is allowed.
    """
    if monitor.success:
        return ""
    if monitor.violated:
        return f"{FailureCode.NEVER_VIOLATED}:{monitor.violation}"
    if diverged(world):
        return str(FailureCode.DIVERGED)
    if monitor.goal_margin() >= 0.0:
        if not monitor.is_released():
            return str(FailureCode.NOT_RELEASED)
        return str(FailureCode.HOLD_UNFINISHED if monitor.is_still() else FailureCode.NOT_STILL)
    worst = _worst(spec.goal, world, monitor.memory, {})
    if not math.isnan(monitor.first_success_s):
        return f"{FailureCode.GOAL_LOST}:{text(worst)}"
    if not any(monitor.moved.values()):
        return str(FailureCode.NOT_REACHED)
    items = _subjects(worst, monitor.raised)
    if any(monitor.dropped[i] for i in items):
        return f"{FailureCode.DROPPED}:{text(worst)}"
    if not _pushes(spec) and items and not any(monitor.raised[i] for i in items):
        return f"{FailureCode.NOT_GRASPED}:{text(worst)}"
    return f"{FailureCode.GOAL_NOT_MET}:{text(worst)}"


def _worst(pred: AnyPred, world: World, memory: Memory, env: Env) -> AnyPred:
    """The part to blame: the least unmet one of a conjunction, the greatest of a disjunction.

    Of a conjunction's unmet parts, those that held at reset come last: a drawer that is to be closed again stays open
    because nothing was put in it.
    """

    def value(part: AnyPred) -> float:
        return evaluate(part, world, env, memory)

    def blame(part: AnyPred) -> tuple[bool, bool, float]:
        margin = value(part)
        return margin >= 0.0, _held_at_reset(part, world, env), margin

    if isinstance(pred, And):
        return _worst(min(pred.parts, key=blame), world, memory, env)
    if isinstance(pred, (Or, Implies)):
        parts = pred.parts if isinstance(pred, Or) else (negation(pred.parts[0]), pred.parts[1])
        open_parts = [part for part in parts if not _is_past(part)]
        return _worst(max(open_parts or parts, key=value), world, memory, env)
    if isinstance(pred, Once):
        return _worst(pred.part, world, memory, env)
    if isinstance(pred, Seq):
        return _worst(pred.parts[memory.stage(pred)], world, memory, env)
    if isinstance(pred, (ForAll, Exists, Count)):
        part, bound = _decisive(pred, world, memory, env)
        return _worst(part, world, memory, bound)
    return ground_in(pred, tuple(world.entities.values()), env)


def _held_at_reset(pred: AnyPred, world: World, env: Env) -> bool:
    remembers = any(isinstance(node, (Once, Seq)) for node in walk(pred))
    return not remembers and evaluate(pred, world.at_reset(), env) >= 0.0


def _is_past(pred: AnyPred) -> bool:
    """Only about the state at reset: nothing could have been done about it."""
    below = children(pred)
    return isinstance(pred, Initially) or (bool(below) and all(_is_past(part) for part in below))


def _decisive(pred: ForAll | Exists | Count, world: World, memory: Memory, env: Env) -> tuple[AnyPred, dict[str, str]]:
    """The member, or the pair of a distinct choice, whose margin is that of the quantifier, and what is said of it."""
    body, entities = pred.body, tuple(world.entities.values())
    if isinstance(pred, ForAll) and is_distinct(pred):
        rows, columns = choices(pred, entities)
        inner = body.pred
        assert isinstance(inner, Exists), inner
        matrix = choice_margins(pred, world, env, memory)
        chosen = bottleneck(matrix)[1]
        row = min(range(len(rows)), key=lambda i: matrix[i][chosen[i]])
        return inner.body.pred, {**env, body.var: rows[row], inner.body.var: columns[chosen[row]]}
    envs = [{**env, body.var: name} for name in members(body.among, entities)]
    ranked = sorted(envs, key=lambda e: -evaluate(body.pred, world, e, memory))
    if not isinstance(pred, Count):
        return body.pred, ranked[-1 if isinstance(pred, ForAll) else 0]
    n, last = pred.body.n, len(ranked) - 1
    short = pred.body.cmp != "<=" and n > 0 and evaluate(body.pred, world, ranked[min(n - 1, last)], memory) < 0.0
    if short:
        return body.pred, ranked[min(n - 1, last)]
    return negation(body.pred), ranked[min(n, last)]


def _subjects(pred: AnyPred, items: Collection[str]) -> list[str]:
    """The manipulands of the first argument that names any: what should have been carried."""
    first = next(atoms_of(pred))
    for arg in first.args:
        named = [n for n in (arg if isinstance(arg, tuple) else (arg,)) if n in items]
        if named:
            return [str(n) for n in named]
    return []


def _pushes(spec: TaskSpec) -> bool:
    """The task forbids lifting, or has objects pushed."""
    return any(isinstance(p, Atom) and p.name == "lifted" for p in spec.never) or any(
        s.skill in ("push_to", "tool_push") for s in spec.subgoals
    )
