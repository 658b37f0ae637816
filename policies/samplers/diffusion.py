"""Samplers without memory: DDPM (arXiv 2006.11239) and DDIM (arXiv 2010.02502)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from policies.samplers.base import Denoiser, SamplerState
from policies.samplers.noise import LaneNoise
from policies.samplers.schedule import NoiseSchedule, StepCoefs, step
from robostack.errors import ConfigError


@runtime_checkable
class Descending(Denoiser, Protocol):
    """A denoiser that takes a list of steps at once."""

    def descend(self, x: Tensor, steps: Sequence[tuple[int, StepCoefs]], noise: Sequence[Tensor | None]) -> Tensor:
        """Take all steps."""
        ...


def walk(
    denoiser: Denoiser, x: Tensor, steps: Sequence[tuple[int, StepCoefs]], noise: Sequence[Tensor | None]
) -> Tensor:
    """Take sampler steps (k, coefficients) one by one, each with its noise."""
    before = None
    for (k, c), drawn in zip(steps, noise, strict=True):
        x0, eps = denoiser(x, k)
        x, before = step(c, x, x0, eps, drawn, before), x0
    return x


@dataclass(frozen=True)
class Ladder(ABC):
    """Descends ``steps`` levels of the schedule, evenly spaced, and remembers nothing between decisions."""

    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise ConfigError(f"a sampler needs at least 1 step, got {self.steps}")

    def levels(self, K: int) -> list[tuple[int, int]]:
        """Pairs (k, k_next), spaced by K // steps and ending with (0, -1)."""
        if self.steps > K:
            raise ConfigError(f"{self.steps} sampling steps, but the policy was trained with {K}: use at most {K}")
        stride = K // self.steps
        ks = [i * stride for i in reversed(range(self.steps))]
        return list(zip(ks, [*ks[1:], -1], strict=True))

    def evaluations(self, K: int) -> int:
        """Network evaluations per decision."""
        return len(self.levels(K))

    def start(self, lanes: int) -> SamplerState:
        """No memory."""
        del lanes  # Unused.
        return {}

    def reset(self, state: SamplerState, mask: Bool[Tensor, " B"]) -> SamplerState:
        """Nothing to forget."""
        del mask  # Unused.
        return state

    @abstractmethod
    def table(self, schedule: NoiseSchedule) -> list[StepCoefs]:
        """Coefficients of all steps, in the order of ``levels``."""

    def listed(self, schedule: NoiseSchedule) -> list[tuple[int, StepCoefs]]:
        """All steps: level and coefficients."""
        levels = self.levels(len(schedule))
        return [(k, c) for (k, _), c in zip(levels, self.table(schedule), strict=True)]

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Draw a chunk."""
        x, steps = noise.draw(), self.listed(denoiser.schedule)
        drawn = [noise.draw() if c.noise else None for _, c in steps]
        if isinstance(denoiser, Descending):
            return denoiser.descend(x, steps, drawn), state
        return walk(denoiser, x, steps, drawn), state


@dataclass(frozen=True)
class OneStep(Ladder):
    """Every step uses the estimate of its own level only."""

    @abstractmethod
    def coefs(self, schedule: NoiseSchedule, k: int, k_next: int) -> StepCoefs:
        """Coefficients of one step."""

    def table(self, schedule: NoiseSchedule) -> list[StepCoefs]:
        """Coefficients of all steps."""
        return [self.coefs(schedule, k, k_next) for k, k_next in self.levels(len(schedule))]


@dataclass(frozen=True)
class DDPM(OneStep):
    """Ancestral sampling: fresh noise at every step but the last."""

    steps: int = 100

    def coefs(self, schedule: NoiseSchedule, k: int, k_next: int) -> StepCoefs:
        """Coefficients of the posterior."""
        return schedule.ddpm(k, k_next)


@dataclass(frozen=True)
class DDIM(OneStep):
    """Deterministic after the first draw, unless ``eta`` > 0."""

    steps: int = 10
    eta: float = 0.0

    def coefs(self, schedule: NoiseSchedule, k: int, k_next: int) -> StepCoefs:
        """Coefficients of the implicit jump."""
        return schedule.ddim(k, k_next, self.eta)
