"""From a goal to what must be brought about: choices of quantifiers and alternatives made, negations pushed inwards."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from robostack.task.ground import instantiate, members
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
)
from robostack.task.spec import TaskSpec
from simgen.gates.sets import Binding


@dataclass(frozen=True)
class Wish:
    """A ground atom that shall be true, or false.

    Attributes:
        choices: entities that could stand in place of the chosen one, itself included; empty when nothing was chosen.
        others: what would do as well, where the goal offers alternatives.
    """

    atom: Atom
    positive: bool = True
    choices: tuple[str, ...] = ()
    others: tuple[Atom, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to bring about in order: ``stages`` pass by, ``final`` stays."""

    stages: tuple[tuple[Wish, ...], ...]
    final: tuple[Wish, ...]


def plan(spec: TaskSpec, goal: AnyPred, rng: np.random.Generator) -> Plan:
    """One way to satisfy a goal; another draw of ``rng`` may give another way."""
    stages, final = _Grounding(spec, rng).true(goal, {}, ())
    return Plan(tuple(tuple(s) for s in stages if s), tuple(final))


Parts = tuple[list[list[Wish]], list[Wish]]


class _Grounding:
    def __init__(self, spec: TaskSpec, rng: np.random.Generator):
        self.spec, self.rng = spec, rng

    def true(self, pred: AnyPred, binding: Binding, choices: tuple[str, ...]) -> Parts:
        """Wishes that make ``pred`` true."""
        match pred:
            case Atom():
                return [], [Wish(instantiate(pred, binding), True, choices)]
            case And():
                return self._all([self.true(p, binding, choices) for p in pred.parts])
            case Or():
                return self._alternative(pred, binding, choices)
            case Not():
                return self.false(pred.part, binding)
            case Implies():
                first, second = pred.parts
                return self.false(first, binding) if self.rng.random() < 0.3 else self.true(second, binding, choices)
            case ForAll():
                return self._forall(pred, binding)
            case Exists():
                among = members(pred.body.among, self.spec.entities)
                return self._chosen(pred, self._one(among), binding, among)
            case Count():
                return self._count(pred, binding)
            case Initially():
                return [], []
            case Once():
                stages, final = self.true(pred.part, binding, choices)
                return [*stages, final], []
            case Seq():
                return self._sequence(pred, binding, choices)

    def false(self, pred: AnyPred, binding: Binding) -> Parts:
        """Wishes that make ``pred`` false."""
        match pred:
            case Atom():
                return [], [Wish(instantiate(pred, binding), False)]
            case And():
                return self.false(self._one(pred.parts), binding)
            case Or():
                return self._all([self.false(p, binding) for p in pred.parts])
            case Not():
                return self.true(pred.part, binding, ())
            case Implies():
                first, second = pred.parts
                return self._all([self.true(first, binding, ()), self.false(second, binding)])
            case ForAll():
                member = self._one(members(pred.body.among, self.spec.entities))
                return self.false(pred.body.pred, {**binding, pred.body.var: member})
            case Exists():
                among = members(pred.body.among, self.spec.entities)
                return self._all([self.false(pred.body.pred, {**binding, pred.body.var: m}) for m in among])
            case Once():
                return self.false(pred.part, binding)
            case _:  # a count, a sequence or the past is not undone on purpose: the sampler sees whether it is
                return [], []

    def _one(self, options):
        return options[int(self.rng.integers(len(options)))]

    def _all(self, parts: list[Parts]) -> Parts:
        stages = [stage for earlier, _ in parts for stage in earlier]
        return stages, [wish for _, final in parts for wish in final]

    def _alternative(self, pred: Or, binding: Binding, choices: tuple[str, ...]) -> Parts:
        chosen = self._one(pred.parts)
        stages, final = self.true(chosen, binding, choices)
        if not isinstance(chosen, Atom):
            return stages, final
        others = tuple(instantiate(p, binding) for p in pred.parts if isinstance(p, Atom) and p is not chosen)
        return stages, [replace(wish, others=others) for wish in final]

    def _forall(self, pred: ForAll, binding: Binding) -> Parts:
        body, among = pred.body, members(pred.body.among, self.spec.entities)
        if isinstance(body.pred, Exists) and body.pred.body.distinct:
            choices = members(body.pred.body.among, self.spec.entities)
            if len(choices) < len(among):
                return [], []
            order = self.rng.permutation(len(choices))[: len(among)]
            return self._all(
                [
                    self._chosen(body.pred, choices[k], {**binding, body.var: member}, ())
                    for member, k in zip(among, order, strict=True)
                ]
            )
        return self._all([self.true(body.pred, {**binding, body.var: member}, ()) for member in among])

    def _chosen(self, pred: Exists, member: str, binding: Binding, choices: tuple[str, ...]) -> Parts:
        return self.true(pred.body.pred, {**binding, pred.body.var: member}, choices)

    def _count(self, pred: Count, binding: Binding) -> Parts:
        body, among = pred.body, members(pred.body.among, self.spec.entities)
        order = [among[k] for k in self.rng.permutation(len(among))]
        chosen, rest = order[: body.n], order[body.n :]
        yes = [self.true(body.pred, {**binding, body.var: m}, among) for m in chosen] if body.cmp != "<=" else []
        no = [self.false(body.pred, {**binding, body.var: m}) for m in rest] if body.cmp != ">=" else []
        return self._all([*yes, *no])

    def _sequence(self, pred: Seq, binding: Binding, choices: tuple[str, ...]) -> Parts:
        parts = [self.true(p, binding, choices) for p in pred.parts]
        stages = list(itertools.chain.from_iterable([*earlier, final] for earlier, final in parts[:-1]))
        earlier, final = parts[-1]
        return [*stages, *earlier], final
