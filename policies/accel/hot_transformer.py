"""The transformer's denoising as native programs.

What remains per step is self-attention, a cross-attention to four folded tokens and the feed-forward layers, in that
order of memory. Being causal, the network may be run on the first actions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from policies.accel.bac import Add, Code, Run, Sum
from policies.accel.bac_plan import Plan
from policies.accel.hot import HotDecision, HotNetwork, Level, Session
from policies.accel.native import Epilogue, Kind, Program
from policies.networks.transformer import DecoderLayer, TransformerForDiffusion
from robostack.errors import ConfigError

_MEMORY = 64  # Tokens that the cross-attention of native.cpp has room for.


@dataclass(frozen=True)
class _Layer:
    """Numbers of linear layers, norms and a bias."""

    norms: tuple[tuple[Tensor, Tensor], ...]
    qkv: int
    attended: int
    up: int
    down: int
    crossed_bias: Tensor


@dataclass(frozen=True)
class _Memory:
    """Numbers of linear layers: keys, values and biases of memory tokens as one, then the two folds of every head."""

    kv: int
    keys: tuple[int, ...]
    values: tuple[int, ...]


class HotTransformer(HotNetwork):
    """Packed weights of a transformer."""

    def __init__(self, net: TransformerForDiffusion, dtype: torch.dtype = torch.float32):
        if net.cfg.n_cond_layers:
            raise ConfigError("accelerate=native needs network.n_cond_layers=0: use accelerate=none")
        if net.cond_pos_emb.shape[1] > _MEMORY:
            raise ConfigError(f"accelerate=native takes up to {_MEMORY - 2} observations: use accelerate=none")
        super().__init__(net.mask.device, dtype)
        self.net, self.n, self.heads = net, net.cfg.n_emb, net.cfg.n_head
        keep = self.weights.add
        with torch.no_grad():
            self.layers = [self._layer(layer) for layer in net.layers]
            self.input, self.head = (keep(m.weight, m.bias) for m in (net.input_emb, net.head))
            self.memories = [self._memory(layer) for layer in net.layers]
            up, _, down = net.encoder  # pyright: ignore[reportGeneralTypeIssues]
            self.encode_up, self.encode_down = (keep(m.weight, m.bias, exact=True) for m in (up, down))
        self.final_norm = (net.ln_f.weight.detach(), net.ln_f.bias.detach())
        self._levels: dict[Level, list[tuple[Tensor, Tensor, Tensor]]] = {}

    def condition(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Float[Tensor, "B S n"]:
        """Memory tokens."""
        return self.net.tokens(steps, context)

    def opened(self, lanes: int, actions: int) -> TransformerSession:
        """A new session for a shape."""
        return TransformerSession(self, lanes, actions)

    def _layer(self, layer: DecoderLayer) -> _Layer:
        scale, keep, attention = torch.ones(3 * self.n), self.weights.add, layer.self_attn
        scale[: self.n] = (self.n // self.heads) ** -0.5
        return _Layer(
            norms=tuple((m.weight.detach(), m.bias.detach()) for m in (layer.norm1, layer.norm2, layer.norm3)),
            qkv=keep(attention.in_proj_weight * scale[:, None], attention.in_proj_bias * scale),
            attended=keep(attention.out_proj.weight, attention.out_proj.bias),
            up=keep(layer.linear1.weight, layer.linear1.bias),
            down=keep(layer.linear2.weight, layer.linear2.bias),
            crossed_bias=layer.multihead_attn.out_proj.bias.detach(),
        )

    def _memory(self, layer: DecoderLayer) -> _Memory:
        n, d, attention = self.n, self.n // self.heads, layer.multihead_attn
        keep = partial(self.weights.add, exact=True)
        weight, bias, scale = attention.in_proj_weight, attention.in_proj_bias, d**-0.5
        queries = (bias[:n] * scale).view(self.heads, d)
        rows = torch.einsum("hd,hdn->hn", queries, weight[n : 2 * n].view(self.heads, d, n))
        offsets = torch.einsum("hd,hd->h", queries, bias[n : 2 * n].view(self.heads, d))
        cut = [slice(h * d, (h + 1) * d) for h in range(self.heads)]
        return _Memory(
            kv=keep(torch.cat([weight[n:], rows]), torch.cat([bias[n:], offsets])),
            keys=tuple(keep(weight[:n][c].t() * scale) for c in cut),
            values=tuple(keep(attention.out_proj.weight[:, c]) for c in cut),
        )

    def decision(
        self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"], plan: Plan | None = None
    ) -> TransformerDecision:
        """The network with a condition; ``plan`` says which blocks to cache."""
        return TransformerDecision(self, self.condition(steps, context), plan)

    def level(self, k: Level) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keys (H, n), bias (H,) and values (H, n) of the diffusion step's token in every layer."""
        if k not in self._levels:
            keys, bias, values = self.net.level(torch.tensor([k]))
            self._levels[k] = [
                (a[0, ..., 0].t().contiguous(), b[0, :, 0].contiguous(), c[0, :, 0].contiguous())
                for a, b, c in zip(keys, bias, values, strict=True)
            ]
        return self._levels[k]


class TransformerSession(Session):
    """Activations of a transformer."""

    def __init__(self, hot: HotTransformer, lanes: int, actions: int):
        net, n, L = hot.net, hot.n, len(hot.layers)
        super().__init__(lanes, actions, net.head.out_features)
        S, rows = net.cond_pos_emb.shape[1], lanes * actions
        self.hot, self.B, self.T, self.tokens = hot, lanes, actions, S - 1
        self.h, self.y = torch.zeros(rows, n), torch.zeros(rows, n)
        self.wide = torch.zeros(rows, 4 * n)
        self.memory = torch.zeros(lanes * (S - 1), n)
        self.keys, self.values = (torch.zeros(L, lanes * (S - 1), hot.heads, n) for _ in range(2))
        self.kv = torch.zeros(L, lanes * (S - 1), 2 * n + hot.heads)
        self.position = (net.pos_emb[0, :actions] + 0.0).detach().contiguous()
        self.slots: dict[int, Tensor] = {}
        self._observe = self._observe_program()

    def _observe_program(self) -> Program:
        """Memory tokens -> keys, biases and values of every layer."""
        program, hot, n = Program(), self.hot, self.hot.n
        wide = torch.zeros(len(self.memory), 4 * n)
        encoded = torch.zeros(len(self.memory), n)
        weights = hot.weights
        program.linear(self.memory, weights[hot.encode_up], wide, Epilogue.MISH)
        program.linear(wide, weights[hot.encode_down], encoded)
        d = n // hot.heads
        for memory, kv, keys, values in zip(hot.memories, self.kv, self.keys, self.values, strict=True):
            program.linear(encoded, weights[memory.kv], kv)
            for head in range(hot.heads):
                at = head * d
                program.linear(kv[:, at : at + d], weights[memory.keys[head]], keys[:, head])
                program.linear(kv[:, n + at : n + at + d], weights[memory.values[head]], values[:, head])
        return program

    def observe(self, condition: Float[Tensor, "B S n"], threads: int) -> None:
        """Take a decision's memory tokens in."""
        self.memory.copy_(condition.flatten(0, 1))
        self._observe.run(threads)

    def evaluation(self, program: Program, k: Level, instructions: Code | None) -> None:
        """Append ``pred = network(x, k)``, as straight-line code over blocks where that is given."""
        if instructions is None:
            instructions = tuple(Run(block, None) for block in range(self.hot.net.blocks))
        self.begin(program)
        for instruction in instructions:
            match instruction:
                case Run(block, None):
                    self.block(program, block, k, None)
                case Run(block, int(slot)):
                    self.block(program, block, k, self.slot(slot))
                    self._add(program, self.slot(slot), self.h)
                case Sum(slots, into):
                    program.add(Kind.COPY, (self.h.numel(), 1), (self.slot(slots[0]), self.slot(into)))
                    for slot in slots[1:]:
                        self._add(program, self.slot(slot), self.slot(into))
                case Add(slot):
                    self._add(program, self.slot(slot), self.h)
        self.end(program)

    def begin(self, program: Program) -> None:
        """Append the embedding of x."""
        hot = self.hot
        program.add(Kind.COPY, (self.position.numel(), self.B), (self.position, self.h))
        program.linear(self.x.flatten(0, 1), hot.weights[hot.input], self.h, Epilogue.ACCUMULATE)

    def end(self, program: Program) -> None:
        """Append the prediction from the residual stream."""
        self._norm(program, self.hot.final_norm)
        program.linear(self.y, self.hot.weights[self.hot.head], self.pred.flatten(0, 1))

    def _norm(self, program: Program, norm: tuple[Tensor, Tensor]) -> None:
        program.add(Kind.LAYERNORM, (len(self.h), self.hot.n), (self.h, *norm, self.y))

    def block(self, program: Program, index: int, k: Level, slot: Tensor | None) -> None:
        """Append block ``index`` of ``TransformerForDiffusion``: into ``slot``, or onto the residual stream."""
        layer_index, kind = divmod(index, 3)
        hot, layer, weights = self.hot, self.hot.layers[layer_index], self.hot.weights
        dst, how = (self.h, Epilogue.ACCUMULATE) if slot is None else (slot, Epilogue.STORE)
        self._norm(program, layer.norms[kind])
        if kind == 0:
            qkv = self.wide.view(-1)[: len(self.h) * 3 * hot.n].view(len(self.h), 3 * hot.n)
            program.linear(self.y, weights[layer.qkv], qkv)
            sizes = (self.B, self.T, hot.heads, hot.n // hot.heads)
            program.add(Kind.SELF_ATTENTION, sizes, (qkv, self.y))
            program.linear(self.y, weights[layer.attended], dst, how)
        elif kind == 1:
            kv, To = self.kv[layer_index], hot.net.To
            sizes = (self.B, self.T, hot.heads, hot.n, self.tokens + 1, To, kv.shape[1], int(how))
            seen = (self.keys[layer_index], kv[:, 2 * hot.n :], self.values[layer_index])
            program.add(
                Kind.CROSS_ATTENTION, sizes, (self.y, dst, *hot.level(k)[layer_index], *seen, layer.crossed_bias)
            )
        else:
            program.linear(self.y, weights[layer.up], self.wide, Epilogue.GELU)
            program.linear(self.wide, weights[layer.down], dst, how)

    def slot(self, index: int) -> Tensor:
        """Buffer (B T, n) of what a block added."""
        return self.slots.setdefault(index, torch.zeros_like(self.h))

    def _add(self, program: Program, src: Tensor, dst: Tensor) -> None:
        program.add(Kind.ADD, (src.numel(),), (src, dst))


class TransformerDecision(HotDecision):
    """A batch of decisions whose blocks may be cached from one to the next."""

    def execute(
        self, x: Float[Tensor, "B T Da"], k: int, code: Code, slots: list[Tensor | None]
    ) -> Float[Tensor, "B T Da"]:
        """The network's output with blocks as the instructions have it; ``slots``, (B, T, n) each, are read and set."""
        session, key = self._session(x), (k, code)
        assert isinstance(session, TransformerSession), type(session)
        if key not in session.programs:
            session.evaluation(session.programs.setdefault(key, Program()), k, code)
        for slot in {i.slot for i in code if isinstance(i, Add)}:
            value = slots[slot]
            assert value is not None, slot
            session.slot(slot).copy_(value.flatten(0, 1))
        session.run(session.programs[key], x)
        for i in code:
            if isinstance(i, Run) and i.slot is not None:
                slots[i.slot] = session.slot(i.slot).clone().unflatten(0, (session.B, session.T))
        return session.pred.clone()
