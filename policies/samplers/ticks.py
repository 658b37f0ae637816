"""Real-Time Iteration on a network whose blocks are cached from one control step to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from policies.accel.ticks import MOST_CALLS, TickPlan, TickRun
from policies.samplers.bac import Bac
from policies.samplers.base import Denoiser, SamplerState
from policies.samplers.diffusion import Ladder
from policies.samplers.noise import LaneNoise
from policies.samplers.rti import RTI
from policies.samplers.schedule import NoiseSchedule, StepCoefs
from robostack.errors import ConfigError


@runtime_checkable
class Ticking(Denoiser, Protocol):
    """A denoiser whose network has blocks, and that tells what it sees."""

    @property
    def seen(self) -> Float[Tensor, "B F"]:
        """Observations in network units."""
        ...

    def ticked(self, run: TickRun) -> Denoiser:
        """The same, run by a plan."""
        ...


@dataclass(frozen=True)
class _Uncached(Ladder):
    """``base``, on the network as it is."""

    base: Ladder
    network: Denoiser

    def levels(self, K: int) -> list[tuple[int, int]]:
        return self.base.levels(K)

    def table(self, schedule: NoiseSchedule) -> list[StepCoefs]:
        return self.base.table(schedule)

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        del denoiser  # Unused: it runs by a plan that is for continued decisions.
        return self.base.sample(self.network, noise, state)


@dataclass(frozen=True)
class BacTicks(Bac):
    """Caching across control steps on top of ``base``, an ``RTI``; see ``policies.accel.ticks``.

    Memory per lane, beside that of the base: ``phase``, which decision of the period is next; ``kept``, values of
    blocks; ``seen``, the last observation.

    Attributes:
        share: of the calls of a period in which a block is computed, before the union; at least one call.
        period: decisions of a plan.
        drift_margin: over the largest change of an observation in the demonstrations, up to which values are reused.
    """

    share: float = 0.25
    period: int = 2
    drift_margin: float = 2.0
    plan: TickPlan | None = None  # pyright: ignore[reportIncompatibleVariableOverride]

    plan_type = TickPlan

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.base, RTI):
            raise ConfigError("caching across control steps continues decisions, which only rti does: use sampler=bac")
        if self.period < 1 or not self.drift_margin > 0:
            raise ConfigError(f"period={self.period} and drift_margin={self.drift_margin} must be positive")

    def updates(self, K: int) -> int:
        """Calls of a period in which a block is computed, before the union."""
        return max(1, int(self.share * self.period * len(self.levels(K)) + 1e-9))

    def evaluations(self, K: int) -> int:
        """Network evaluations of a decision that continues, whole or in part."""
        calls = self.period * len(self.levels(K))
        if calls > MOST_CALLS:
            raise ConfigError(f"{calls} levels in {self.period} decisions, caching takes up to {MOST_CALLS}: use rti")
        return self.base.evaluations(K)

    def start(self, lanes: int) -> SamplerState:
        """No lane has a past."""
        memory = {"phase": torch.zeros(lanes, dtype=torch.int64), "kept": torch.zeros(lanes, 0, 0, 0)}
        return {**self.base.start(lanes), **memory, "seen": torch.zeros(lanes, 0)}

    def reset(self, state: SamplerState, mask: Bool[Tensor, " B"]) -> SamplerState:
        """Forget the lanes of ``mask``."""
        return self.base.reset(state, mask)

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Draw a chunk by the plan."""
        plan, base = self.plan, self.base
        assert plan is not None, "use_sampler finds the plan of the checkpoint"
        assert isinstance(base, RTI), base
        assert isinstance(denoiser, Ticking), type(denoiser)
        usual = base.continues(denoiser, state) & (denoiser.elapsed == 1)
        if state["seen"].shape[1]:
            usual = usual & ((denoiser.seen - state["seen"]).square().mean(dim=1).sqrt() <= plan.drift)
        phase = torch.where(usual, state["phase"].to(usual.device), 0)
        run = TickRun(plan, phase, state["kept"])
        base = replace(base, first=_Uncached(base.first.steps, base.first, denoiser))
        chunk, memory = base.sample(denoiser.ticked(run), noise, state)
        phase = torch.where(memory["continued"], (phase + 1) % plan.period, 0)
        return chunk, {**memory, "phase": phase, "kept": run.kept(len(phase)), "seen": denoiser.seen}
