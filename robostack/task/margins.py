"""Signed margins of predicates, and what an episode remembers of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from robostack.errors import SpecError
from robostack.task.atoms import ATOMS
from robostack.task.choose import bottleneck, tally
from robostack.task.ground import Env, bind, choices, members
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
    is_distinct,
    walk,
)
from robostack.task.world import World

NOT_YET = -1e-6  # margin of a sequence whose next part is true, but has to be seen later than the part before it
_TOP: Env = {}


def margin(pred: AnyPred, world: World) -> float:
    """Signed margin of a predicate, true iff >= 0, as ``robostack.task.predicate`` defines it.

    In a diverged state it is NaN: neither a predicate nor its negation is true.

    Raises:
        SpecError: the predicate remembers (``once``, ``seq``), which no single state can answer; or it looks at the
            state at reset and there is no snapshot of it.
    """
    return math.nan if diverged(world) else evaluate(pred, world)


def margin_at_start(goal: AnyPred, world: World) -> float:
    """Margin of a goal, which may have memory, as a monitor sees it when it looks for the first time.

    At reset this must be negative: a latch would close at once. A sequence is always false then.
    """
    if diverged(world):
        return math.nan
    memory = Memory((goal,), world)
    memory.reset()
    memory.update()
    return evaluate(goal, world, _TOP, memory)


def diverged(world: World) -> bool:
    """Whether the state has NaN or infinity in it."""
    qpos, qvel = world.data.qpos, world.data.qvel
    return not math.isfinite(qpos.dot(qpos) + qvel.dot(qvel))


class Memory:
    """What one episode remembers of some predicates: margins at reset, latches, and how far sequences have come.

    Parts of ``once`` and ``seq`` are free of memory themselves; ``check`` sees to it.
    """

    def __init__(self, preds: Iterable[AnyPred], world: World):
        self._world, self._preds = world, tuple(preds)
        nodes = [node for pred in self._preds for node in walk(pred)]
        self._looks_back = any(isinstance(node, Initially) for node in nodes)
        self.nodes = tuple(node for node in nodes if isinstance(node, (Once, Seq)))
        self._margins: dict[int, float] = {}
        self._stages: dict[int, int] = {}
        self._at_reset: dict[tuple, float] = {}
        self._recording = False

    def reset(self) -> None:
        """Start an episode; the world's state is the one at reset."""
        self._margins = {id(node): -math.inf for node in self.nodes}
        self._stages = {id(node): 0 for node in self.nodes}
        self._at_reset = {}
        if self._looks_back:
            self._recording = True
            for pred in self._preds:
                evaluate(pred, self._world, _TOP, self)
            self._recording = False

    def update(self) -> None:
        """Look at the state once per control step; at most one part of a sequence is ticked off per step."""
        for node in self.nodes:
            key = id(node)
            if isinstance(node, Once):
                self._margins[key] = max(self._margins[key], evaluate(node.part, self._world, _TOP, self))
                continue
            stage = self._stages[key]
            value = evaluate(node.parts[stage], self._world, _TOP, self)
            if stage < len(node.parts) - 1:
                if value >= 0.0:
                    self._stages[key] = stage + 1
                value = min(value, NOT_YET)
            self._margins[key] = value

    def value(self, node: Once | Seq) -> float:
        """Margin of a remembering node as of the last update; -inf before the first."""
        return self._margins[id(node)]

    def stage(self, node: Seq) -> int:
        """How many parts of a sequence were ticked off."""
        return self._stages[id(node)]

    def at_reset(self, node: Initially, env: Env) -> float:
        """Margin of the part on the state at reset."""
        key = (id(node), *env.items())
        if self._recording:
            self._at_reset[key] = evaluate(node.part, self._world, env, self)
        return self._at_reset[key]


def evaluate(pred: AnyPred, world: World, env: Env = _TOP, memory: Memory | None = None) -> float:
    """``margin`` in a finite state, with variables bound by ``env`` and history from ``memory``."""
    if isinstance(pred, Atom):
        return ATOMS[pred.name].fn(world, *(bind(pred.args, env) if env else pred.args), **pred.tol)
    if isinstance(pred, And):
        return min([evaluate(part, world, env, memory) for part in pred.parts])
    if isinstance(pred, Or):
        return max([evaluate(part, world, env, memory) for part in pred.parts])
    if isinstance(pred, Not):
        return -evaluate(pred.part, world, env, memory)
    if isinstance(pred, Implies):
        return max(-evaluate(pred.parts[0], world, env, memory), evaluate(pred.parts[1], world, env, memory))
    if isinstance(pred, Initially):
        return evaluate(pred.part, world.at_reset(), env) if memory is None else memory.at_reset(pred, env)
    if isinstance(pred, (Once, Seq)):
        return with_memory(memory).value(pred)
    return _quantified(pred, world, env, memory)


def _quantified(pred: ForAll | Exists | Count, world: World, env: Env, memory: Memory | None) -> float:
    if isinstance(pred, ForAll) and is_distinct(pred):
        return bottleneck(choice_margins(pred, world, env, memory))[0]
    body = pred.body
    margins = [
        evaluate(body.pred, world, {**env, body.var: name}, memory)
        for name in members(body.among, world.entities.values())
    ]
    if isinstance(pred, Count):
        return tally(margins, pred.body.cmp, pred.body.n)
    return min(margins) if isinstance(pred, ForAll) else max(margins)


def choice_margins(pred: ForAll, world: World, env: Env = _TOP, memory: Memory | None = None) -> list[list[float]]:
    """Margins of a ``forall`` with distinct choices: a row per chooser, a column per candidate."""
    rows, columns = choices(pred, world.entities.values())
    inner = pred.body.pred
    assert isinstance(inner, Exists), inner
    return [
        [evaluate(inner.body.pred, world, {**env, pred.body.var: r, inner.body.var: c}, memory) for c in columns]
        for r in rows
    ]


def with_memory(memory: Memory | None) -> Memory:
    """The memory; raises SpecError, with the ways out, when there is none."""
    if memory is None:
        raise SpecError(
            "'once' and 'seq' remember an episode, which one state does not tell: ask GoalMonitor.goal_margin(), "
            "or judge memoryless(goal)"
        )
    return memory
