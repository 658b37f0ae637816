"""What a quantifier ranges over, and predicates without quantifiers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

from robostack.errors import SpecError
from robostack.task.choose import MAX_CHOICES
from robostack.task.predicate import (
    Among,
    AnyPred,
    Atom,
    Cmp,
    Count,
    Exists,
    ForAll,
    Initially,
    Once,
    Select,
    Seq,
    all_of,
    any_of,
    children,
    is_distinct,
    negation,
)
from robostack.task.spec import Entity, TaskSpec
from robostack.task.world import EntityBinding

MAX_TERMS = 64  # a count or an injective choice with more cases than this keeps its quantifier

Env = Mapping[str, str]  # variable -> entity id
Attributes = Entity | EntityBinding  # what has an id, a role, a card and a color


def members(among: Among, entities: Iterable[Attributes]) -> tuple[str, ...]:
    """Ids of the entities that a set names or selects, in their order; raises SpecError when there are none."""
    if not isinstance(among, Select):
        if not among:
            raise SpecError(
                "a quantifier ranges over an empty list: name entities, or select them by role, card, color"
            )
        return tuple(dict.fromkeys(among))
    wanted = among.model_dump(exclude_none=True)
    entities = tuple(entities)
    chosen = tuple(e.id for e in entities if all(getattr(e, key) == value for key, value in wanted.items()))
    if not chosen:
        have = ", ".join(f"{e.id} (role {e.role}, card {e.card}, color {e.color})" for e in entities)
        asked = " and ".join(f"{key} '{value}'" for key, value in wanted.items())
        raise SpecError(f"no entity has {asked}; entities are {have}")
    return chosen


def choices(pred: ForAll, entities: Iterable[Attributes]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choosers and candidates of a ``forall`` with distinct choices; raises SpecError for sizes that cannot work."""
    inner = pred.body.pred
    assert isinstance(inner, Exists), inner
    entities = tuple(entities)
    rows, columns = members(pred.body.among, entities), members(inner.body.among, entities)
    if len(columns) < len(rows):
        raise SpecError(
            f"'distinct' asks {len(rows)} entities to choose differently among {len(columns)}: {list(columns)}"
        )
    if len(columns) > MAX_CHOICES:
        raise SpecError(f"'distinct' chooses among at most {MAX_CHOICES} entities, not {len(columns)}")
    return rows, columns


def bind(args: tuple, env: Env) -> tuple:
    """Arguments of an atom with variables replaced."""
    return tuple(_bind_one(arg, env) for arg in args)


def _bind_one(arg: str | float | tuple, env: Env) -> str | float | tuple:
    if isinstance(arg, tuple):
        return bind(arg, env)
    return env.get(arg[1:], arg) if isinstance(arg, str) and arg.startswith("$") else arg


def grounded_atoms(
    pred: AnyPred, entities: tuple[Attributes, ...], env: Env | None = None, *, final: bool = False
) -> Iterator[Atom]:
    """Every atom that the predicate can come to evaluate, with entity ids in place of variables.

    ``final`` leaves out what need not hold at the end: ``once``, ``initially``, and all but the last part of ``seq``.
    """
    env = env or {}
    if isinstance(pred, Atom):
        yield instantiate(pred, env)
    elif isinstance(pred, (ForAll, Exists, Count)):
        if isinstance(pred, ForAll) and is_distinct(pred):
            choices(pred, entities)
        for name in members(pred.body.among, entities):
            yield from grounded_atoms(pred.body.pred, entities, {**env, pred.body.var: name}, final=final)
    elif not (final and isinstance(pred, (Once, Initially))):
        parts = children(pred)
        for part in parts[-1:] if final and isinstance(pred, Seq) else parts:
            yield from grounded_atoms(part, entities, env, final=final)


def instantiate(atom: Atom, env: Env) -> Atom:
    """The atom with variables replaced."""
    return atom.model_copy(update={"args": bind(atom.args, env)}) if env else atom


def ground(pred: AnyPred, spec: TaskSpec) -> AnyPred:
    """The same predicate over the spec's entities without quantifiers, as far as that is possible.

    forall -> and, exists -> or; a count or a distinct choice -> or over its at most 64 cases. One with more cases
    stays, with the ids of its set written out. The margins are equal.
    """
    return ground_in(pred, spec.entities, {})


def ground_in(pred: AnyPred, entities: tuple[Attributes, ...], env: Env) -> AnyPred:
    """``ground`` below quantifiers that have bound the variables of ``env``."""
    if isinstance(pred, Atom):
        return instantiate(pred, env)
    if isinstance(pred, ForAll) and is_distinct(pred):
        return _ground_distinct(pred, entities, env)
    if isinstance(pred, (ForAll, Exists, Count)):
        names = members(pred.body.among, entities)
        parts = [ground_in(pred.body.pred, entities, {**env, pred.body.var: name}) for name in names]
        if isinstance(pred, Count):
            spelled = cases(parts, pred.body.cmp, pred.body.n)
            return spelled if spelled is not None else _written_out(pred, names, entities, env)
        return (all_of if isinstance(pred, ForAll) else any_of)(*parts)
    parts = tuple(ground_in(part, entities, env) for part in children(pred))
    return pred.model_copy(update={"part": parts[0]} if hasattr(pred, "part") else {"parts": parts})


def _written_out(pred: ForAll | Exists | Count, names: tuple[str, ...], entities, env: Env) -> AnyPred:
    """The quantifier over explicit ids; its own variable stays, those around it are replaced."""
    inner = pred.body.pred
    if isinstance(inner, Exists) and inner.body.distinct:
        inner = _written_out(inner, members(inner.body.among, entities), entities, env)
    else:
        inner = ground_in(inner, entities, {**env, pred.body.var: f"${pred.body.var}"})
    return pred.model_copy(update={"body": pred.body.model_copy(update={"among": names, "pred": inner})})


def _ground_distinct(pred: ForAll, entities: tuple[Attributes, ...], env: Env) -> AnyPred:
    rows, columns = choices(pred, entities)
    inner = pred.body.pred
    assert isinstance(inner, Exists), inner
    if math.perm(len(columns), len(rows)) > MAX_TERMS:
        return _written_out(pred, rows, entities, env)
    table = {
        (row, column): ground_in(inner.body.pred, entities, {**env, pred.body.var: row, inner.body.var: column})
        for row in rows
        for column in columns
    }
    orders = itertools.permutations(columns, len(rows))
    return any_of(*(all_of(*(table[pair] for pair in zip(rows, order, strict=True))) for order in orders))


def cases(parts: list[AnyPred], cmp: Cmp, n: int) -> AnyPred | None:
    """The count as a disjunction over which members it is true for; None when there are more than 64 cases."""
    if cmp == "==":
        least = cases(parts, ">=", n) if n > 0 else None
        most = cases(parts, "<=", n) if n < len(parts) else None
        if (n > 0 and least is None) or (n < len(parts) and most is None):
            return None
        return all_of(*(side for side in (least, most) if side is not None))
    if cmp == "<=":
        return cases([negation(part) for part in parts], ">=", len(parts) - n)
    if not 0 < n <= len(parts) or math.comb(len(parts), n) > MAX_TERMS:
        return None
    subsets = itertools.combinations(parts, n)
    return any_of(*(all_of(*subset) for subset in subsets))
