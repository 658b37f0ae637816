"""The temporal U-Net with a noise level for every action (Hoeg et al., arXiv 2406.04806, section III-B)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.networks.base import Conditioning
from policies.networks.unet1d import ConditionalUnet1D, SinusoidalPosEmb, UnetCfg


class LevelsEncoder(nn.Module):
    """Embeds the levels of a whole chunk: (B, Tp) -> (B, d)."""

    def __init__(self, Tp: int, d: int):
        super().__init__()
        self.embed = SinusoidalPosEmb(d)
        self.layers = nn.Sequential(nn.Linear(Tp * d, 4 * d), nn.Mish(), nn.Linear(4 * d, d))

    def forward(self, k: Int[Tensor, "B Tp"]) -> Float[Tensor, "B d"]:
        """Embed every level by itself, then all together; Tp is fixed."""
        return self.layers(self.embed(k.flatten()).reshape(len(k), -1))


class StreamingUnet1D(ConditionalUnet1D):
    """``ConditionalUnet1D`` whose diffusion steps are (B, Tp), one per action."""

    def __init__(self, action_dim: int, cond_dim: int, Tp: int, cfg: UnetCfg):
        super().__init__(action_dim, cond_dim, cfg)
        self.diffusion_step_encoder = LevelsEncoder(Tp, cfg.step_dim)

    def level(self, k: Int[Tensor, "B Tp"]) -> Conditioning:
        """The levels' share of the scales and biases of all residual blocks, in the order of their use."""
        features = nn.functional.mish(self.diffusion_step_encoder(k))
        return tuple(nn.functional.linear(features, layer.weight[:, : self.step_dim]) for layer in self.films())

    def film(self, k: Int[Tensor, "B Tp"], cond: Float[Tensor, "B C"]) -> Conditioning:
        """Scales and biases of all residual blocks, in the order of their use."""
        features = nn.functional.mish(torch.cat([self.diffusion_step_encoder(k), cond], dim=-1))
        return tuple(layer(features) for layer in self.films())

    def forward(
        self, x: Float[Tensor, "B Tp Da"], k: Int[Tensor, "B Tp"], cond: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B Tp Da"]:
        """Predict for the levels ``k`` of every action."""
        return self.denoise(x, self.film(k, cond))
