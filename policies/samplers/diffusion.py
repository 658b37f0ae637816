"""Samplers without memory: DDPM (arXiv 2006.11239) and DDIM (arXiv 2010.02502)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from policies.samplers.base import Denoiser, SamplerState
from policies.samplers.noise import LaneNoise
from policies.samplers.schedule import NoiseSchedule, StepCoefs, step
from robostack.errors import ConfigError


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
    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Draw a chunk."""


@dataclass(frozen=True)
class OneStep(Ladder):
    """Every step uses the estimate of its own level only."""

    @abstractmethod
    def coefs(self, schedule: NoiseSchedule, k: int, k_next: int) -> StepCoefs:
        """Coefficients of one step."""

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Draw a chunk."""
        x = noise.draw()
        for k, k_next in self.levels(len(denoiser.schedule)):
            c = self.coefs(denoiser.schedule, k, k_next)
            x0, eps = denoiser(x, k)
            x = step(c, x, x0, eps, noise.draw() if c.noise else None)
        return x, state


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
