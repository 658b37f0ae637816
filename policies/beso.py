"""BESO: goal-conditioned imitation by score-based diffusion in few steps (Reuss et al., arXiv 2304.02532).

The network learns ``D(x; s, g, sigma)``, the clean actions behind ``x = a + sigma eps``, preconditioned as in
arXiv 2206.00364. Goals are what the same episode shows later. One sample in ten is trained without its goal, so that
the same weights act without one, and a goal can be followed more or less: ``D = D_free + lambda (D_goal - D_free)``.

Two forms, by configuration: ``Tp = To, Ta = 1`` is the paper's, a window of past and present actions of which the
last is executed at every control step; ``Tp > To`` predicts chunks. The whole window is denoised either way: the
paper's code puts clean past actions into it, at a noise level that they do not have.

Goals when acting. A task here is one instruction on scenes that differ, and its evaluation names no final state.
The default is therefore to act without a goal (``guidance`` 0). Otherwise the goal is what ``aim`` says, and without
it the end of the demonstration that began most alike, which is right where a goal does not depend on the scene.

Departures from the paper: a goal is a state of the objects, not of the arm (of the arm where there are no objects);
a dropped goal is a learnt token, dropped for a sample as a whole; no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.base import Batch
from policies.chunked import ChunkCfg, ChunkPolicy, Condition, Decision
from policies.goals import goal_of, goal_share, kept_goals, require_kind, require_share
from policies.networks.goal_gpt import GoalGpt, GoalGptCfg, TokenSizes
from policies.observed import Observed, Recorded
from policies.samplers.karras import KARRAS_SAMPLERS, KarrasSampler, Levels
from policies.units import Units
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError
from robostack.types import Features


@dataclass(frozen=True)
class BesoCfg(ChunkCfg):
    """Everything that shapes the policy.

    Attributes:
        encoder: as in ``ChunkCfg``; its output is one more token. The paper has none.
        goal: what it is trained to reach: the ``final`` state of an episode, a random ``future`` one, or ``none``.
        goal_drop: share of the samples that are trained without their goal.
        guidance: lambda when acting; 0 acts without a goal, 1 follows it.
        bank: demonstrations whose beginnings and ends are kept as goals.
        levels: noise of training and acting.
        sampler: default sampler for acting.
        network: size of the network.
    """

    encoder: tuple[int, ...] | list[int] = ()
    goal: str = "final"  # pyright: ignore[reportIncompatibleVariableOverride]
    goal_drop: float = 0.1
    guidance: float = 0.0
    bank: int = 256
    levels: Levels = field(default_factory=Levels)
    sampler: str = "beso3"
    network: GoalGptCfg = field(default_factory=GoalGptCfg)

    def __post_init__(self):
        super().__post_init__()
        require_kind(self.goal, "goal")
        require_share(self.goal_drop, "goal_drop")
        if self.bank < 1 or self.guidance < 0:
            raise ConfigError(f"bank={self.bank} must be at least 1 and guidance={self.guidance} at least 0")
        self.require_sampler(self.sampler)

    def require_sampler(self, name: str) -> None:
        """Raise UnknownName or ConfigError for a sampler that cannot act with such a policy."""
        self.guidance_of(KARRAS_SAMPLERS[name])

    def guidance_of(self, sampler: KarrasSampler) -> float:
        """The lambda that a sampler acts with; raises ConfigError where nothing was learnt to guide by."""
        guidance = self.guidance if sampler.guidance is None else sampler.guidance
        if guidance > 0 and self.goal == "none":
            raise ConfigError(f"guidance={guidance:g} needs a policy trained with goals: use 0, or train goal=final")
        return guidance


class BesoPolicy(ChunkPolicy):
    """The policy: network, normalisers, known goals and, for acting, a sampler and the goal of every lane."""

    cfg: BesoCfg
    bank_start: Tensor
    bank_goal: Tensor
    goal_low: Tensor
    goal_high: Tensor

    def __init__(self, cfg: BesoCfg, features: Features):
        super().__init__(cfg, features)
        G = len(self.goals.names)
        sizes = TokenSizes(cfg.To, cfg.Tp, self.step_dim, len(features.action), self.context_dim, G)
        self.model = GoalGpt(sizes, cfg.network)
        self.register_buffer("bank_start", torch.zeros(cfg.bank, self.step_dim))
        self.register_buffer("bank_goal", torch.zeros(cfg.bank, G))
        self.register_buffer("goal_low", torch.zeros(G))
        self.register_buffer("goal_high", torch.zeros(G))
        self.sampler: KarrasSampler = KARRAS_SAMPLERS[cfg.sampler]

    # Training.

    @torch.no_grad()
    def fit_statistics(self, arrays: EpisodeArrays, windows: SequenceSampler) -> None:
        """Fit the normalisers; remember how evenly spread demonstrations began and ended."""
        super().fit_statistics(arrays, windows)
        chosen = np.linspace(0, len(arrays.ends) - 1, self.cfg.bank).round().astype(np.int64)
        begin = np.concatenate([[0], arrays.ends[:-1]])[chosen].repeat(self.cfg.To).reshape(-1, self.cfg.To)
        recorded = Recorded(arrays, self.features, self.bank_start.device)
        self.bank_start.copy_(self.view(recorded.at(begin)).steps[:, -1])
        seen = goal_of(self.features, recorded.state, recorded.objects)
        self.bank_goal.copy_(seen[arrays.ends[chosen] - 1])
        self.goal_low.copy_(seen.amin(0))
        self.goal_high.copy_(seen.amax(0))

    def goal_share(self, count: int, generator: torch.Generator) -> Float[Tensor, " B"] | None:
        """As ``goals.goal_share``."""
        return goal_share(self.cfg.goal, count, generator)

    def loss(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Of actions given observations and, but for some samples, goals."""
        cond, units = self.condition(batch.observed, generator)
        if batch.goal_state is not None and batch.goal_environment_state is not None:
            goals = goal_of(self.features, batch.goal_state, batch.goal_environment_state)
            kept = kept_goals(len(goals), self.cfg.goal_drop, generator)
            cond = self.with_goal(cond, units, goals, kept.to(goals.device))
        return self.chunk_loss(cond, units.encode(batch.action), generator)

    def chunk_loss(
        self, cond: Condition, actions: Float[Tensor, "B Tp Da"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean squared error of the network's output at random noise levels."""
        levels = self.cfg.levels
        sigma = levels.draw(len(actions), generator).to(actions.device)
        noisy = actions + sigma[:, None, None] * torch.randn(actions.shape, generator=generator).to(actions.device)
        c_skip, c_out, _ = (c[:, None, None] for c in levels.scalings(sigma))
        return torch.nn.functional.mse_loss(
            self.predict(noisy, sigma, cond).float(), (actions - c_skip * noisy) / c_out
        )

    # The condition: the encoder's output, the goal, and whether it counts.

    def condition(self, observed: Observed, generator: torch.Generator | None = None) -> tuple[Condition, Units]:
        """As for every chunk policy, and without a goal."""
        cond, units = super().condition(observed, generator)
        no_goal = cond.context.new_zeros(len(observed), len(self.goals.names) + 1)
        return Condition(cond.steps, torch.cat([cond.context, no_goal], dim=1)), units

    def with_goal(
        self, cond: Condition, units: Units, goals: Float[Tensor, "B G"], counts: Bool[Tensor, " B"]
    ) -> Condition:
        """The condition with goals in physical units and the world frame, for the samples where they count."""
        seen = self.seen_goal(goals, units.origin)
        parts = [cond.context[:, : self.context_dim], seen, counts[:, None].to(seen.dtype)]
        return Condition(cond.steps, torch.cat(parts, dim=1))

    # The network.

    def predict(self, x: Float[Tensor, "B Tp Da"], sigma: Float[Tensor, " B"], cond: Condition) -> Tensor:
        """Output F of the network, (B, Tp, Da), for actions with noise."""
        _, _, c_in = self.cfg.levels.scalings(sigma)
        context, goal, counts = cond.context.tensor_split([self.context_dim, cond.context.shape[1] - 1], dim=1)
        return self.model(c_in[:, None, None] * x, sigma.log() / 4, cond.steps, context, goal, counts[:, 0] > 0)

    def denoise(
        self, x: Float[Tensor, "B Tp Da"], sigma: float, cond: Condition, guidance: float
    ) -> Float[Tensor, "B Tp Da"]:
        """Estimate D of the clean actions; where guidance needs both, with and without goal in one pass."""
        if guidance == 1:
            return self._clean(x, sigma, cond)
        free = Condition(cond.steps, cond.context.clone())
        free.context[:, -1] = 0.0
        if guidance == 0:
            return self._clean(x, sigma, free)
        both = Condition(torch.cat([free.steps, cond.steps]), torch.cat([free.context, cond.context]))
        without, towards = self._clean(torch.cat([x, x]), sigma, both).chunk(2)
        return torch.lerp(without, towards, guidance)

    def _clean(self, x: Tensor, sigma: float, cond: Condition) -> Tensor:
        levels = torch.full((len(x),), sigma, device=x.device)
        c_skip, c_out, _ = (c[:, None, None] for c in self.cfg.levels.scalings(levels))
        return c_skip * x + c_out * self.predict(x, levels, cond)

    # Acting.

    def use_sampler(self, name: str) -> None:
        """Act with another sampler; episodes under way are forgotten."""
        self.cfg.guidance_of(KARRAS_SAMPLERS[name])
        self.sampler, self._lanes = KARRAS_SAMPLERS[name], []

    def evaluations(self) -> Int[Tensor, " B"]:
        """Network evaluations that the last decision of each lane took; guidance has two in one pass."""
        twice = self.cfg.guidance_of(self.sampler) not in (0, 1)
        return torch.full((len(self._lanes),), (1 + twice) * self.sampler.evaluations)

    def forget(self, mask: Bool[Tensor, " B"]) -> None:
        """Nothing is remembered but goals."""
        del mask  # Unused.

    def aim(self, goals: Float[np.ndarray, "B G"]) -> None:
        """Set the goal of every lane until its next reset: the objects' state, physical units, world frame.

        Raises:
            ConfigError: the policy acts without goals.
            DataError: a width that contradicts the features, or a goal beyond the demonstrations.
        """
        if self.cfg.guidance_of(self.sampler) == 0:
            raise ConfigError("this sampler acts without a goal: use beso3_goal, or a guidance above 0")
        self.goals.aim(goals, self.goal_low, self.goal_high)

    def draw(self, decision: Decision) -> Float[Tensor, "B Tp Da"]:
        """Let the sampler denoise, towards the lanes' goals where they count."""
        guidance, cond = self.cfg.guidance_of(self.sampler), decision.cond
        if guidance > 0:
            unknown = self.goals.values.isnan().any(dim=1)
            nearest = torch.cdist(cond.steps[:, -1], self.bank_start).argmin(dim=1)
            self.goals.values = torch.where(unknown[:, None], self.bank_goal[nearest], self.goals.values)
            cond = self.with_goal(cond, decision.units, self.goals.values, torch.ones_like(unknown))
        denoise = partial(self.denoise, cond=cond, guidance=guidance)
        return self.sampler.sample(denoise, self.cfg.levels, decision.noise).clamp(-1, 1)
