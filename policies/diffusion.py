"""Diffusion Policy on low-dimensional observations.

Chi et al., Diffusion Policy: Visuomotor Policy Learning via Action Diffusion, arXiv 2303.04137.
Training minimises ``|| eps - eps_theta(sqrt(abar_k) a + sigma_k eps, k, O) ||^2`` (eq. 5) over uniform k; acting
denoises a chunk of Tp actions and executes Ta of them from index To - 1, the action of the last observation.

Departures from the paper, each a field of the configuration: positions relative to the gripper (``frame``), limits per
step of the chunk (``per_step``), because the first actions of a relative chunk move far less than its last, an MLP on
the observation (``encoder``), and a network that predicts the clean chunk (``prediction``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.chunked import ChunkCfg, ChunkPolicy, Condition, Decision
from policies.guidance import clamp_through, continue_plan
from policies.networks.unet1d import ConditionalUnet1D, UnetCfg
from policies.samplers import SAMPLERS, LaneNoise, NoiseSchedule, Sampler, SamplerState
from policies.samplers.schedule import PREDICTIONS, split, target
from policies.units import Units
from robostack.errors import ConfigError
from robostack.types import Features


@dataclass(frozen=True)
class DiffusionCfg(ChunkCfg):
    """Everything that shapes the policy.

    Attributes:
        diffusion_steps: K, levels of noise in training.
        prediction: what the network outputs: ``epsilon`` (as in the paper), ``sample`` or ``v``. Short trainings need
            ``sample``: errors of an epsilon at high noise are amplified by sigma / sqrt(abar).
        clip: clamp estimates of the clean chunk to the range of the data while sampling.
        sampler: default sampler for acting.
        network: size of the network.
    """

    diffusion_steps: int = 100
    prediction: str = "sample"
    clip: bool = True
    sampler: str = "ddim10"
    network: UnetCfg = field(default_factory=UnetCfg)

    def __post_init__(self):
        super().__post_init__()
        self.network.check_horizon(self.Tp)
        if self.prediction not in PREDICTIONS:
            raise ConfigError(f"unknown prediction '{self.prediction}': use one of {', '.join(PREDICTIONS)}")
        NoiseSchedule.cosine(self.diffusion_steps)
        SAMPLERS[self.sampler].evaluations(self.diffusion_steps)


class DiffusionPolicy(ChunkPolicy):
    """The policy: network, normalisers and, for acting, a sampler."""

    continues_plans = True
    cfg: DiffusionCfg
    sqrt_abar: Tensor
    sigma: Tensor

    def __init__(self, cfg: DiffusionCfg, features: Features):
        super().__init__(cfg, features)
        width = cfg.To * self.step_dim + self.context_dim
        self.model = ConditionalUnet1D(len(features.action), width, cfg.network)
        self.schedule = NoiseSchedule.cosine(cfg.diffusion_steps)
        self.register_buffer("sqrt_abar", torch.from_numpy(self.schedule.sqrt_abar).float(), persistent=False)
        self.register_buffer("sigma", torch.from_numpy(self.schedule.sigma).float(), persistent=False)
        self.sampler: Sampler = SAMPLERS[cfg.sampler]
        self._memory: SamplerState = {}

    def chunk_loss(
        self, cond: Condition, actions: Float[Tensor, "B Tp Da"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean squared error of the prediction at random noise levels (eq. 5)."""
        k = torch.randint(len(self.schedule), (len(actions),), generator=generator).to(actions.device)
        eps = torch.randn(actions.shape, generator=generator).to(actions.device)
        sqrt_abar, sigma = self.sqrt_abar[k, None, None], self.sigma[k, None, None]
        pred = self.predict(sqrt_abar * actions + sigma * eps, k, cond)
        return torch.nn.functional.mse_loss(pred.float(), target(self.cfg.prediction, actions, eps, sqrt_abar, sigma))

    def predict(self, x: Float[Tensor, "B Tp Da"], k: Int[Tensor, " B"], cond: Condition) -> Float[Tensor, "B Tp Da"]:
        """The network's output, of the kind ``cfg.prediction``."""
        return self.model(x, k, cond.flat)

    def sample(
        self,
        state: Float[Tensor, "B To Ds"],
        objects: Float[Tensor, "B To De"],
        noise: LaneNoise,
        memory: Mapping[str, Tensor] | None = None,
        sampler: Sampler | None = None,
    ) -> tuple[Float[Tensor, "B Tp Da"], Mapping[str, Tensor]]:
        """Draw chunks in physical units and the world frame, without touching the policy's own episodes."""
        sampler = sampler or self.sampler
        cond, units = self.condition(state, objects)
        memory = sampler.start(len(state)) if memory is None else memory
        decision = Decision(cond, units, noise, torch.zeros(len(state), dtype=torch.int64, device=state.device))
        chunk, memory = sampler.sample(BoundDenoiser(self, decision), noise, memory)
        return units.decode(chunk), memory

    def use_sampler(self, name: str) -> None:
        """Act with another sampler; episodes under way are forgotten."""
        SAMPLERS[name].evaluations(self.cfg.diffusion_steps)
        self.sampler, self._lanes, self._memory = SAMPLERS[name], [], {}

    def evaluations(self) -> Int[Tensor, " B"]:
        """Network evaluations that the last decision of each lane took."""
        nominal = torch.full((len(self._lanes),), self.sampler.evaluations(self.cfg.diffusion_steps))
        return self._memory.get("evaluations", nominal)

    def forget(self, mask: Bool[Tensor, " B"]) -> None:
        """Reset the sampler's memory."""
        self._memory = self.sampler.reset(self.sampler.start(len(mask)) if mask.all() else self._memory, mask)

    def draw(self, decision: Decision) -> Float[Tensor, "B Tp Da"]:
        """Let the sampler denoise, guided by the plan if there is one."""
        bound, limit = BoundDenoiser(self, decision), 1.0 if self.cfg.clip else None
        denoiser = continue_plan(bound, decision.plan, steps=self.cfg.Tp, past=self.cfg.To - 1, limit=limit)
        chunk, self._memory = self.sampler.sample(denoiser, decision.noise, self._memory)
        return chunk


@dataclass(frozen=True)
class BoundDenoiser:
    """The network with a decision's condition: what a sampler sees."""

    policy: DiffusionPolicy
    decision: Decision

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise levels of the training."""
        return self.policy.schedule

    @property
    def elapsed(self) -> Int[Tensor, " B"]:
        """Control steps since each lane's last decision."""
        return self.decision.elapsed

    @property
    def units(self) -> Units:
        """Actions between the world and the network."""
        return self.decision.units

    def __call__(self, x: Float[Tensor, "B Tp Da"], k: int) -> tuple[Tensor, Tensor]:
        """Estimates (x0, eps) at diffusion step k; x0 is clipped where the policy says so."""
        policy = self.policy
        levels = torch.full((len(x),), k, dtype=torch.int64, device=x.device)
        pred = policy.predict(x, levels, self.decision.cond)
        sqrt_abar, sigma = float(policy.schedule.sqrt_abar[k]), float(policy.schedule.sigma[k])
        x0, eps = split(policy.cfg.prediction, x, pred, sqrt_abar, sigma)
        return (clamp_through(x0, 1.0) if policy.cfg.clip else x0), eps
