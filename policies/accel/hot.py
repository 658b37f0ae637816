"""The transformer's denoising as native programs: a whole descent of K steps is one call.

Everything that depends on the diffusion step alone is computed once per checkpoint, everything that depends on the
observation alone once per decision; what remains per step is self-attention, a cross-attention to four folded tokens
and the feed-forward layers, in that order of memory. Being causal, the network may be run on the first actions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from policies.accel.bac import Add, Code, Run, Sum
from policies.accel.bac_plan import Plan, position
from policies.accel.native import Epilogue, Kind, Program, library, packed, resident
from policies.networks.transformer import TransformerForDiffusion
from robostack.errors import ConfigError

_MEMORY = 64  # Tokens that the cross-attention of native.cpp has room for.


@dataclass(frozen=True)
class _Linear:
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class _Layer:
    norms: tuple[tuple[Tensor, Tensor], ...]
    qkv: _Linear
    attended: _Linear
    up: _Linear
    down: _Linear
    memory: _Linear
    keys: tuple[_Linear, ...]
    values: tuple[_Linear, ...]
    crossed_bias: Tensor


class HotTransformer:
    """Packed weights of a network and the programs that were made for it.

    It is a snapshot: weights that change later are not noticed.
    """

    def __init__(self, net: TransformerForDiffusion):
        if net.cfg.n_cond_layers:
            raise ConfigError("accelerate=native needs network.n_cond_layers=0: use accelerate=none")
        if net.cond_pos_emb.shape[1] > _MEMORY:
            raise ConfigError(f"accelerate=native takes up to {_MEMORY - 2} observations: use accelerate=none")
        if net.mask.device.type != "cpu":
            raise ConfigError("accelerate=native runs on the CPU: use device=cpu, or accelerate=none")
        library()
        self.net = net
        self.n, self.heads = net.cfg.n_emb, net.cfg.n_head
        self._pack()
        self._levels: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._sessions: dict[tuple[int, int], Session] = {}

    def _pack(self) -> None:
        net, tensors = self.net, []

        def keep(weight: Tensor, bias: Tensor | None) -> tuple[int, int | None]:
            tensors.append(packed(weight))
            if bias is not None:
                tensors.append(bias)
            return len(tensors) - 1 - (bias is not None), None if bias is None else len(tensors) - 1

        with torch.no_grad():
            places = [self._layer_weights(layer, keep) for layer in net.layers]
            small = [keep(m.weight, m.bias) for m in (net.input_emb, net.head)]
            memory = [self._memory_weights(layer, keep) for layer in net.layers]
            small += [keep(net.encoder[i].weight, net.encoder[i].bias) for i in (0, 2)]  # pyright: ignore[reportIndexIssue]
            views = resident([t.detach() for t in tensors])

        def of(place: tuple[int, int | None]) -> _Linear:
            return _Linear(views[place[0]], None if place[1] is None else views[place[1]])

        self.input, self.head, self.encode_up, self.encode_down = (of(place) for place in small)
        self.layers = [
            _Layer(
                norms=tuple((m.weight.detach(), m.bias.detach()) for m in (layer.norm1, layer.norm2, layer.norm3)),
                qkv=of(step[0]), attended=of(step[1]), up=of(step[2]), down=of(step[3]), memory=of(kv),
                keys=tuple(of(place) for place in keys), values=tuple(of(place) for place in values),
                crossed_bias=layer.multihead_attn.out_proj.bias.detach(),
            )
            for layer, step, (kv, keys, values) in zip(net.layers, places, memory, strict=True)
        ]  # fmt: skip
        self.final_norm = (net.ln_f.weight.detach(), net.ln_f.bias.detach())

    def _layer_weights(self, layer, keep) -> list[tuple[int, int | None]]:
        scale = torch.ones(3 * self.n)
        scale[: self.n] = (self.n // self.heads) ** -0.5
        attention = layer.self_attn
        return [
            keep(attention.in_proj_weight * scale[:, None], attention.in_proj_bias * scale),
            keep(attention.out_proj.weight, attention.out_proj.bias),
            keep(layer.linear1.weight, layer.linear1.bias),
            keep(layer.linear2.weight, layer.linear2.bias),
        ]

    def _memory_weights(self, layer, keep):
        """Keys, values and biases of memory tokens as one product, then the two folds of every head."""
        n, d, attention = self.n, self.n // self.heads, layer.multihead_attn
        weight, bias, scale = attention.in_proj_weight, attention.in_proj_bias, d**-0.5
        queries = (bias[:n] * scale).view(self.heads, d)
        rows = torch.einsum("hd,hdn->hn", queries, weight[n : 2 * n].view(self.heads, d, n))
        offsets = torch.einsum("hd,hd->h", queries, bias[n : 2 * n].view(self.heads, d))
        kv = keep(torch.cat([weight[n:], rows]), torch.cat([bias[n:], offsets]))
        cut = [slice(h * d, (h + 1) * d) for h in range(self.heads)]
        keys = [keep(weight[:n][c].t() * scale, None) for c in cut]
        return kv, keys, [keep(attention.out_proj.weight[:, c], None) for c in cut]

    def level(self, k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Keys (H, n), bias (H,) and values (H, n) of the diffusion step's token in every layer."""
        if k not in self._levels:
            keys, bias, values = self.net.level(torch.tensor([k]))
            self._levels[k] = [
                (a[0, ..., 0].t().contiguous(), b[0, :, 0].contiguous(), c[0, :, 0].contiguous())
                for a, b, c in zip(keys, bias, values, strict=True)
            ]
        return self._levels[k]

    def session(self, lanes: int, actions: int) -> Session:
        """Buffers and programs for a shape."""
        key = (lanes, actions)
        if key not in self._sessions:
            self._sessions[key] = Session(self, lanes, actions)
        return self._sessions[key]


@dataclass(frozen=True)
class HotStep:
    """One step of a descent: estimate at level k, then ``x = sum of coefs * (x0 clipped, x, eps, noise)``.

    Attributes:
        k: diffusion step.
        split: x0 and eps from x and the prediction: ``x0 = split[0] x + split[1] pred``, ``eps = split[2] x + ...``.
        coefs: of x0, x, eps, noise.
    """

    k: int
    split: tuple[float, float, float, float]
    coefs: tuple[float, float, float, float]


class Session:
    """Buffers for B lanes and T actions, and the programs on them."""

    def __init__(self, hot: HotTransformer, lanes: int, actions: int):
        net, n, L = hot.net, hot.n, len(hot.layers)
        S = net.cond_pos_emb.shape[1]
        self.hot, self.B, self.T, self.tokens = hot, lanes, actions, S - 1
        rows, Da = lanes * actions, net.head.out_features
        self.x, self.pred = torch.zeros(lanes, actions, Da), torch.zeros(lanes, actions, Da)
        self.h, self.y = torch.zeros(rows, n), torch.zeros(rows, n)
        self.wide = torch.zeros(rows, 4 * n)
        self.memory = torch.zeros(lanes * (S - 1), n)
        self.keys, self.values = (torch.zeros(L, lanes * (S - 1), hot.heads, n) for _ in range(2))
        self.kv = torch.zeros(L, lanes * (S - 1), 2 * n + hot.heads)
        self.position = (net.pos_emb[0, :actions] + 0.0).detach().contiguous()
        self.slots: dict[int, Tensor] = {}
        self.noise: dict[int, Tensor] = {}
        self.programs: dict[tuple, Program] = {}
        self.owner: HotDecision | None = None
        self._observe = self._observe_program()

    def _observe_program(self) -> Program:
        """Memory tokens -> keys, biases and values of every layer."""
        program, hot, n = Program(), self.hot, self.hot.n
        wide = torch.zeros(len(self.memory), 4 * n)
        encoded = torch.zeros(len(self.memory), n)
        program.linear(self.memory, hot.encode_up.weight, hot.encode_up.bias, wide, Epilogue.MISH)
        program.linear(wide, hot.encode_down.weight, hot.encode_down.bias, encoded)
        d = n // hot.heads
        for index, layer in enumerate(hot.layers):
            kv = self.kv[index]
            program.linear(encoded, layer.memory.weight, layer.memory.bias, kv)
            for head in range(hot.heads):
                at = head * d
                program.linear(kv[:, at : at + d], layer.keys[head].weight, None, self.keys[index][:, head])
                program.linear(kv[:, n + at : n + at + d], layer.values[head].weight, None, self.values[index][:, head])
        return program

    def observe(self, tokens: Float[Tensor, "B S n"], threads: int) -> None:
        """Take a decision's memory tokens in."""
        self.memory.copy_(tokens.flatten(0, 1))
        self._observe.run(threads)

    def evaluation(self, program: Program, k: int) -> None:
        """Append ``pred = network(x, k)``."""
        self.begin(program)
        for block in range(self.hot.net.blocks):
            self.block(program, block, k, None)
        self.end(program)

    def drawn(self, index: int) -> Tensor:
        """Buffer for the noise of step ``index``."""
        return self.noise.setdefault(index, torch.zeros_like(self.x))

    def begin(self, program: Program) -> None:
        """Append the embedding of x."""
        hot = self.hot
        program.add(Kind.COPY, (self.position.numel(), self.B), (self.position, self.h))
        program.linear(self.x.flatten(0, 1), hot.input.weight, hot.input.bias, self.h, Epilogue.ACCUMULATE)

    def end(self, program: Program) -> None:
        """Append the prediction from the residual stream."""
        self._norm(program, self.hot.final_norm)
        program.linear(self.y, self.hot.head.weight, self.hot.head.bias, self.pred.flatten(0, 1))

    def step(self, program: Program, step: HotStep, noise: Tensor | None, *, clip: bool) -> None:
        """Append the sampler's step from pred."""
        tensors = (self.x, self.pred, noise)
        program.add(Kind.STEP, (self.x.numel(), int(clip)), tensors, (*step.split, *step.coefs))

    def _norm(self, program: Program, norm: tuple[Tensor, Tensor]) -> None:
        program.add(Kind.LAYERNORM, (len(self.h), self.hot.n), (self.h, *norm, self.y))

    def block(self, program: Program, index: int, k: int, slot: Tensor | None) -> None:
        """Append block ``index`` of ``TransformerForDiffusion``: into ``slot``, or onto the residual stream."""
        layer_index, kind = divmod(index, 3)
        hot, layer = self.hot, self.hot.layers[layer_index]
        dst, how = (self.h, Epilogue.ACCUMULATE) if slot is None else (slot, Epilogue.STORE)
        self._norm(program, layer.norms[kind])
        if kind == 0:
            qkv = self.wide.view(-1)[: len(self.h) * 3 * hot.n].view(len(self.h), 3 * hot.n)
            program.linear(self.y, layer.qkv.weight, layer.qkv.bias, qkv)
            sizes = (self.B, self.T, hot.heads, hot.n // hot.heads)
            program.add(Kind.SELF_ATTENTION, sizes, (qkv, self.y))
            program.linear(self.y, layer.attended.weight, layer.attended.bias, dst, how)
        elif kind == 1:
            kv, To = self.kv[layer_index], hot.net.To
            sizes = (self.B, self.T, hot.heads, hot.n, self.tokens + 1, To, kv.shape[1], int(how))
            seen = (self.keys[layer_index], kv[:, 2 * hot.n :], self.values[layer_index])
            program.add(
                Kind.CROSS_ATTENTION, sizes, (self.y, dst, *hot.level(k)[layer_index], *seen, layer.crossed_bias)
            )
        else:
            program.linear(self.y, layer.up.weight, layer.up.bias, self.wide, Epilogue.GELU)
            program.linear(self.wide, layer.down.weight, layer.down.bias, dst, how)

    def call(self, program: Program, k: int, plan: Plan | None, call: int | None) -> None:
        """Append ``pred = network(x, k)``, as call ``call`` of a plan where there is one."""
        if plan is None or call is None:
            self.evaluation(program, k)
            return
        self.code(program, k, plan.calls[call])

    def code(self, program: Program, k: int, code: Code) -> None:
        """Append ``pred = network(x, k)``, with the blocks as the instructions have it."""
        self.begin(program)
        for instruction in code:
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

    def slot(self, index: int) -> Tensor:
        """Buffer (B T, n) of what a block added."""
        return self.slots.setdefault(index, torch.zeros_like(self.h))

    def _add(self, program: Program, src: Tensor, dst: Tensor) -> None:
        program.add(Kind.ADD, (src.numel(),), (src, dst))


class HotDecision:
    """One batch of decisions: its condition, and where in the plan it is."""

    def __init__(self, hot: HotTransformer, tokens: Float[Tensor, "B S n"], plan: Plan | None):
        self._hot, self._tokens, self._plan = hot, tokens, plan
        self._next = 0

    def predict(self, x: Float[Tensor, "B T Da"], k: int) -> Float[Tensor, "B T Da"]:
        """The network's output at diffusion step k."""
        session, plan = self._session(x), self._plan
        call = None if plan is None else position(plan, self._next, k)
        self._next = 0 if call is None else call + 1
        key = (k, None if plan is None else plan.updates, call)
        if key not in session.programs:
            session.call(session.programs.setdefault(key, Program()), k, plan, call)
        session.x.copy_(x)
        session.programs[key].run(torch.get_num_threads())
        return session.pred.clone()

    def descend(
        self, x: Float[Tensor, "B T Da"], steps: tuple[HotStep, ...], noise: Sequence[Tensor | None], *, clip: bool
    ) -> Float[Tensor, "B T Da"]:
        """A whole descent in one call."""
        session, plan = self._session(x), self._plan
        key = (steps, None if plan is None else plan.updates, clip)
        if key not in session.programs:
            program, calls = session.programs.setdefault(key, Program()), 0
            for index, step in enumerate(steps):
                call = None if plan is None else position(plan, calls, step.k)
                calls = 0 if call is None else call + 1
                session.call(program, step.k, plan, call)
                session.step(program, step, None if noise[index] is None else session.drawn(index), clip=clip)
        session.x.copy_(x)
        for index, drawn in enumerate(noise):
            if drawn is not None:
                session.drawn(index).copy_(drawn)
        session.programs[key].run(torch.get_num_threads())
        return session.x.clone()

    def execute(
        self, x: Float[Tensor, "B T Da"], k: int, code: Code, slots: list[Tensor | None]
    ) -> Float[Tensor, "B T Da"]:
        """The network's output with blocks as the instructions have it; ``slots``, (B, T, n) each, are read and set."""
        session, key = self._session(x), (k, code)
        if key not in session.programs:
            session.code(session.programs.setdefault(key, Program()), k, code)
        for slot in {i.slot for i in code if isinstance(i, Add)}:
            value = slots[slot]
            assert value is not None, slot
            session.slot(slot).copy_(value.flatten(0, 1))
        session.x.copy_(x)
        session.programs[key].run(torch.get_num_threads())
        for i in code:
            if isinstance(i, Run) and i.slot is not None:
                slots[i.slot] = session.slot(i.slot).clone().unflatten(0, (session.B, session.T))
        return session.pred.clone()

    def _session(self, x: Tensor) -> Session:
        """The session for x's shape, with this decision's condition in it."""
        session = self._hot.session(x.shape[0], x.shape[1])
        if session.owner is not self:
            session.observe(self._tokens, torch.get_num_threads())
            session.owner = self
        return session
