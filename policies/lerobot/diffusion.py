"""lerobot's Diffusion Policy (Chi et al., arXiv 2303.04137): its U-Net, its loss and its schedulers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy, _make_noise_scheduler
from torch import Tensor

from policies.lerobot.adapter import LerobotPolicy, config_values
from policies.lerobot.cfg import LerobotDiffusionCfg
from policies.samplers import DDIM, DDPM, ONE_STEP_SAMPLERS, LaneNoise
from robostack.errors import ConfigError
from robostack.types import Features

_SCHEDULERS: dict[type, str] = {DDPM: "DDPM", DDIM: "DDIM"}
_NOISE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "clip_sample",
    "clip_sample_range",
    "prediction_type",
)


class LerobotDiffusion(LerobotPolicy):
    """The first ``n_action_steps`` of a chunk are what lerobot's ``select_action`` would hand out one by one."""

    cfg: LerobotDiffusionCfg

    def __init__(self, cfg: LerobotDiffusionCfg, features: Features):
        super().__init__(cfg, features, DiffusionPolicy(DiffusionConfig(**config_values(cfg, features))))
        self.pad_after = cfg.horizon - cfg.n_obs_steps - cfg.drop_n_last_frames

    def batch_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Mean squared error of the prediction at random noise levels."""
        return self.policy(batch)[0]

    def chunk(self, batch: dict[str, Tensor], lanes: list[torch.Generator]) -> Float[Tensor, "B n Da"]:
        """Denoise with lerobot's loop; the observation's own action is the first that is still due."""
        model, cfg = self.policy.diffusion, self.cfg
        cond = model._prepare_global_conditioning(batch)
        noise = LaneNoise(lanes, (cfg.horizon, len(self.features.action)), cond.device).draw()
        per_lane: Any = lanes  # lerobot annotates one generator; diffusers takes one for each sample, too.
        chunk = model.conditional_sample(len(noise), global_cond=cond, generator=per_lane, noise=noise)
        return chunk[:, cfg.n_obs_steps - 1 :]

    def use_sampler(self, name: str) -> None:
        """Act with lerobot's DDPM or DDIM scheduler in another number of steps; episodes under way are forgotten."""
        sampler = ONE_STEP_SAMPLERS[name]
        kind = _SCHEDULERS.get(type(sampler))
        if kind is None:
            raise ConfigError(f"lerobot_diffusion steps with lerobot's schedulers: use ddpm100 or ddim10, not '{name}'")
        model, cfg = self.policy.diffusion, self.cfg
        model.num_inference_steps = sampler.evaluations(cfg.num_train_timesteps)
        noise: Any = {name: getattr(cfg, name) for name in _NOISE}
        model.noise_scheduler = _make_noise_scheduler(kind, **noise)
        self._lanes = []
