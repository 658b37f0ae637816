"""Next-scale transformer of CARP (arXiv 2412.06782, section 3.2), after VAR (Tian et al., arXiv 2404.02905).

Tokens of one scale are predicted at once and see each other and all scales before. The observation is the start
token of every dimension and, through adaptive layer norms, modulates every block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from robostack.errors import ConfigError

_MAX_LOG_SCALE = math.log(100)
Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of the scales so far, (B, heads, n, head width), per block."""


@dataclass(frozen=True)
class GptCfg:
    """Size of the transformer.

    Attributes:
        depth, width, heads: blocks, channels, attention heads; heads divide the width.
        gate: initial size of the gates of the residual branches, relative to the modulation's other outputs.
        condition: width of the layer between the observation and the modulation of the blocks; 0 for the start token
            itself, as in the paper, through whose few channels all that is known of the scene must pass.
    """

    depth: int = 8
    width: int = 64
    heads: int = 8
    gate: float = 1e-3
    condition: int = 0

    def __post_init__(self):
        if min(self.depth, self.width, self.heads) < 1 or self.width % self.heads:
            raise ConfigError(
                f"network.depth={self.depth}, width={self.width}, heads={self.heads} must be positive, "
                "and heads must divide width"
            )
        if self.condition < 0:
            raise ConfigError(f"network.condition={self.condition} must be a width, or 0 for that of the start token")


def scale_mask(sizes: Sequence[int]) -> Bool[Tensor, "n n"]:
    """True where a query (row) may see a key (column): its own scale and those before."""
    scale = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return scale[:, None] >= scale[None, :]


class _Block(nn.Module):
    """Attention with normalised queries and keys, and an MLP, both modulated and gated by the condition."""

    def __init__(self, cfg: GptCfg):
        super().__init__()
        C = cfg.width
        self.heads = cfg.heads
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.log_scale = nn.Parameter(torch.full((cfg.heads, 1, 1), math.log(4.0)))
        self.mlp = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(approximate="tanh"), nn.Linear(4 * C, C))

    def forward(
        self, x: Tensor, modulation: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, n, C) -> (B, n, C), and keys and values of past and present."""
        gate1, scale1, shift1, gate2, scale2, shift2 = modulation.unbind(1)
        attended, seen = self._attend(torch.addcmul(shift1, F.layer_norm(x, x.shape[-1:]), 1 + scale1), mask, past)
        x = x + gate1 * attended
        return x + gate2 * self.mlp(torch.addcmul(shift2, F.layer_norm(x, x.shape[-1:]), 1 + scale2)), seen

    def _attend(self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = F.normalize(q, dim=-1) * self.log_scale.clamp(max=_MAX_LOG_SCALE).exp()
        k = F.normalize(k, dim=-1)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        return self.out(h.transpose(1, 2).flatten(2)), (k, v)


class ScaleGpt(nn.Module):
    """Logits over codes from the latent so far, scale after scale."""

    mask: Tensor

    def __init__(self, Da: int, cond_dim: int, patches: Sequence[int], codes: int, code_dim: int, cfg: GptCfg):
        super().__init__()
        C = cfg.width
        self.Da, self.sizes = Da, tuple(p * Da for p in patches)
        self.bounds = [0, *torch.tensor(self.sizes).cumsum(0).tolist()]
        self.observe = nn.Linear(cond_dim, C)
        self.embed = nn.Linear(code_dim, C)
        self.start = nn.Parameter(torch.randn(patches[0] * Da, C) * C**-0.5)
        self.position = nn.Parameter(torch.randn(sum(self.sizes), C) * C**-0.5)
        self.level = nn.Embedding(len(patches), C)
        self.widen = nn.Linear(cond_dim, cfg.condition) if cfg.condition else None
        self.modulate = nn.Linear(cfg.condition or C, (6 * cfg.depth + 2) * C)
        self.blocks = nn.ModuleList(_Block(cfg) for _ in range(cfg.depth))
        self.head = nn.Linear(C, codes)
        self.register_buffer("mask", scale_mask(self.sizes), persistent=False)
        self._initialise(cfg)

    def _initialise(self, cfg: GptCfg) -> None:
        C = cfg.width
        nn.init.normal_(self.level.weight, std=C**-0.5)
        with torch.no_grad():
            self.head.weight.mul_(0.02)
            self.modulate.weight.mul_(0.5)
            self.modulate.bias.zero_()
            rows = self.modulate.weight[: 6 * cfg.depth * C].unflatten(0, (cfg.depth, 6, C))
            rows[:, [0, 3]] *= cfg.gate
            for name, weight in self.blocks.named_parameters():
                if name.endswith(("out.weight", "mlp.2.weight")):  # What ends a residual branch.
                    weight.mul_((2 * cfg.depth) ** -0.5)

    def condition(self, cond: Float[Tensor, "B F"]) -> tuple[Tensor, Tensor]:
        """The observation as start token (B, 1, C), and the modulation of all blocks (B, 6 depth + 2, 1, C)."""
        start = self.observe(cond)
        wide = start if self.widen is None else self.widen(cond)
        return start[:, None], self.modulate(F.silu(wide)).unflatten(1, (-1, 1, start.shape[1]))

    def tokens(self, latents: Float[Tensor, "B Da C P"], scale: int) -> Float[Tensor, "B n width"]:
        """Inputs of one scale after the first: the latent so far at its resolution; dimensions change fastest."""
        return self.embed(latents.permute(0, 3, 1, 2).flatten(1, 2)) + self._where(scale)

    def first(self, start: Float[Tensor, "B 1 width"]) -> Float[Tensor, "B n width"]:
        """Inputs of the first scale."""
        return start + self.start + self._where(0)

    def _where(self, scale: int) -> Tensor:
        return self.position[self.bounds[scale] : self.bounds[scale + 1]] + self.level.weight[scale]

    def forward(
        self, x: Float[Tensor, "B n width"], modulation: Tensor, cache: Cache | None = None
    ) -> tuple[Float[Tensor, "B n V"], Cache]:
        """Logits of the inputs, and the cache for the scales that follow.

        Without a cache the inputs are whole scales from the first on; with one they are the next scale.
        """
        n = x.shape[1]
        mask = None if cache or n == self.sizes[0] else self.mask[:n, :n]
        seen: Cache = []
        for i, block in enumerate(self.blocks):
            x, now = block(x, modulation[:, 6 * i : 6 * i + 6], mask, cache[i] if cache else None)
            seen.append(now)
        scale, shift = modulation[:, -2], modulation[:, -1]
        return self.head(torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)), seen
