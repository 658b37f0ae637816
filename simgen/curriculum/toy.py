"""A simulated student, to compare rules of allocation before any network is trained.

A skill's success grows with its demonstrations from a base rate to a ceiling, exponentially or in an S; some ceilings
are next to nothing; every second skill learns slowly until another one is mastered. The rules see 20 noisy rollouts per
skill and round. It is a model of our ignorance, not of a network: it tells which rules are risky, not how much they
gain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from simgen.curriculum.allocate import Rule as Shipped
from simgen.curriculum.allocate import shares

SKILLS, PER_ROUND, ROLLOUTS = 40, 200, 20
_CEILINGS = (0.6, 0.8, 0.95, 0.98, 0.98)
_UNLEARNABLE = 0.05
_EMA = 0.5

Rule = Shipped | Literal["weakest"]


@dataclass(frozen=True)
class Setting:
    """One kind of student.

    Attributes:
        curve: how success saturates.
        unlearnable: whether one ceiling in six is 0.05.
        demos: budget over all rounds.
    """

    curve: Literal["exp", "s"]
    unlearnable: bool
    demos: int


SETTINGS = tuple(
    Setting(curve, unlearnable, demos)
    for curve in ("exp", "s")
    for unlearnable in (True, False)
    for demos in (1500, 4000, 12000)
)


@dataclass(frozen=True)
class Comparison:
    """Final mean success of a rule minus that of uniform allocation, over paired students.

    Attributes:
        gain: mean difference of the rates.
        half: half width of its 95 % interval, 1.96 standard errors.
    """

    setting: Setting
    gain: float
    half: float

    @property
    def worse(self) -> bool:
        """Significantly worse than uniform."""
        return self.gain + self.half < 0


def compare(setting: Setting, rule: Rule, students: int, seed: int = 0) -> Comparison:
    """Paired comparison of a rule with uniform allocation on the same students."""
    gains = final_success(setting, rule, students, seed) - final_success(setting, "uniform", students, seed)
    return Comparison(setting, float(gains.mean()), 1.96 * float(gains.std(ddof=1)) / math.sqrt(students))


def final_success(setting: Setting, rule: Rule, students: int, seed: int = 0) -> Float[np.ndarray, " S"]:
    """Mean true success over the skills of each student when the budget is spent."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    group = _Students(setting, students, rng)
    spent = np.zeros((students, SKILLS))
    estimate = np.zeros((students, SKILLS))
    for index in range(math.ceil(setting.demos / PER_ROUND)):
        k = rng.binomial(ROLLOUTS, group.success(spent)).astype(float)
        estimate = k if index == 0 else (1 - _EMA) * estimate + _EMA * k
        budget = min(PER_ROUND, setting.demos - index * PER_ROUND)
        spent = spent + budget * _shares(rule, estimate, spent)
    return group.success(spent).mean(axis=1)


def _shares(rule: Rule, k: np.ndarray, spent: np.ndarray) -> np.ndarray:
    if rule == "weakest":
        weight = (1 - k / ROLLOUTS) ** 2 + 1e-9
        return weight / weight.sum(axis=-1, keepdims=True)
    return shares(np.full_like(k, ROLLOUTS), k, spent, rule)


class _Students:
    """Learning curves of a group, (S, SKILLS) each."""

    def __init__(self, setting: Setting, students: int, rng: np.random.Generator):
        shape = (students, SKILLS)
        ceilings = np.array(((_UNLEARNABLE,) if setting.unlearnable else ()) + _CEILINGS)
        self._curve = setting.curve
        self._half = np.exp(rng.uniform(math.log(15), math.log(400), shape))
        self._ceiling = rng.choice(ceilings, shape)
        self._base = np.minimum(rng.uniform(0, 0.3, shape), self._ceiling)
        needs = rng.random(shape) < 0.5
        earlier = np.floor(rng.random(shape) * np.arange(SKILLS)).astype(int)
        self._needed = np.where(needs & (np.arange(SKILLS) > 0), earlier, -1)

    def success(self, spent: np.ndarray) -> np.ndarray:
        """True success after ``spent`` demonstrations per skill."""
        out = np.zeros_like(spent)
        rows = np.arange(len(spent))
        for skill in range(SKILLS):
            needed = self._needed[:, skill]
            effect = np.where(needed >= 0, 0.15 + 0.85 * out[rows, needed], 1.0)
            x = spent[:, skill] * effect / self._half[:, skill]
            growth = 1 - np.exp(-x) if self._curve == "exp" else x**3 / (1 + x**3)
            base = self._base[:, skill]
            out[:, skill] = base + (self._ceiling[:, skill] - base) * growth
        return out
