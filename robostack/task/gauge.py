"""How far a predicate has come from where it was at reset: 0 there, 1 where it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.ground import cases
from robostack.task.margins import Memory, evaluate
from robostack.task.predicate import And, AnyPred, Atom, Cmp, Implies, Not, Once, Or, Seq, any_of, atom, negation
from robostack.task.world import World

Gauge = Callable[[], float]

ALMOST = 1.0 - 1e-6  # what does not hold is less than 1
UNMET = 0.9  # share of a conjunction's parts; the rest comes when all hold together
FIRST = 0.6  # share of being over the right place, before height and contact count
_SCALE = {"m": 0.08, "rad": 0.5, "m/s": 0.1, "N": 0.5, "1": 1.0, "m or rad": 0.1}  # of margins that are met at reset


def gauge(pred: AnyPred, world: World, memory: Memory) -> Gauge:
    """A function of the current state in [0, 1], which is 1 iff ``pred`` holds; the state now is the reference.

    An atom: clip(1 - m / m0), of its margin m and m0 at reset; first over the right place, then at the right height for
    the atoms that a carried object meets from above. A conjunction: the mean of the parts that do not hold at reset, so
    that lifting an object off the table where it must stand in the end is no loss. A disjunction: its best part.

    ``pred`` is grounded; ``memory``, of a predicate with these very nodes, answers ``initially``, ``once`` and ``seq``.
    """
    if isinstance(pred, And):
        return _conjunction([gauge(part, world, memory) for part in pred.parts])
    if isinstance(pred, (Or, Implies)):
        parts = pred.parts if isinstance(pred, Or) else (negation(pred.parts[0]), pred.parts[1])
        return _disjunction([gauge(part, world, memory) for part in parts])
    if isinstance(pred, Not) and isinstance(pred.part, (And, Or, Implies)):
        return gauge(_pushed(pred.part), world, memory)
    if isinstance(pred, (Once, Seq)):
        return _remembered(pred, world, memory)
    if isinstance(pred, Atom) and pred.name == "contains_count":
        spread = _contents(pred)
        return gauge(spread, world, memory) if spread is not None else _leaf(pred, world, memory)
    if isinstance(pred, Atom) and pred.name in _SIDEWAYS:
        return _from_above(pred, world, memory)
    return _leaf(pred, world, memory)


def _pushed(part: And | Or | Implies) -> AnyPred:
    """The part's negation, with the negation moved inwards by one level."""
    if isinstance(part, Implies):
        return And.model_validate({"and": (part.parts[0], negation(part.parts[1]))})
    parts = tuple(negation(p) for p in part.parts)
    return any_of(*parts) if isinstance(part, And) else And.model_validate({"and": parts})


def _conjunction(parts: list[Gauge]) -> Gauge:
    at_reset = [part() for part in parts]
    open_parts = [i for i, value in enumerate(at_reset) if value < 1.0] or list(range(len(parts)))

    def measure() -> float:
        values = [part() for part in parts]
        if min(values) >= 1.0:
            return 1.0
        return UNMET * sum(values[i] for i in open_parts) / len(open_parts)

    return measure


def _disjunction(parts: list[Gauge]) -> Gauge:
    return lambda: max(part() for part in parts)


def _remembered(pred: Once | Seq, world: World, memory: Memory) -> Gauge:
    if isinstance(pred, Once):
        part = gauge(pred.part, world, memory)
        return lambda: 1.0 if memory.value(pred) >= 0.0 else min(part(), ALMOST)
    parts = [gauge(part, world, memory) for part in pred.parts]

    def measure() -> float:
        stage = memory.stage(pred)
        done = stage + parts[stage]()
        return 1.0 if memory.value(pred) >= 0.0 else min(done / len(parts), ALMOST)

    return measure


def _leaf(pred: AnyPred, world: World, memory: Memory) -> Gauge:
    return _scaled(lambda: evaluate(pred, world, {}, memory), _scale(pred))


def _scale(pred: AnyPred) -> float:
    inner = pred.part if isinstance(pred, Not) else pred
    return _SCALE.get(ATOMS[inner.name].unit, 0.1) if isinstance(inner, Atom) else 0.1


def _scaled(value: Gauge, scale: float) -> Gauge:
    start = value()
    reference = -start if -math.inf < start < 0.0 else scale

    def measure() -> float:
        now = value()
        return 1.0 if now >= 0.0 else min(max(1.0 + now / reference, 0.0), ALMOST)

    return measure


def _from_above(pred: Atom, world: World, memory: Memory) -> Gauge:
    """First ``FIRST`` for coming over the target, unless it starts there; then the rest for height and contact."""
    aside = _SIDEWAYS[pred.name]
    a, b = str(pred.args[0]), str(pred.args[1])
    inset = pred.tol.get("inset", ATOMS[pred.name].tol.get("inset", 0.0))

    def sideways() -> float:
        return aside(world, a, b) - inset

    share = FIRST if sideways() < 0.0 else 0.0
    over, down = _scaled(sideways, _SCALE["m"]), _fixed(pred, world, memory)

    def measure() -> float:
        if sideways() < 0.0:
            return share * over()
        return share + (1.0 - share) * down()

    return measure


def _fixed(pred: Atom, world: World, memory: Memory) -> Gauge:
    """The margin on a fixed scale: at reset it says how far aside the object is, not how high it will be carried."""

    def measure() -> float:
        now = evaluate(pred, world, {}, memory)
        return 1.0 if now >= 0.0 else min(max(1.0 + now / _SCALE["m"], 0.0), ALMOST)

    return measure


def _over_face(world: World, a: str, b: str) -> float:
    x, y, _ = geo.com(world, a)
    return geo.face(world, b).inset(x, y)


def _over_interior(world: World, a: str, b: str) -> float:
    return geo.sideways_in(world, b, geo.com(world, a))


_SIDEWAYS: dict[str, Callable[[World, str, str], float]] = {"on": _over_face, "in": _over_interior}


def _contents(pred: Atom) -> AnyPred | None:
    b, items, cmp, n = pred.args
    assert isinstance(items, tuple), pred
    assert isinstance(n, float), pred
    chosen = next(c for c in get_args(Cmp) if c == cmp)
    return cases([atom("in", item, b) for item in items], chosen, int(n))
