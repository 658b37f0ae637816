"""Where the next demonstrations help most: on what the student solves sometimes, and on what was tried little.

More data for the weakest skill is the obvious rule and a bad one: it starves on tasks that cannot be learnt. Weights of
``frontier`` are greatest at a success of one half, never vanish, and count what was spent already::

    w = 0.1 + 4 p (1 - p) + 0.5 / (1 + n / 50)

A tenth of every budget stays uniform, and ``uniform`` is the control arm to compare with (``simgen.curriculum.toy``
measures both on a simulated student).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError
from robostack.evaluation.stats import binomial_cdf
from simgen.curriculum.report import Row

Rule = Literal["frontier", "uniform"]
Action = Literal["MORE_SEEDS", "WIDEN", "SIMPLIFY", "COMPOSE", "NEW_INSTANCE", "PARAPHRASE", "COUNTERFACTUAL", "RETIRE"]

UNIFORM_SHARE = 0.1
_EMA = 0.5
_WEAK, _CONFIDENCE = 0.6, 0.9
_SOLVED, _ENOUGH = 0.95, 20
_STUCK_DEMOS, _STUCK_RATE = 300, 0.05
_STRONG = 0.8  # two families at least this good are worth composing
_CONFUSED = ("WRONG_OBJECT", "WRONG_TARGET")


@dataclass(frozen=True)
class Node:
    """What is believed of the student on one task.

    Attributes:
        n, k: episodes and successes, older evaluations counting half as much each time.
        spent: demonstrations of the task in the student's training data.
        failures: failure code -> episodes, of the last evaluation.
    """

    task_id: str
    family: str
    path: str
    n: float
    k: float
    spent: int
    failures: dict[str, int]

    @property
    def p(self) -> float:
        """Mean of the posterior Beta(1 + k, 1 + n - k)."""
        return (1 + self.k) / (2 + self.n)

    @property
    def weak(self) -> bool:
        """Success is below 0.6 with probability above 0.9 (Beta posterior)."""
        return beta_cdf(_WEAK, 1 + self.k, 1 + self.n - self.k) > _CONFIDENCE

    @property
    def stuck(self) -> bool:
        """Not learning: many demonstrations, hardly any success; the task or the expert needs a look, not more data."""
        return bool(is_stuck(*self._arrays, np.array(float(self.spent))))

    @property
    def solved(self) -> bool:
        """Success in at least 95 % of at least 20 episodes."""
        return bool(is_solved(*self._arrays))

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.n), np.array(self.k)


@dataclass(frozen=True)
class Step:
    """What to do about one task.

    Attributes:
        demos: demonstrations to collect.
        why: one line for a person.
        other: second task of a composition.
    """

    node: Node
    demos: int
    action: Action
    why: str
    other: str = ""


@dataclass(frozen=True)
class Plan:
    """How a budget is spent; the demonstrations of the steps add up to ``budget``."""

    rule: Rule
    budget: int
    steps: tuple[Step, ...]
    proposals: tuple[Step, ...]


def nodes(rows: Iterable[Row]) -> tuple[Node, ...]:
    """One node per task from evaluations in the order in which they were made, sorted by task."""
    found: dict[str, Node] = {}
    for row in rows:
        old = found.get(row.task_id)
        n, k = (float(row.n), float(row.k)) if old is None else (_ema(old.n, row.n), _ema(old.k, row.k))
        spent = max(row.trained_on, old.spent if old else 0)
        family, path = row.family or (old.family if old else ""), row.path or (old.path if old else "")
        found[row.task_id] = Node(row.task_id, family, path, n, k, spent, dict(row.failures))
    return tuple(found[task_id] for task_id in sorted(found))


def weights(p: Float[np.ndarray, "*S N"], spent: Float[np.ndarray, "*S N"]) -> Float[np.ndarray, "*S N"]:
    """The frontier rule for posterior means ``p`` and demonstrations ``spent`` so far."""
    return 0.1 + 4 * p * (1 - p) + 0.5 / (1 + spent / 50)


def shares(
    n: Float[np.ndarray, "*S N"], k: Float[np.ndarray, "*S N"], spent: Float[np.ndarray, "*S N"], rule: Rule
) -> Float[np.ndarray, "*S N"]:
    """Shares of the budget among N tasks, with sum 1; leading axes are independent students.

    ``frontier`` gives nothing to tasks on which the student does not learn, and to those that it solves only their part
    of the uniform tenth, against forgetting; where that leaves no other task, its weights decide alone.

    Args:
        n: episodes.
        k: successes among them.
        spent: demonstrations so far.
        rule: which one.
    """
    even = np.full_like(spent, 1 / spent.shape[-1])
    if rule == "uniform":
        return even
    p = (1 + k) / (2 + n)
    chosen = weights(p, spent)
    mixed = (1 - UNIFORM_SHARE) * chosen / chosen.sum(axis=-1, keepdims=True) + UNIFORM_SHARE * even
    stuck, solved = is_stuck(n, k, spent), is_solved(n, k)
    rest = ~(stuck | solved)
    fixed = np.where(solved & ~stuck, UNIFORM_SHARE * even, 0.0)
    weight = np.where(rest, mixed, 0.0)
    total = weight.sum(axis=-1, keepdims=True)
    left = 1 - fixed.sum(axis=-1, keepdims=True)
    scaled = np.divide(left * weight, total, out=np.zeros_like(weight), where=total > 0)
    return np.where(rest.any(axis=-1, keepdims=True), fixed + scaled, mixed)


def is_stuck(n: np.ndarray, k: np.ndarray, spent: np.ndarray) -> np.ndarray:
    """Not learning: many demonstrations, hardly any success."""
    return (spent >= _STUCK_DEMOS) & ((1 + k) / (2 + n) < _STUCK_RATE)


def is_solved(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """At least 95 % of at least 20 episodes."""
    return (k >= _SOLVED * n) & (n >= _ENOUGH)


def plan_demos(found: Sequence[Node], budget: int, rule: Rule = "frontier") -> Plan:
    """Spend ``budget`` demonstrations on the tasks.

    Tasks on which the student does not learn, or that it solves, come with a proposal of how to change them instead.

    Raises:
        ConfigError: no task, or a budget below 1.
    """
    if not found or budget < 1:
        raise ConfigError(f"a plan needs tasks and a budget of at least 1, not {len(found)} tasks and budget={budget}")
    n, k, spent = (np.array([float(getattr(node, name)) for node in found]) for name in ("n", "k", "spent"))
    share = shares(n, k, spent, rule)
    counts = apportion(share, budget)
    steps = tuple(_step(node, count) for node, count in zip(found, counts, strict=True))
    return Plan(rule, budget, steps, tuple(_proposals(found)))


def apportion(share: Float[np.ndarray, " N"], budget: int) -> list[int]:
    """Whole numbers with sum ``budget``, nearest to the shares: largest remainders, the first of equals."""
    exact = share * budget
    counts = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: budget - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def _step(node: Node, demos: int) -> Step:
    rate = f"{node.k:.0f} of {node.n:.0f} episodes"
    if node.stuck:
        return Step(node, demos, "SIMPLIFY", f"NOT_LEARNING: {rate} after {node.spent} demonstrations")
    if node.solved:
        return Step(node, demos, "WIDEN", f"solved ({rate}): a few against forgetting, wider scenes for the rest")
    weak = ", weak" if node.weak else ""
    return Step(node, demos, "MORE_SEEDS", f"{rate}{weak}")


def _proposals(found: Sequence[Node]) -> Iterable[Step]:
    """Changes to the tasks themselves; each resulting task has to pass the gates."""
    for node in found:
        confused = sum(node.failures.get(code, 0) for code in _CONFUSED)
        if node.stuck:
            yield Step(node, 0, "SIMPLIFY", "not learning: narrow its start region, or look at expert and observation")
        elif confused > 0.3 * max(1.0, node.n):
            yield Step(node, 0, "COUNTERFACTUAL", f"{confused} episodes moved the wrong object or to the wrong place")
        elif node.solved:
            yield Step(node, 0, "NEW_INSTANCE", "solved: vary sizes and colours")
    strong = [node for node in found if node.p >= _STRONG]
    for a, b in zip(strong, strong[1:], strict=False):
        if a.family != b.family:
            yield Step(a, 0, "COMPOSE", f"both are solved mostly: {a.family}, then {b.family}", b.task_id)


def _ema(old: float, new: float) -> float:
    return (1 - _EMA) * old + _EMA * new


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(X < x) for X ~ Beta(a, b): the binomial tail for whole a and b, and linear in between."""
    low_a, low_b = math.floor(a), math.floor(b)
    total = 0.0
    for i, weight_a in ((low_a, 1 - (a - low_a)), (low_a + 1, a - low_a)):
        for j, weight_b in ((low_b, 1 - (b - low_b)), (low_b + 1, b - low_b)):
            if weight_a * weight_b:
                total += weight_a * weight_b * (1 - binomial_cdf(i - 1, i + j - 1, x))
    return total
