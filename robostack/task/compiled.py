"""Predicates as closures that stop as soon as the sign is known: what runs at every control step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from robostack.task.atoms import ATOMS
from robostack.task.choose import bottleneck, tally
from robostack.task.ground import Env, bind, choices, members
from robostack.task.margins import Memory, evaluate, with_memory
from robostack.task.predicate import (
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
    Seq,
    children,
    is_distinct,
)
from robostack.task.world import World

Margin = Callable[[], float]
_SET_COST = 4  # a quantifier counts as this many evaluations of its part


def compile_pred(pred: AnyPred, world: World, memory: Memory | None = None) -> Margin:
    """A fast equivalent of ``margin(pred, world)`` in sign, for finite states.

    Sets are resolved once. Conjunctions run cheapest part first and stop at the first false one, disjunctions at the
    first true one. Negations are pushed down to the leaves, so that a margin of exactly 0 keeps its sign.

    Raises:
        SpecError: the predicate has ``once`` or ``seq`` in it and there is no memory to look them up in.
    """
    return _compile(pred, world, {}, memory, False)


def _compile(pred: AnyPred, world: World, env: Env, memory: Memory | None, negated: bool) -> Margin:
    if isinstance(pred, Atom):
        return _compile_atom(pred, world, env, negated)
    if isinstance(pred, Not):
        return _compile(pred.part, world, env, memory, not negated)
    if isinstance(pred, (And, Or, Implies)):
        signs = (not negated, negated) if isinstance(pred, Implies) else (negated,) * len(pred.parts)
        order = sorted(range(len(pred.parts)), key=lambda i: _cost(pred.parts[i]))
        parts = [_compile(pred.parts[i], world, env, memory, signs[i]) for i in order]
        return _junction(parts, isinstance(pred, And) != negated)
    if isinstance(pred, (Once, Seq)):
        with_memory(memory)
    elif not isinstance(pred, Initially):
        return _compile_set(pred, world, env, memory, negated)
    return _exact(pred, world, env, memory, negated)


def _compile_atom(pred: Atom, world: World, env: Env, negated: bool) -> Margin:
    fn, args, tol = ATOMS[pred.name].fn, bind(pred.args, env), pred.tol
    if negated:
        return lambda: -fn(world, *args, **tol)
    return (lambda: fn(world, *args, **tol)) if tol else (lambda: fn(world, *args))


def _exact(pred: AnyPred, world: World, env: Env, memory: Memory | None, negated: bool) -> Margin:
    sign = -1.0 if negated else 1.0
    return lambda: sign * evaluate(pred, world, env, memory)


def _compile_set(pred: ForAll | Exists | Count, world: World, env: Env, memory: Memory | None, negated: bool) -> Margin:
    if isinstance(pred, ForAll) and is_distinct(pred):
        return _exact(pred, world, env, memory, True) if negated else _compile_distinct(pred, world, env, memory)
    body = pred.body
    envs = [{**env, body.var: name} for name in members(body.among, world.entities.values())]
    if isinstance(pred, Count):
        yes, no = ([_compile(body.pred, world, e, memory, sign) for e in envs] for sign in (False, True))
        return _compile_count(yes, no, pred.body.cmp, pred.body.n, negated)
    return _junction(
        [_compile(body.pred, world, e, memory, negated) for e in envs], isinstance(pred, ForAll) != negated
    )


def _compile_count(yes: list[Margin], no: list[Margin], cmp: str, n: int, negated: bool) -> Margin:
    """``yes`` and ``no`` are the members' margins and their negations; "at most n" counts those that fail."""
    shift = 1 if negated else 0  # not "at least n" is "at most n - 1", and the reverse

    def least() -> float:
        return tally([part() for part in yes], ">=", n + shift)

    def most() -> float:
        return tally([part() for part in no], ">=", len(no) - n + shift)

    if cmp == "==":
        return (lambda: max(least(), most())) if negated else (lambda: min(least(), most()))
    return least if (cmp == ">=") != negated else most


def _compile_distinct(pred: ForAll, world: World, env: Env, memory: Memory | None) -> Margin:
    rows, columns = choices(pred, world.entities.values())
    inner = pred.body.pred
    assert isinstance(inner, Exists), inner
    table = [
        [
            _compile(inner.body.pred, world, {**env, pred.body.var: row, inner.body.var: column}, memory, False)
            for column in columns
        ]
        for row in rows
    ]
    return lambda: bottleneck([[entry() for entry in row] for row in table])[0]


def _junction(parts: Sequence[Margin], conjunction: bool) -> Margin:
    return (lambda: _least(parts)) if conjunction else (lambda: _greatest(parts))


def _least(parts: Sequence[Margin]) -> float:
    least = math.inf
    for part in parts:
        value = part()
        if value < 0.0:
            return value
        least = min(least, value)
    return least


def _greatest(parts: Sequence[Margin]) -> float:
    greatest = -math.inf
    for part in parts:
        value = part()
        if value >= 0.0:
            return value
        greatest = max(greatest, value)
    return greatest


def _cost(pred: AnyPred) -> int:
    if isinstance(pred, Atom):
        return ATOMS[pred.name].cost
    if isinstance(pred, (Initially, Once, Seq)):
        return 0
    return sum(_cost(part) for part in children(pred)) * (_SET_COST if isinstance(pred, (ForAll, Exists, Count)) else 1)
