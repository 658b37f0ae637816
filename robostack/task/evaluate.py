"""Truth of predicates and of a whole task over time.

Evaluation is stateless: a margin is a function of the current state and of the snapshot at reset. The only history
is in ``GoalMonitor``: the running hold window, two latches, and flags from which a failed episode gets its code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from enum import StrEnum

from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.check import check, check_bindings
from robostack.task.predicate import And, AnyPred, Atom, Not, atoms_of
from robostack.task.spec import TaskSpec
from robostack.task.world import ROBOT, World

__all__ = ["FailureCode", "GoalMonitor", "check", "check_bindings", "compile_pred", "failure_code", "margin", "text"]

MOVED_M = 0.005  # a manipuland that moved less was not reached
RAISED_M = 0.02  # bottom above its height at reset: carried
FALLING_M = 0.01  # above this, untouched by anything: dropped
EPS_S = 1e-9


def margin(pred: AnyPred, world: World) -> float:
    """Signed margin of a predicate, true iff >= 0: and = min, or = max, not = negation.

    In a diverged state it is NaN: neither a predicate nor its negation is true.
    """
    return math.nan if diverged(world) else _margin(pred, world)


def _margin(pred: AnyPred, world: World) -> float:
    if isinstance(pred, Atom):
        return ATOMS[pred.name].fn(world, *pred.args, **pred.tol)
    if isinstance(pred, Not):
        return -_margin(pred.part, world)
    margins = [_margin(part, world) for part in pred.parts]
    return min(margins) if isinstance(pred, And) else max(margins)


def diverged(world: World) -> bool:
    """Whether the state has NaN or infinity in it."""
    qpos, qvel = world.data.qpos, world.data.qvel
    return not math.isfinite(qpos.dot(qpos) + qvel.dot(qvel))


def text(pred: AnyPred) -> str:
    """Short form for messages: ``in(red_cube, bowl)``."""
    if isinstance(pred, Atom):
        return f"{pred.name}({', '.join(_arg(a) for a in pred.args)})"
    if isinstance(pred, Not):
        return f"not {text(pred.part)}"
    return f"({(' and ' if isinstance(pred, And) else ' or ').join(text(p) for p in pred.parts)})"


def _arg(value: str | float | tuple) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_arg(v) for v in value)}]"
    return value if isinstance(value, str) else f"{value:g}"


def compile_pred(pred: AnyPred, world: World) -> Callable[[], float]:
    """A fast equivalent of ``margin(pred, world)`` in sign.

    Conjunctions run cheapest part first and stop at the first false one, disjunctions at the first true one.
    """
    if isinstance(pred, Atom):
        fn, args, tol = ATOMS[pred.name].fn, pred.args, pred.tol
        return (lambda: fn(world, *args, **tol)) if tol else (lambda: fn(world, *args))
    if isinstance(pred, Not):
        part = compile_pred(pred.part, world)
        return lambda: -part()
    parts = [compile_pred(p, world) for p in sorted(pred.parts, key=_cost)]
    if isinstance(pred, And):
        return lambda: _least(parts)
    return lambda: _greatest(parts)


def _least(parts: list[Callable[[], float]]) -> float:
    least = math.inf
    for part in parts:
        value = part()
        if value < 0.0:
            return value
        least = min(least, value)
    return least


def _greatest(parts: list[Callable[[], float]]) -> float:
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
    return _cost(pred.part) if isinstance(pred, Not) else sum(_cost(p) for p in pred.parts)


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


class GoalMonitor:
    """Watches one episode; call ``update`` once per control step, after the simulator has refreshed its state.

    Attributes:
        holding: the goal, with rest and release, has held for ``hold.seconds`` up to now.
        first_success_s: the first time at which ``holding`` was true [s]; NaN if never.
        violated: a ``never`` predicate was true at some step.
        violation: the first such predicate, as text; empty if none.
        moved, raised, dropped: per manipuland, whether it ever moved, was carried, fell through the air.
    """

    def __init__(self, spec: TaskSpec, world: World):
        self.spec, self.world = spec, world
        self._goal = compile_pred(spec.goal, world)
        self._never = [(compile_pred(p, world), p) for p in spec.never]
        self._items = tuple(e.id for e in spec.manipulands())
        self._codes = frozenset(world.index[i] for i in self._items)
        dofs = [world.entities[i].dof for i in self._items]
        self._dofs = tuple(d for d in dofs if d >= 0)
        self.reset()

    def reset(self) -> None:
        """Forget the episode."""
        self._since_s: float | None = None
        self.holding = False
        self.first_success_s = math.nan
        self.violated, self.violation = False, ""
        self.moved = dict.fromkeys(self._items, False)
        self.raised = dict.fromkeys(self._items, False)
        self.dropped = dict.fromkeys(self._items, False)

    @property
    def success(self) -> bool:
        """Holding now and nothing violated: what counts at the end of an episode."""
        return self.holding and not self.violated

    def update(self, t_s: float) -> None:
        """Advance to time ``t_s`` since reset [s]; a diverged state ends the hold window and judges nothing."""
        if diverged(self.world):
            self._since_s, self.holding = None, False
            return
        self._note_motion()
        if not self.violated:
            for never, pred in self._never:
                if never() >= 0.0:
                    self.violated, self.violation = True, text(pred)
                    break
        if not (self.is_still() and self.is_released() and self._goal() >= 0.0):
            self._since_s, self.holding = None, False
            return
        if self._since_s is None:
            self._since_s = t_s
        self.holding = t_s - self._since_s >= self.spec.hold.seconds - EPS_S
        if self.holding and math.isnan(self.first_success_s):
            self.first_success_s = t_s

    def is_still(self) -> bool:
        """Every manipuland is slower than the hold's bounds now."""
        lin2, ang2 = self.spec.hold.max_lin**2, self.spec.hold.max_ang**2
        qvel = self.world.data.qvel
        for dof in self._dofs:
            a, b, c, d, e, f = qvel[dof : dof + 6].tolist()
            if not (a * a + b * b + c * c <= lin2 and d * d + e * e + f * f <= ang2):
                return False
        return True

    def is_released(self) -> bool:
        """The robot touches no manipuland now, or the task does not ask for it."""
        if not self.spec.hold.released:
            return True
        return not any(
            (p == ROBOT and q in self._codes) or (q == ROBOT and p in self._codes) for p, q in geo.owners(self.world)
        )

    def _note_motion(self) -> None:
        initial = self.world.initial
        if initial is None:
            return
        for item in self._items:
            if not self.moved[item]:
                x, y, z = self.world.data.xpos[self.world.entities[item].body].tolist()
                p, q, r = initial.pos[item].tolist()
                self.moved[item] = (x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2 > MOVED_M**2
                continue
            if self.dropped[item]:
                continue
            height = geo.bottom(self.world, item) - initial.bottom[item]
            if height > RAISED_M:
                self.raised[item] = True
            if self.raised[item] and height > FALLING_M:
                self.dropped[item] = next(geo.contacts(self.world, item), None) is None


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
    if margin(spec.goal, world) >= 0.0:
        if not monitor.is_released():
            return str(FailureCode.NOT_RELEASED)
        return str(FailureCode.HOLD_UNFINISHED if monitor.is_still() else FailureCode.NOT_STILL)
    worst = _worst(spec.goal, world)
    if not math.isnan(monitor.first_success_s):
        return f"{FailureCode.GOAL_LOST}:{text(worst)}"
    if not any(monitor.moved.values()):
        return str(FailureCode.NOT_REACHED)
    items = _subjects(worst, monitor.moved)
    if any(monitor.dropped[i] for i in items):
        return f"{FailureCode.DROPPED}:{text(worst)}"
    if not _pushes(spec) and items and not any(monitor.raised[i] for i in items):
        return f"{FailureCode.NOT_GRASPED}:{text(worst)}"
    return f"{FailureCode.GOAL_NOT_MET}:{text(worst)}"


def _worst(pred: AnyPred, world: World) -> Atom | Not:
    """The part that decides the margin: the least of a conjunction, the greatest of a disjunction."""
    if isinstance(pred, (Atom, Not)):
        return pred
    chosen = (min if isinstance(pred, And) else max)(pred.parts, key=lambda p: _margin(p, world))
    return _worst(chosen, world)


def _subjects(pred: Atom | Not, items: Collection[str]) -> list[str]:
    """The manipulands of the first argument that names any: what should have been carried."""
    first = next(atoms_of(pred))
    for arg in first.args:
        named = [n for n in (arg if isinstance(arg, tuple) else (arg,)) if n in items]
        if named:
            return [str(n) for n in named]
    return []


def _pushes(spec: TaskSpec) -> bool:
    """The task forbids lifting."""
    return any(isinstance(p, Atom) and p.name == "lifted" for p in spec.never)
