"""Noise schedule of a diffusion model and the linear maps that its samplers step with.

Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239 (eq. 6, 7, 15);
Song et al., Denoising Diffusion Implicit Models, arXiv 2010.02502 (eq. 12, 16);
Nichol & Dhariwal, arXiv 2102.09672 (cosine schedule, eq. 17).
Tables are float64; a step is a linear combination whose four coefficients are known before sampling starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from robostack.errors import ConfigError

Prediction = Literal["epsilon", "sample", "v"]
PREDICTIONS: tuple[str, ...] = ("epsilon", "sample", "v")


@dataclass(frozen=True)
class StepCoefs:
    """``x_next = x0 * x0_hat + x * x_k + eps * eps_hat + noise * N(0, I) + before * x0_hat_of_the_step_before``."""

    x0: float
    x: float
    eps: float
    noise: float
    before: float = 0.0


@dataclass(frozen=True)
class NoiseSchedule:
    """Cumulative signal power per diffusion step.

    Attributes:
        abar: product of alphas up to and including step k, float64, decreasing.
    """

    abar: Float[np.ndarray, " K"]

    @classmethod
    def cosine(cls, K: int = 100) -> NoiseSchedule:
        """``squaredcos_cap_v2``: betas of the squared cosine, capped at 0.999."""
        if K < 2:
            raise ConfigError(f"diffusion_steps={K}: at least 2 are needed, 100 is usual")

        def power(u: np.ndarray) -> np.ndarray:
            return np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        i = np.arange(K)
        beta = np.minimum(1 - power((i + 1) / K) / power(i / K), 0.999)
        return cls(np.cumprod(1 - beta))

    def __len__(self) -> int:
        return len(self.abar)

    @property
    def sqrt_abar(self) -> Float[np.ndarray, " K"]:
        """Amplitude of the signal at step k."""
        return np.sqrt(self.abar)

    @property
    def sigma(self) -> Float[np.ndarray, " K"]:
        """Amplitude of the noise at step k."""
        return np.sqrt(1 - self.abar)

    def _abar(self, k: int) -> float:
        return float(self.abar[k]) if k >= 0 else 1.0

    def ddpm(self, k: int, k_next: int) -> StepCoefs:
        """Posterior q(x_{k_next} | x_k, x0) with the small fixed variance; any jump k_next < k is exact."""
        a, b = self._abar(k), self._abar(k_next)
        alpha = a / b
        variance = (1 - b) / (1 - a) * (1 - alpha)
        return StepCoefs(
            x0=math.sqrt(b) * (1 - alpha) / (1 - a),
            x=math.sqrt(alpha) * (1 - b) / (1 - a),
            eps=0.0,
            noise=math.sqrt(variance),
        )

    def ddim(self, k: int, k_next: int, eta: float = 0.0) -> StepCoefs:
        """Non-Markovian jump; deterministic for ``eta`` 0, of DDPM's variance for ``eta`` 1."""
        a, b = self._abar(k), self._abar(k_next)
        noise = eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b))
        return StepCoefs(x0=math.sqrt(b), x=0.0, eps=math.sqrt(max(1 - b - noise**2, 0.0)), noise=noise)

    def log_snr(self, k: int) -> float:
        """``lambda_k = log(sqrt(abar_k) / sigma_k)``."""
        abar = float(self.abar[k])
        return 0.5 * math.log(abar / (1 - abar))

    def even_in_log_snr(self, top: int, count: int) -> tuple[int, ...]:
        """``count`` levels from ``top`` down to 0 whose signal-to-noise ratios grow by about the same factor.

        Raises:
            ConfigError: more levels than there are.
        """
        if not count - 1 <= top < len(self):
            raise ConfigError(f"{count} sampling steps do not fit between level {top} and 0 of {len(self)} levels")
        lam = np.array([self.log_snr(k) for k in range(len(self))])
        wanted = np.linspace(lam[top], lam[0], count) if count > 1 else lam[:1]
        levels: list[int] = []
        for i, goal in enumerate(wanted):
            k = int(np.abs(lam - goal).argmin())
            k = min(k, levels[-1] - 1) if levels else k  # Neighbours may round to the same level,
            levels.append(max(k, count - 1 - i))  # and each of those to come needs one of its own.
        return tuple(levels)


def split_coefs(prediction: str, sqrt_abar: float, sigma: float) -> tuple[float, float, float, float]:
    """``split`` as numbers: x0 = c[0] x + c[1] pred and eps = c[2] x + c[3] pred."""
    if prediction == "epsilon":
        return 1 / sqrt_abar, -sigma / sqrt_abar, 0.0, 1.0
    if prediction == "sample":
        return 0.0, 1.0, 1 / sigma, -sqrt_abar / sigma
    assert prediction == "v", prediction
    return sqrt_abar, -sigma, sigma, sqrt_abar


def split(
    prediction: str, x: Tensor, pred: Tensor, sqrt_abar: Tensor | float, sigma: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Clean sample and noise that a network output implies at x = sqrt_abar x0 + sigma eps."""
    if prediction == "epsilon":
        return (x - sigma * pred) / sqrt_abar, pred
    if prediction == "sample":
        return pred, (x - sqrt_abar * pred) / sigma
    assert prediction == "v", prediction
    return sqrt_abar * x - sigma * pred, sqrt_abar * pred + sigma * x


def target(prediction: str, x0: Tensor, eps: Tensor, sqrt_abar: Tensor | float, sigma: Tensor | float) -> Tensor:
    """What the network is trained to output; ``split`` inverts it."""
    if prediction == "epsilon":
        return eps
    if prediction == "sample":
        return x0
    assert prediction == "v", prediction
    return sqrt_abar * eps - sigma * x0


def step(
    c: StepCoefs, x: Tensor, x0: Tensor, eps: Tensor, noise: Tensor | None, before: Tensor | None = None
) -> Tensor:
    """One sampler step; ``noise`` and ``before`` may be None when their coefficients are 0."""
    out = c.x0 * x0
    if c.x:
        out = out + c.x * x
    if c.eps:
        out = out + c.eps * eps
    if c.noise:
        assert noise is not None, c
        out = out + c.noise * noise
    if c.before:
        assert before is not None, c
        out = out + c.before * before
    return out
