"""What a sampler is: a frozen record that turns noise into a chunk, with its memory passed in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.discrete import DiscreteDims
from policies.samplers.noise import LaneNoise
from policies.samplers.schedule import NoiseSchedule

SamplerState = Mapping[str, Tensor]
"""Memory between decisions, tensors with a leading lane axis; empty for a memoryless sampler."""


@runtime_checkable
class Codec(Protocol):
    """Actions between the world and the network; see ``policies.units``."""

    @property
    def discrete(self) -> DiscreteDims:
        """Binary columns of the actions."""
        ...

    def encode(self, actions: Tensor) -> Tensor:
        """To network units."""
        ...

    def decode(self, chunk: Tensor) -> Tensor:
        """To physical units in the world frame."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A network bound to one batch of decisions."""

    @property
    def elapsed(self) -> Int[Tensor, " B"]:
        """Control steps since each lane's last decision; 0 where there was none."""
        ...

    @property
    def units(self) -> Codec:
        """What a chunk means in this decision; a sampler keeps chunks for later in the world."""
        ...

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
