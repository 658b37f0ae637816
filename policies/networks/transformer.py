"""Transformer of Diffusion Policy (Chi et al., arXiv 2303.04137, section IV-A): actions are tokens, causal in time.

Parameter names and shapes are those of the authors' implementation (pre-norm decoder, conditions as memory), so that
their weights load. One departure: a condition may have a ``context`` vector, which joins the memory as a last token
that all actions see; without it the network is theirs.

The memory has far fewer tokens than the chunk, so cross-attention is rewritten around it: with one head,
``softmax((h Wq + bq) K^T) V Wo = softmax(h (Wq K^T) + bq K^T) (V Wo)``, and both products in brackets depend on the
condition alone. They are split further, because without condition layers each memory token depends either on the
diffusion step (``level``) or on the observation (``observe``): a sampler computes the first once per checkpoint, the
second once per decision, joins them (``combine``) and runs ``denoise`` per step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.networks.base import Conditioning, Network, keep_sizes
from policies.networks.unet1d import SinusoidalPosEmb
from robostack.errors import ConfigError


@dataclass(frozen=True)
class TransformerCfg:
    """Size of the network. The default is for minutes of training on a CPU; ``PAPER`` is the authors' size.

    Attributes:
        n_layer, n_head, n_emb: decoder layers, attention heads, width of the tokens.
        n_cond_layers: encoder layers over the condition; 0 is an MLP per token, as in the paper.
        p_drop_emb, p_drop_attn: dropout of the embeddings and everywhere else.
    """

    n_layer: int = 4
    n_head: int = 4
    n_emb: int = 128
    n_cond_layers: int = 0
    p_drop_emb: float = 0.0
    p_drop_attn: float = 0.01

    def __post_init__(self):
        if self.n_layer < 1 or self.n_head < 1 or self.n_cond_layers < 0:
            raise ConfigError(f"network.n_layer={self.n_layer}, n_head={self.n_head} must be positive")
        if self.n_emb < 4 or self.n_emb % self.n_head or self.n_emb % 2:
            raise ConfigError(f"network.n_emb={self.n_emb} must be even and a multiple of n_head={self.n_head}")
        if not (0 <= self.p_drop_emb < 1 and 0 <= self.p_drop_attn < 1):
            raise ConfigError("network.p_drop_emb and network.p_drop_attn must be in [0, 1)")

    def check_horizon(self, Tp: int) -> None:
        """Any horizon will do."""
        del Tp  # Unused.

    def build(self, action_dim: int, Tp: int, To: int, step_dim: int, context_dim: int) -> TransformerForDiffusion:
        """The network for chunks (Tp, action_dim) under To observations and a context."""
        return TransformerForDiffusion(self, action_dim, Tp, To, step_dim, context_dim)


PAPER = TransformerCfg(n_layer=8, n_head=4, n_emb=256, p_drop_attn=0.3)


class Attention(nn.Module):
    """Multi-head attention with the parameter names of ``torch.nn.MultiheadAttention``."""

    def __init__(self, n: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.randn(3 * n, n) * n**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * n))
        self.out_proj = nn.Linear(n, n)

    def forward(self, x: Float[Tensor, "B T n"], *, causal: bool) -> Float[Tensor, "B T n"]:
        """Attend to itself."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=dropout)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def fold(self, memory: Float[Tensor, "B S n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Query and output projections folded into the memory.

        Returns:
            Keys (B, n, heads, S), their biases (B, heads, S) and values (B, heads, S, n), for ``attend``.
        """
        n = memory.shape[-1]
        w_q, w_kv = self.in_proj_weight[:n].unflatten(0, (self.heads, -1)), self.in_proj_weight[n:]
        b_q = self.in_proj_bias[:n].unflatten(0, (self.heads, -1)) * (n // self.heads) ** -0.5
        kv = F.linear(memory, w_kv, self.in_proj_bias[n:]).unflatten(-1, (2, self.heads, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)  # (B, heads, S, d) each.
        keys = torch.einsum("hdn,bhsd->bnhs", w_q * (n // self.heads) ** -0.5, k)
        values = torch.einsum("nhd,bhsd->bhsn", self.out_proj.weight.unflatten(1, (self.heads, -1)), v)
        return keys, torch.einsum("hd,bhsd->bhs", b_q, k), values

    def attend(self, x: Float[Tensor, "B T n"], keys: Tensor, bias: Tensor, values: Tensor) -> Float[Tensor, "B T n"]:
        """Attend to a folded memory: keys (B, n, heads S), bias with mask (B, T, heads S), values (B, heads S, n)."""
        scores = torch.baddbmm(bias, x, keys)
        probs = scores.unflatten(-1, (self.heads, -1)).softmax(-1).flatten(2)
        return torch.bmm(F.dropout(probs, self.dropout, self.training), values) + self.out_proj.bias


class _Feedforward(nn.Module):
    """The feed-forward half that encoder and decoder layers share, with torch's parameter names."""

    def __init__(self, cfg: TransformerCfg):
        super().__init__()
        n = cfg.n_emb
        self.self_attn = Attention(n, cfg.n_head, cfg.p_drop_attn)
        self.linear1, self.linear2 = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)
        self.norm1, self.norm2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.dropout = nn.Dropout(cfg.p_drop_attn)

    def mlp(self, h: Tensor) -> Tensor:
        """Two linear layers with a GELU in between."""
        return self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(h)))))


class EncoderLayer(_Feedforward):
    """Pre-norm encoder layer."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, n) -> (B, S, n)."""
        x = x + self.dropout(self.self_attn(self.norm1(x), causal=False))
        return x + self.mlp(self.norm2(x))


class DecoderLayer(_Feedforward):
    """Pre-norm decoder layer: three blocks, each of which returns what it adds to the residual stream."""

    def __init__(self, cfg: TransformerCfg):
        super().__init__(cfg)
        self.multihead_attn = Attention(cfg.n_emb, cfg.n_head, cfg.p_drop_attn)
        self.norm3 = nn.LayerNorm(cfg.n_emb)

    def block(self, kind: int, x: Tensor, memory: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Self-attention (0), cross-attention (1) or feed-forward (2) of the residual stream ``x``."""
        if kind == 0:
            return self.dropout(self.self_attn(self.norm1(x), causal=True))
        if kind == 1:
            return self.dropout(self.multihead_attn.attend(self.norm2(x), *memory))
        return self.mlp(self.norm3(x))


class _Stack(nn.Module):
    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class TransformerForDiffusion(Network):
    """Predicts (B, Tp, Da) from a noisy chunk, its diffusion step and a condition."""

    mask: Tensor

    def __init__(self, cfg: TransformerCfg, action_dim: int, Tp: int, To: int, step_dim: int, context_dim: int = 0):
        super().__init__()
        n = cfg.n_emb
        S = 1 + To + bool(context_dim)
        self.cfg, self.To = cfg, To
        self.stochastic = max(cfg.p_drop_emb, cfg.p_drop_attn) > 0
        self.input_emb, self.cond_obs_emb = nn.Linear(action_dim, n), nn.Linear(step_dim, n)
        self.context_emb = nn.Linear(context_dim, n) if context_dim else None
        self.time_emb = SinusoidalPosEmb(n)
        self.pos_emb, self.cond_pos_emb = nn.Parameter(torch.zeros(1, Tp, n)), nn.Parameter(torch.zeros(1, S, n))
        self.drop = nn.Dropout(cfg.p_drop_emb)
        if cfg.n_cond_layers:
            self.encoder: nn.Module = _Stack([EncoderLayer(cfg) for _ in range(cfg.n_cond_layers)])
        else:
            self.encoder = nn.Sequential(nn.Linear(n, 4 * n), nn.Mish(), nn.Linear(4 * n, n))
        self.decoder = _Stack([DecoderLayer(cfg) for _ in range(cfg.n_layer)])
        self.ln_f, self.head = nn.LayerNorm(n), nn.Linear(n, action_dim)
        t, s = torch.arange(Tp)[:, None], torch.arange(S)[None]
        seen = (t >= s - 1) | (s > To)  # The step and the context always, an observation from its own time on.
        mask = torch.zeros(Tp, S).masked_fill(~seen, -math.inf)
        self.register_buffer("mask", mask.repeat(1, cfg.n_head), persistent=False)
        keep_sizes(self, ("out_proj", "linear2"), 3 * cfg.n_layer)
        nn.init.normal_(self.head.weight, std=0.02)
        for name in ("pos_emb", "cond_pos_emb"):
            nn.init.normal_(getattr(self, name), std=0.5)

    @property
    def layers(self) -> list[DecoderLayer]:
        """Decoder layers in their order."""
        return list(self.decoder.layers)  # pyright: ignore[reportReturnType]

    @property
    def blocks(self) -> int:
        """Blocks that add to the residual stream, three a layer."""
        return 3 * len(self.layers)

    # Conditioning.

    def level(self, k: Int[Tensor, " B"]) -> Conditioning:
        """What depends on the diffusion step alone."""
        token = self.drop(self.time_emb(k)[:, None] + self.cond_pos_emb[:, :1])
        return (token,) if self.cfg.n_cond_layers else self._fold(self.encoder(token))

    def tokens(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Float[Tensor, "B S n"]:
        """Memory tokens of a condition before the encoder."""
        tokens = self.cond_obs_emb(steps)
        if self.context_emb is not None:
            tokens = torch.cat([tokens, self.context_emb(context)[:, None]], dim=1)
        return self.drop(tokens + self.cond_pos_emb[:, 1:])

    def observe(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Conditioning:
        """What depends on the condition alone."""
        tokens = self.tokens(steps, context)
        return (tokens,) if self.cfg.n_cond_layers else self._fold(self.encoder(tokens))

    def combine(self, level: Conditioning, observed: Conditioning) -> Conditioning:
        """Folded memory of all layers: keys (L, B, n, heads S), bias (L, B, Tp, heads S), values (L, B, heads S, n)."""
        if self.cfg.n_cond_layers:
            memory = torch.cat([level[0].expand(observed[0].shape[0], -1, -1), observed[0]], dim=1)
            for layer in self.encoder.layers:  # pyright: ignore[reportGeneralTypeIssues]
                memory = layer(memory)
            keys, bias, values = self._fold(memory)
        else:
            lanes = observed[0].shape[1]
            axes = (-1, -1, -2)
            keys, bias, values = (
                torch.cat([a.expand(-1, lanes, *a.shape[2:]), b], dim=axis)
                for a, b, axis in zip(level, observed, axes, strict=True)
            )
        return keys.flatten(3), bias.flatten(2)[:, :, None] + self.mask, values.flatten(2, 3)

    def _fold(self, memory: Tensor) -> Conditioning:
        """Per-layer folds, layers first."""
        folds = [layer.multihead_attn.fold(memory) for layer in self.layers]
        return tuple(torch.stack(part) for part in zip(*folds, strict=True))

    # Denoising.

    def embed(self, x: Float[Tensor, "B T Da"]) -> Float[Tensor, "B T n"]:
        """Tokens of the first T actions of a chunk."""
        return self.drop(self.input_emb(x) + self.pos_emb[:, : x.shape[1]])

    def block(self, index: int, h: Float[Tensor, "B T n"], memory: Conditioning) -> Float[Tensor, "B T n"]:
        """What block ``index`` of 3 L adds to the residual stream: self-attention, cross-attention, feed-forward."""
        layer, kind = divmod(index, 3)
        keys, bias, values = (part[layer] for part in memory)
        return self.layers[layer].block(kind, h, (keys, bias[:, : h.shape[1]], values))

    def output(self, h: Float[Tensor, "B T n"]) -> Float[Tensor, "B T Da"]:
        """Prediction from the residual stream."""
        return self.head(self.ln_f(h))

    def denoise(self, x: Float[Tensor, "B T Da"], conditioning: Conditioning) -> Float[Tensor, "B T Da"]:
        """Run the decoder on the first T <= Tp actions; being causal, it gives them what it gives them in a chunk."""
        h = self.embed(x)
        for index in range(self.blocks):
            h = h + self.block(index, h, conditioning)
        return self.output(h)

    def decays(self, name: str) -> bool:
        """Weights of linear layers only: no biases, norms or embeddings of positions."""
        return name.endswith("weight") and "norm" not in name and not name.startswith("ln_f")
