"""lerobot's ACT (Zhao et al., Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware, arXiv 2304.13705).

Its temporal ensemble is off: ensembling is what ``execution=ensemble`` does with any policy.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from policies.lerobot.adapter import PAD, LerobotPolicy, config_values
from policies.lerobot.cfg import ACT_SAMPLERS, LerobotActCfg
from robostack.types import Features


class LerobotAct(LerobotPolicy):
    """Deterministic when acting; the seeds of its lanes change nothing."""

    cfg: LerobotActCfg

    def __init__(self, cfg: LerobotActCfg, features: Features):
        values = config_values(cfg, features)
        super().__init__(cfg, features, ACTPolicy(ACTConfig(**values, pretrained_backbone_weights=None)))

    def _observed(self, state: Tensor, objects: Tensor) -> dict[str, Tensor]:
        return super()._observed(state[:, 0], objects[:, 0])

    def batch_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """L1 and weighted divergence in training; in evaluation the L1 of what the policy would do.

        lerobot's own loss cannot be evaluated: its model computes the latent's distribution in training mode only.
        """
        if self.policy.training or not self.cfg.use_vae:
            return self.policy(batch)[0]
        error = (batch[ACTION] - self.policy.model(batch)[0]).abs() * ~batch[PAD].unsqueeze(-1)
        return error.mean()

    def chunk(self, batch: dict[str, Tensor], lanes: list[torch.Generator]) -> Float[Tensor, "B n Da"]:
        """One evaluation of the transformer."""
        del lanes  # Unused.
        return self.policy.predict_action_chunk(batch)

    def use_sampler(self, name: str) -> None:
        """Accept ``direct``; episodes under way are forgotten."""
        _ = ACT_SAMPLERS[name]
        self._lanes = []
