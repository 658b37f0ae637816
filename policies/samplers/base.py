"""What a sampler is: a frozen record that turns noise into a chunk, with its memory passed in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from policies.samplers.noise import LaneNoise
from policies.samplers.schedule import NoiseSchedule

SamplerState = Mapping[str, Tensor]
"""Memory between decisions, tensors with a leading lane axis; empty for a memoryless sampler."""


@runtime_checkable
class Denoiser(Protocol):
    """A network bound to one batch of observations."""

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise levels that the network was trained on."""
        ...

    def __call__(self, x: Float[Tensor, "B Tp Da"], k: int) -> tuple[Tensor, Tensor]:
        """Estimates (x0, eps) for a chunk at diffusion step k; x0 is clipped where the policy says so."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Turns noise into a chunk of normalised actions."""

    def evaluations(self, K: int) -> int:
        """Network evaluations per decision."""
        ...

    def start(self, lanes: int) -> SamplerState:
        """Memory of new episodes."""
        ...

    def reset(self, state: SamplerState, mask: Bool[Tensor, " B"]) -> SamplerState:
        """Forget the lanes of ``mask``."""
        ...

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Draw a chunk (B, Tp, Da); returns it with the new memory."""
        ...
