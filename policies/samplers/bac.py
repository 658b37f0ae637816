"""Any sampler with a fixed list of steps, on a network whose blocks are cached by a plan (arXiv 2506.13456)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from policies.accel.bac_plan import Plan
from policies.samplers.base import Denoiser, Sampler, SamplerState
from policies.samplers.noise import LaneNoise
from robostack.errors import ConfigError


@runtime_checkable
class Listed(Sampler, Protocol):
    """A sampler that says its steps in advance."""

    def levels(self, K: int) -> list[tuple[int, int]]:
        """Pairs (k, k_next)."""
        ...


@runtime_checkable
class Caching(Denoiser, Protocol):
    """A denoiser whose network has blocks."""

    def cached(self, plan: Plan) -> Denoiser:
        """The same, run by a plan."""
        ...


@dataclass(frozen=True)
class Bac:
    """Block-wise adaptive caching on top of ``base``.

    Attributes:
        base: the sampler; its memory is the memory.
        share: of the calls in which a block is computed, before the union; at least one call.
        worst: blocks with the largest errors that take part in the union.
        method: ``adaptive``, ``consecutive`` or ``uniform``, see ``policies.accel.bac_plan``.
        plan: of the checkpoint; a sampler without one cannot sample.
    """

    base: Listed
    share: float = 0.4
    worst: int = 3
    method: str = "adaptive"
    plan: Plan | None = None

    plan_type = Plan

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ConfigError(f"bac share={self.share} must be in (0, 1]")

    def updates(self, K: int) -> int:
        """Calls in which a block is computed, before the union."""
        return max(1, int(self.share * len(self.levels(K)) + 1e-9))

    def evaluations(self, K: int) -> int:
        """Network evaluations per decision, whole or in part."""
        return self.base.evaluations(K)

    def levels(self, K: int) -> list[tuple[int, int]]:
        """Steps of the base."""
        return self.base.levels(K)

    def start(self, lanes: int) -> SamplerState:
        """Memory of new episodes."""
        return self.base.start(lanes)

    def reset(self, state: SamplerState, mask: Bool[Tensor, " B"]) -> SamplerState:
        """Forget the lanes of ``mask``."""
        return self.base.reset(state, mask)

    def described(self, K: int) -> str:
        """What a plan depends on, spelled out."""
        return f"{replace(self, plan=None)!r} of {K}"

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Draw a chunk by the plan."""
        assert self.plan is not None, "use_sampler finds the plan of the checkpoint"
        assert isinstance(denoiser, Caching), type(denoiser)
        return self.base.sample(denoiser.cached(self.plan), noise, state)
