"""Goal-conditioned transformer of BESO (Reuss et al., arXiv 2304.02532), a pre-norm GPT on one token per item.

::

    sigma | context | goal | s_1 a_1 | s_2 a_2 | ... | s_To a_To | a_To+1 ... a_Tp

States and actions of one time step share a position. The tokens in front are seen by all. With the paper's windows
Tp = To; more actions follow the last state where a policy predicts chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from policies.networks.base import keep_sizes
from robostack.errors import ConfigError


@dataclass(frozen=True)
class GoalGptCfg:
    """Size of the network. The paper's: width 240, 4 layers, 12 heads (block push); 360, 6, 6 (kitchen).

    Attributes:
        width, layers, heads: channels, blocks, attention heads; heads divide the width.
        causal: whether a token sees only those before it, as in the paper; else all tokens see each other.
    """

    width: int = 120
    layers: int = 4
    heads: int = 4
    causal: bool = False

    def __post_init__(self):
        if min(self.width, self.layers, self.heads) < 1 or self.width % self.heads:
            raise ConfigError(
                f"network.width={self.width}, layers={self.layers}, heads={self.heads} must be positive, "
                "and heads must divide width"
            )


@dataclass(frozen=True)
class TokenSizes:
    """What the tokens hold: steps observed and predicted; widths of states, actions, context and goal."""

    To: int
    Tp: int
    state: int
    action: int
    context: int
    goal: int


class _Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, cfg: GoalGptCfg):
        super().__init__()
        C = cfg.width
        self.heads = cfg.heads
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.mlp = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GoalGpt(nn.Module):
    """Predicts (B, Tp, Da) from a noisy chunk, its noise level, observations and perhaps a goal."""

    mask: Tensor | None

    def __init__(self, sizes: TokenSizes, cfg: GoalGptCfg):
        super().__init__()
        C, self.sizes = cfg.width, sizes
        self.embed_level, self.embed_action = nn.Linear(1, C), nn.Linear(sizes.action, C)
        self.embed_state, self.embed_goal = nn.Linear(sizes.state, C), nn.Linear(sizes.goal, C)
        self.embed_context = nn.Linear(sizes.context, C) if sizes.context else None
        self.no_goal = nn.Parameter(torch.zeros(C))
        self.position, self.goal_position = nn.Parameter(torch.zeros(sizes.Tp, C)), nn.Parameter(torch.zeros(C))
        self.blocks = nn.ModuleList(_Block(cfg) for _ in range(cfg.layers))
        self.norm, self.head = nn.LayerNorm(C), nn.Linear(C, sizes.action)
        front = 3 if sizes.context else 2
        count = front + sizes.To + sizes.Tp
        paired = front + 1 + 2 * torch.arange(sizes.To)
        actions = torch.cat([paired, torch.arange(front + 2 * sizes.To, count)])
        self.register_buffer("actions", actions, persistent=False)
        mask = torch.ones(count, count, dtype=torch.bool).tril() if cfg.causal else None
        if mask is not None:
            mask[:, :front] = True
        self.register_buffer("mask", mask, persistent=False)
        keep_sizes(self, (".out", ".mlp.2"), 2 * cfg.layers)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.normal_(self.position, std=0.5)

    def forward(
        self,
        x: Float[Tensor, "B Tp Da"],
        level: Float[Tensor, " B"],
        steps: Float[Tensor, "B To Do"],
        context: Float[Tensor, "B C"],
        goal: Float[Tensor, "B G"],
        has_goal: Bool[Tensor, " B"],
    ) -> Float[Tensor, "B Tp Da"]:
        """Run the network; ``level`` embeds the noise, ``goal`` counts where ``has_goal``."""
        front = [self.embed_level(level[:, None])]
        if self.embed_context is not None:
            front.append(self.embed_context(context))
        front.append(torch.where(has_goal[:, None], self.embed_goal(goal), self.no_goal) + self.goal_position)
        states = self.embed_state(steps) + self.position[: self.sizes.To]
        actions = self.embed_action(x) + self.position
        pairs = torch.stack([states, actions[:, : self.sizes.To]], dim=2).flatten(1, 2)
        h = torch.cat([torch.stack(front, dim=1), pairs, actions[:, self.sizes.To :]], dim=1)
        for block in self.blocks:
            h = block(h, self.mask)
        return self.head(self.norm(h[:, self.get_buffer("actions")]))
