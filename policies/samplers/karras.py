"""Preconditioning, noise levels and samplers of score-based policies.

Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, arXiv 2206.00364 (table 1, alg. 1);
Lu et al., DPM-Solver, arXiv 2206.00927 (of first order, which is DDIM). Noise is additive here: ``x = a + sigma eps``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from policies.samplers.noise import LaneNoise
from robostack.errors import ConfigError
from robostack.registry import Registry

Denoise = Callable[[Tensor, float], Tensor]
"""(x, sigma) -> estimate of the clean chunk."""
METHODS = ("ddim", "ancestral", "heun")


@dataclass(frozen=True)
class Levels:
    """Noise that a network is trained on.

    Attributes:
        low, high: smallest and largest standard deviation of the noise, in network units.
        data: sigma_d, standard deviation of the actions, in network units.
    """

    low: float = 0.05
    high: float = 1.0
    data: float = 0.5

    def __post_init__(self):
        if not 0 < self.low < self.high or self.data <= 0:
            raise ConfigError(
                f"levels.low={self.low}, high={self.high}, data={self.data} need 0 < low < high and data > 0"
            )

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in): ``D(x) = c_skip x + c_out F(c_in x)``; F sees and learns unit variance throughout."""
        variance = sigma**2 + self.data**2
        return self.data**2 / variance, sigma * self.data / variance.sqrt(), 1 / variance.sqrt()

    def draw(self, count: int, generator: torch.Generator, spread: float = 0.5) -> Float[Tensor, " B"]:
        """Levels for training: log-logistic about ``data``, cut off at ``low`` and ``high``, by inversion."""
        loc = math.log(self.data)
        first, last = (1 / (1 + math.exp((loc - math.log(s)) / spread)) for s in (self.low, self.high))
        u = first + (last - first) * torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.exp(loc + spread * torch.logit(u)).clamp(self.low, self.high).float()

    def ladder(self, steps: int) -> list[float]:
        """``steps`` levels in geometric progression from ``high`` to ``low``, then 0."""
        if steps == 1:
            return [self.high, 0.0]
        ratio = self.low / self.high
        return [*(self.high * ratio ** (i / (steps - 1)) for i in range(steps)), 0.0]


def ancestral(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Split a step into one down to the first level and fresh noise of the second, which end at ``sigma_next``."""
    up = sigma_next * math.sqrt(max(1 - (sigma_next / sigma) ** 2, 0.0))
    return math.sqrt(max(sigma_next**2 - up**2, 0.0)), up


@dataclass(frozen=True)
class KarrasSampler:
    """Descends the ladder of levels.

    Attributes:
        method: ``ddim``: first-order exponential integrator; ``ancestral``: Euler with fresh noise at every step but
            the last; ``heun``: trapezoidal, at twice the evaluations.
        steps: levels.
        guidance: lambda of the goal's guidance; None for the policy's own. 0 ignores the goal, 1 follows it, more
            exaggerates it.
    """

    method: str
    steps: int
    guidance: float | None = None

    def __post_init__(self):
        if self.method not in METHODS or self.steps < 1:
            raise ConfigError(f"{self} needs a method of {', '.join(METHODS)} and at least 1 step")

    @property
    def evaluations(self) -> int:
        """Network evaluations per decision."""
        return 2 * self.steps - 1 if self.method == "heun" else self.steps

    def sample(self, denoise: Denoise, levels: Levels, noise: LaneNoise) -> Float[Tensor, "B Tp Da"]:
        """Draw a chunk."""
        sigmas = levels.ladder(self.steps)
        x = sigmas[0] * noise.draw()
        for sigma, after in zip(sigmas, sigmas[1:], strict=False):
            x = self._step(denoise, x, sigma, after, noise)
        return x

    def _step(self, denoise: Denoise, x: Tensor, sigma: float, after: float, noise: LaneNoise) -> Tensor:
        clean = denoise(x, sigma)
        if after == 0:
            return clean
        if self.method == "ddim":
            return torch.lerp(clean, x, after / sigma)
        slope = (x - clean) / sigma
        if self.method == "ancestral":
            down, up = ancestral(sigma, after)
            return x + slope * (down - sigma) + up * noise.draw()
        ahead = x + slope * (after - sigma)
        return x + (slope + (ahead - denoise(ahead, after)) / after) / 2 * (after - sigma)


KARRAS_SAMPLERS: Registry[KarrasSampler] = Registry("sampler")
for _steps in (1, 2, 3, 5, 10, 20):
    KARRAS_SAMPLERS.add(f"beso{_steps}", KarrasSampler("ddim", _steps))
    KARRAS_SAMPLERS.add(f"beso_ancestral{_steps}", KarrasSampler("ancestral", _steps))
    KARRAS_SAMPLERS.add(f"beso_heun{_steps}", KarrasSampler("heun", _steps))
for _name, _guidance in (("free", 0.0), ("goal", 1.0), ("guided", 2.0)):
    KARRAS_SAMPLERS.add(f"beso3_{_name}", KarrasSampler("ddim", 3, _guidance))
