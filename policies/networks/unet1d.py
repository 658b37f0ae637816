"""Conditional temporal U-Net of Diffusion Policy (Chi et al., arXiv 2303.04137, section IV-A).

Parameter names and shapes are those of the authors' implementation, so that their weights load. Two habits of that
implementation are part of the architecture and kept: every up level ends with an upsampling, and the skip of the
first level is not used. Its unused branch for local conditioning is left out.

The conditioning is split from the denoising: ``film`` maps (step, observation) to the scales and biases of all
residual blocks, ``denoise`` runs the convolutions. ``film`` is a sum of what the step says (``level``) and what the
observation says (``observe``), so a sampler computes the first once per checkpoint and the second once per decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.networks.base import Conditioning, Network
from robostack.errors import ConfigError


@dataclass(frozen=True)
class UnetCfg:
    """Size of the network. The default is for minutes of training on a CPU; ``PAPER`` is the authors' size.

    Attributes:
        down_dims: channels per level; each level after the first halves the number of steps.
        kernel: width of the convolutions; odd.
        groups: groups of the group normalisation; divides every entry of ``down_dims``.
        step_dim: width of the embedding of the diffusion step; even.
    """

    down_dims: Sequence[int] = (64, 128)
    kernel: int = 3
    groups: int = 8
    step_dim: int = 64

    def __post_init__(self):
        object.__setattr__(self, "down_dims", tuple(int(d) for d in self.down_dims))
        if not self.down_dims or any(d <= 0 or d % self.groups for d in self.down_dims):
            raise ConfigError(f"network.down_dims={self.down_dims} must be positive multiples of groups={self.groups}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"network.kernel={self.kernel} must be odd: an even kernel changes the number of steps")
        if self.step_dim < 4 or self.step_dim % 2:
            raise ConfigError(f"network.step_dim={self.step_dim} must be even and at least 4")

    def check_horizon(self, Tp: int) -> None:
        """Raise ConfigError unless Tp steps survive all halvings."""
        factor = 2 ** (len(self.down_dims) - 1)
        if Tp % factor:
            near = max(1, round(Tp / factor)) * factor
            raise ConfigError(
                f"Tp={Tp} is not divisible by {factor}, as {len(self.down_dims)} levels in network.down_dims demand: "
                f"use Tp={near}, or other down_dims"
            )

    def build(self, action_dim: int, Tp: int, To: int, step_dim: int, context_dim: int) -> ConditionalUnet1D:
        """The network for chunks (Tp, action_dim) under To observations and a context."""
        del Tp  # Unused.
        return ConditionalUnet1D(action_dim, To * step_dim + context_dim, self)


PAPER = UnetCfg(down_dims=(256, 512, 1024), kernel=5, groups=8, step_dim=256)


class SinusoidalPosEmb(nn.Module):
    """Transformer position embedding of a scalar, sines before cosines."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B,) -> (B, dim)."""
        half = self.dim // 2
        freqs = torch.exp(torch.arange(half, device=x.device) * (-math.log(10000) / (half - 1)))
        angles = x[:, None].float() * freqs
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Conv1dBlock(nn.Module):
    """Conv1d, group normalisation, Mish."""

    def __init__(self, cin: int, cout: int, cfg: UnetCfg):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(cin, cout, cfg.kernel, padding=cfg.kernel // 2), nn.GroupNorm(cfg.groups, cout), nn.Mish()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, T) -> (B, cout, T)."""
        return self.block(x)


class ResidualBlock(nn.Module):
    """Two convolution blocks with a FiLM in between (Perez et al. 2018)."""

    def __init__(self, cin: int, cout: int, cond_dim: int, cfg: UnetCfg):
        super().__init__()
        self.blocks = nn.ModuleList([Conv1dBlock(cin, cout, cfg), Conv1dBlock(cout, cout, cfg)])
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond_dim, 2 * cout))
        self.residual_conv = nn.Conv1d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """(B, cin, T), (B, 2 cout) -> (B, cout, T)."""
        scale, bias = film[:, :, None].chunk(2, dim=1)
        h = torch.addcmul(bias, self.blocks[0](x), scale)
        return self.blocks[1](h) + self.residual_conv(x)


class _Resample(nn.Module):
    """Halves (``down``) or doubles the number of steps."""

    def __init__(self, dim: int, *, down: bool):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, 2, 1) if down else nn.ConvTranspose1d(dim, dim, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, T) -> (B, dim, T/2) or (B, dim, 2T)."""
        return self.conv(x)


class ConditionalUnet1D(Network):
    """Predicts (B, Tp, Da) from a noisy chunk, its diffusion step and a condition vector."""

    def __init__(self, action_dim: int, cond_dim: int, cfg: UnetCfg):
        super().__init__()
        dims, d = cfg.down_dims, cfg.step_dim
        width = d + cond_dim
        self.step_dim = d

        def pair(cin: int, cout: int) -> list[nn.Module]:
            return [ResidualBlock(cin, cout, width, cfg), ResidualBlock(cout, cout, width, cfg)]

        self.diffusion_step_encoder = nn.Sequential(
            SinusoidalPosEmb(d), nn.Linear(d, 4 * d), nn.Mish(), nn.Linear(4 * d, d)
        )
        last = len(dims) - 1
        self.down_modules = nn.ModuleList(
            nn.ModuleList([*pair(cin, cout), _Resample(cout, down=True) if i < last else nn.Identity()])
            for i, (cin, cout) in enumerate(zip((action_dim, *dims), dims, strict=False))
        )
        self.mid_modules = nn.ModuleList(pair(dims[-1], dims[-1]))
        self.up_modules = nn.ModuleList(
            nn.ModuleList([*pair(2 * dims[i], dims[i - 1]), _Resample(dims[i - 1], down=False)])
            for i in range(last, 0, -1)
        )
        self.final_conv = nn.Sequential(Conv1dBlock(dims[0], dims[0], cfg), nn.Conv1d(dims[0], action_dim, 1))

    def films(self) -> list[nn.Linear]:
        """The layers that make the scales and biases of all residual blocks, in the order of their use."""
        levels = [*self.down_modules, self.mid_modules, *self.up_modules]
        blocks = [cast(ResidualBlock, block) for level in levels for block in list(cast(nn.ModuleList, level))[:2]]
        return [cast(nn.Linear, block.cond_encoder[1]) for block in blocks]

    def level(self, k: Int[Tensor, " B"]) -> Conditioning:
        """The diffusion step's share of the scales and biases of all residual blocks, in the order of their use."""
        features = nn.functional.mish(self.diffusion_step_encoder(k))
        d = features.shape[1]
        return tuple(nn.functional.linear(features, linear.weight[:, :d]) for linear in self.films())

    def observe(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Conditioning:
        """The condition's share."""
        return self._seen(torch.cat([steps.flatten(1), context], dim=1))

    def _seen(self, cond: Float[Tensor, "B C"]) -> Conditioning:
        features = nn.functional.mish(cond)
        width = cond.shape[1]
        return tuple(nn.functional.linear(features, linear.weight[:, -width:], linear.bias) for linear in self.films())

    def combine(self, level: Conditioning, observed: Conditioning) -> Conditioning:
        """Scales and biases."""
        return tuple(a + b for a, b in zip(level, observed, strict=True))

    def film(self, k: Int[Tensor, " B"], cond: Float[Tensor, "B C"]) -> Conditioning:
        """Scales and biases for diffusion steps ``k`` and condition vectors ``cond``."""
        return self.combine(self.level(k), self._seen(cond))

    def denoise(self, x: Float[Tensor, "B Tp Da"], conditioning: Conditioning) -> Float[Tensor, "B Tp Da"]:
        """Run the convolutions."""
        film_of = iter(conditioning)
        h = x.transpose(1, 2)
        skips = []
        for first, second, down in cast(Iterable[nn.ModuleList], self.down_modules):
            h = second(first(h, next(film_of)), next(film_of))
            skips.append(h)
            h = down(h)
        for block in self.mid_modules:
            h = block(h, next(film_of))
        for first, second, up in cast(Iterable[nn.ModuleList], self.up_modules):
            h = torch.cat([h, skips.pop()], dim=1)
            h = up(second(first(h, next(film_of)), next(film_of)))
        return self.final_conv(h).transpose(1, 2)

    def forward(
        self, x: Float[Tensor, "B Tp Da"], k: Int[Tensor, " B"], cond: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B Tp Da"]:
        """Predict for diffusion steps ``k`` and conditions ``cond``."""
        return self.denoise(x, self.film(k, cond))
