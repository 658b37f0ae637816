"""Multi-scale action tokenizer: a residual vector-quantised autoencoder per action dimension (arXiv 2412.06782, 3.1).

The paper trains one autoencoder after the other. Here every convolution has one group per dimension and every
codebook a leading axis of dimensions, so that all of them are one network: nothing is shared between dimensions, and
one training run gives what separate ones would, as long as the dimensions weigh the same: they are standardised, else
an autoencoder whose dimension varies little beside the others' tends to answer with the mean.

Tensors are (B, Da * C, T) where convolutions see them, and (B, Da, C, T) where codes are looked up. The latent has
L = Tp / 4 steps; scale s describes what the scales before it left over, with ``patches[s]`` codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.carp.scales import area_matrix, bicubic_matrix
from robostack.errors import ConfigError

STRIDE = 4
"""Actions per step of the latent: the encoder halves the time axis twice."""
_CONSTANT = 1e-4  # Standard deviation, in network units, of a dimension that says nothing.


@dataclass(frozen=True)
class TokenizerCfg:
    """Size of the tokenizer.

    Attributes:
        patches: codes per scale, increasing; the last is the length of the latent.
        codes: V, entries of each dimension's codebook.
        code_dim: C, width of a code.
        width: channels after the first convolution; the two levels have 2 and 4 times as many. The paper has 2, which
            takes several times as many steps to learn.
        commitment: weight of the term that keeps the encoder near the codes.
        spread: weight of the entropy of the mean assignment, which pulls codes that nothing uses to the data; 0
            disables.
    """

    patches: Sequence[int] = (1, 2, 3, 4)
    codes: int = 512
    code_dim: int = 8
    width: int = 4
    commitment: float = 0.25
    spread: float = 0.01

    def __post_init__(self):
        object.__setattr__(self, "patches", tuple(int(p) for p in self.patches))
        p = self.patches
        if not p or p[0] < 1 or any(a >= b for a, b in zip(p, p[1:], strict=False)):
            raise ConfigError(f"tokenizer.patches={p} must be increasing numbers from 1 on, as in (1, 2, 3, 4)")
        for name in ("code_dim", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tokenizer.{name}={getattr(self, name)} must be positive")
        if self.codes < 2:
            raise ConfigError(f"tokenizer.codes={self.codes}: a codebook needs at least 2 entries")

    def check_horizon(self, Tp: int) -> None:
        """Raise ConfigError unless the last scale has one code per step of the latent."""
        if Tp != STRIDE * self.patches[-1]:
            raise ConfigError(
                f"Tp={Tp} does not fit tokenizer.patches={self.patches}: the last patch number must be Tp / {STRIDE}, "
                f"so use Tp={STRIDE * self.patches[-1]}, or other patches"
            )


class Quantised(NamedTuple):
    """A latent in codes: per scale the indices and the latent that they and all scales before them describe."""

    indices: list[Int[Tensor, "B Da P"]]
    sums: list[Float[Tensor, "B Da C L"]]


class ActionTokenizer(nn.Module):
    """Autoencoders of all Da action dimensions."""

    mean: Tensor
    std: Tensor

    def __init__(self, Da: int, cfg: TokenizerCfg):
        super().__init__()
        self.Da, self.cfg = Da, cfg
        narrow, wide, C = 2 * cfg.width, 4 * cfg.width, cfg.code_dim
        self.encoder = nn.Sequential(
            _conv(Da, 1, cfg.width),
            _Residual(Da, cfg.width, narrow), nn.ConstantPad1d((0, 1), 0.0), _conv(Da, narrow, narrow, stride=2),
            _Residual(Da, narrow, wide), nn.ConstantPad1d((0, 1), 0.0), _conv(Da, wide, wide, stride=2),
            _Residual(Da, wide, wide), _norm(Da, wide), nn.SiLU(), _conv(Da, wide, C),
            _conv(Da, C, C),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            _conv(Da, C, C),
            _conv(Da, C, wide), _Residual(Da, wide, wide),
            _up(Da, wide), _Residual(Da, wide, narrow),
            _up(Da, narrow), _Residual(Da, narrow, cfg.width),
            _norm(Da, cfg.width), nn.SiLU(), _conv(Da, cfg.width, 1),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(Da))
        self.register_buffer("std", torch.ones(Da))
        self.codebook = nn.Parameter(torch.randn(Da, cfg.codes, C) / C**0.5)
        self.refine = nn.ModuleList(_conv(Da, C, C) for _ in cfg.patches)
        length = cfg.patches[-1]
        for s, size in enumerate(cfg.patches):
            self.register_buffer(f"down{s}", area_matrix(length, size), persistent=False)
            self.register_buffer(f"up{s}", bicubic_matrix(size, length), persistent=False)

    def fit(self, actions: Float[Tensor, "*N Da"]) -> None:
        """Standardise by these actions; dimensions that are constant stay as they are."""
        flat = actions.flatten(0, -2)
        std = flat.std(dim=0, correction=0)
        self.mean.copy_(flat.mean(dim=0))
        self.std.copy_(torch.where(std > _CONSTANT, std, torch.ones_like(std)))

    def loss(self, actions: Float[Tensor, "B Tp Da"]) -> Float[Tensor, ""]:
        """Reconstruction, commitment and codebook terms, averaged over dimensions."""
        latent = self.encode(actions)
        sums, spread = [], latent.new_zeros(())
        rest, total = latent.detach(), torch.zeros_like(latent)
        for s in range(len(self.cfg.patches)):
            distance = self._distance(rest, s)
            if self.cfg.spread:
                spread = spread + _concentration(distance)
            added = self.describe(self.vectors(distance.argmin(-1)), s)
            total = total + added
            rest = rest - added.detach()
            sums.append(total)
        scales = torch.stack(sums)
        codes = F.mse_loss(scales, latent.detach().expand_as(scales))
        commitment = F.mse_loss(latent.expand_as(scales), scales.detach())
        decoded = self._decode(latent + (total - latent).detach())
        reconstruction = F.mse_loss(decoded, self._standard(actions))
        return reconstruction + codes + self.cfg.commitment * commitment + self.cfg.spread * spread / len(sums)

    def encode(self, actions: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Da C L"]:
        """Latents of chunks."""
        return self.encoder(self._standard(actions).transpose(1, 2)).unflatten(1, (self.Da, self.cfg.code_dim))

    def decode(self, latent: Float[Tensor, "B Da C L"]) -> Float[Tensor, "B Tp Da"]:
        """Chunks of latents."""
        return self._decode(latent) * self.std + self.mean

    def quantise(self, latent: Float[Tensor, "B Da C L"]) -> Quantised:
        """Describe latents by codes, coarse to fine, each scale what is left over by those before."""
        found = Quantised([], [])
        total = torch.zeros_like(latent)
        for s in range(len(self.cfg.patches)):
            found.indices.append(self._distance(latent - total, s).argmin(-1))
            total = total + self.describe(self.vectors(found.indices[-1]), s)
            found.sums.append(total)
        return found

    def vectors(self, indices: Int[Tensor, "B Da P"]) -> Float[Tensor, "B Da P C"]:
        """The codes that indices name."""
        offset = torch.arange(self.Da, device=indices.device)[:, None] * self.cfg.codes
        return F.embedding(indices + offset, self.codebook.flatten(0, 1))

    def mean_vectors(self, probability: Float[Tensor, "B Da P V"]) -> Float[Tensor, "B Da P C"]:
        """The mean of all codes."""
        return probability @ self.codebook

    def describe(self, vectors: Float[Tensor, "B Da P C"], scale: int) -> Float[Tensor, "B Da C L"]:
        """What the vectors of one scale add to the latent."""
        h = vectors.transpose(2, 3) @ self.get_buffer(f"up{scale}")
        return 0.5 * h + 0.5 * self.refine[scale](h.flatten(1, 2)).view_as(h)

    def coarsen(self, latent: Float[Tensor, "B Da C L"], scale: int) -> Float[Tensor, "B Da C P"]:
        """The latent at the resolution of a scale."""
        return latent @ self.get_buffer(f"down{scale}")

    def _standard(self, actions: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Tp Da"]:
        return (actions - self.mean) / self.std

    def _decode(self, latent: Float[Tensor, "B Da C L"]) -> Float[Tensor, "B Tp Da"]:
        """Standardised chunks of latents."""
        return self.decoder(latent.flatten(1, 2)).transpose(1, 2)

    def _distance(self, rest: Float[Tensor, "B Da C L"], scale: int) -> Float[Tensor, "B Da P V"]:
        """Squared distances of what is to be described from all codes.

        The authors' code takes the nearest by angle, whatever its length, which leaves more to the next scales.
        """
        wanted = self.coarsen(rest, scale).transpose(2, 3)
        squares = wanted.square().sum(-1, keepdim=True) + self.codebook.square().sum(-1)[:, None]
        return squares - 2 * wanted @ self.codebook.transpose(1, 2)


def _concentration(distance: Float[Tensor, "B Da P V"], temperature: float = 0.05) -> Float[Tensor, ""]:
    """How far the mean soft assignment is from uniform, in nats; 0 when all codes are used equally.

    A gradient for codes that are nobody's nearest, which the codebook term gives none (cf. the entropy penalty of
    Yu et al., arXiv 2310.05737).
    """
    mean = (-distance / temperature).softmax(-1).mean((0, 2))  # (Da, V)
    entropy = -(mean * mean.clamp_min(1e-9).log()).sum(-1)
    return (torch.log(torch.tensor(float(mean.shape[-1]))) - entropy).mean()


class _Residual(nn.Module):
    """Two pre-activated convolutions and a shortcut."""

    def __init__(self, Da: int, cin: int, cout: int):
        super().__init__()
        self.block = nn.Sequential(
            _norm(Da, cin), nn.SiLU(), _conv(Da, cin, cout), _norm(Da, cout), nn.SiLU(), _conv(Da, cout, cout)
        )
        self.shortcut = nn.Identity() if cin == cout else nn.Conv1d(Da * cin, Da * cout, 1, groups=Da)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Da cin, T) -> (B, Da cout, T)."""
        return self.shortcut(x) + self.block(x)


def _norm(Da: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(Da, Da * channels, eps=1e-6)  # One group per dimension.


def _conv(Da: int, cin: int, cout: int, stride: int = 1) -> nn.Conv1d:
    return nn.Conv1d(Da * cin, Da * cout, 3, stride, padding=1 if stride == 1 else 0, groups=Da)


def _up(Da: int, channels: int) -> nn.ConvTranspose1d:
    return nn.ConvTranspose1d(Da * channels, Da * channels, 3, 2, padding=1, output_padding=1, groups=Da)
