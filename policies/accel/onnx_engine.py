"""``accelerate=onnx``: a decision is one run of one graph by ONNX Runtime on the CPU.

The steps' coefficients, what the network makes of their levels, and their noise are inputs of the graph, so that it
serves every sampler and every number of lanes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from policies.accel.bac_plan import Plan
from policies.accel.hot import HotStep
from policies.accel.loop import Observe, Tables, only_predict
from policies.accel.onnx_graph import exported_step, level_names, looped, open_session, require_onnx
from policies.networks.base import Network
from robostack.errors import ConfigError


class OnnxEngine:
    """The graph of a network, made for its first decision, and sessions per shape and number of threads.

    It is a snapshot: weights that change later are not noticed.
    """

    plans = False

    def __init__(self, net: Network):
        require_onnx(net)
        if next(net.parameters()).device.type != "cpu":
            raise ConfigError("accelerate=onnx runs on the CPU: use device=cpu, or accelerate=none")
        self.net, self.tables = net, Tables(net)
        self._graphs: dict[tuple[torch.Size, ...], bytes] = {}
        self._sessions: dict[tuple, Session] = {}

    def decision(
        self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"], plan: Plan | None
    ) -> OnnxDecision:
        """A batch of decisions under a condition."""
        assert plan is None, "the policy refuses samplers with a plan"
        return OnnxDecision(self, steps, context)

    def session(self, x: Tensor, steps: Tensor, context: Tensor) -> Session:
        """The session for these shapes and torch's number of threads."""
        sizes = (x.shape[1:], steps.shape[1:], context.shape[1:])
        key = (len(x), torch.get_num_threads(), sizes)
        if key not in self._sessions:
            if sizes not in self._graphs:
                self._graphs[sizes] = self._graph(*sizes)
            self._sessions[key] = Session(self._graphs[sizes], count=len(x), threads=torch.get_num_threads())
        return self._sessions[key]

    def _graph(self, *sizes: torch.Size) -> bytes:
        with torch.inference_mode(False):
            x, steps, context = (torch.zeros(2, *size) for size in sizes)
        step = exported_step(self.net, Observe(self.net), x, {"steps": steps, "context": context})
        return looped(step, None, start="x", constants={}, drawn=True)


class Session:
    """The graph for a number of lanes."""

    def __init__(self, model: bytes, *, count: int, threads: int):
        self._session = open_session(model, threads, count)
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, feeds: dict[str, Tensor]) -> Tensor:
        """The chunk."""
        arrays = {name: tensor.numpy() for name, tensor in feeds.items() if name in self._inputs}
        (chunk,) = self._session.run(["chunk"], arrays)
        return torch.from_numpy(np.asarray(chunk))


class OnnxDecision:
    """One batch of decisions: its condition."""

    def __init__(self, engine: OnnxEngine, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]):
        self._engine, self._condition = engine, {"steps": steps.contiguous(), "context": context.contiguous()}

    def predict(self, x: Float[Tensor, "B T Da"], k: int) -> Float[Tensor, "B T Da"]:
        """The network's output at diffusion step k."""
        return self.descend(x, (only_predict(k),), [None], clip=False)

    def descend(
        self, x: Float[Tensor, "B T Da"], steps: tuple[HotStep, ...], noise: Sequence[Tensor | None], *, clip: bool
    ) -> Float[Tensor, "B T Da"]:
        """A whole descent in one run."""
        numbers, levels = self._engine.tables(steps, clip=clip)
        drawn = x.new_zeros(len(steps), *x.shape)
        for row, sample in zip(drawn, noise, strict=True):
            if sample is not None:
                row.copy_(sample)
        feeds = {"x": x.contiguous(), **self._condition, "numbers": numbers, "noise": drawn}
        feeds |= dict(zip(level_names(levels), levels, strict=True))
        return self._engine.session(x, self._condition["steps"], self._condition["context"]).run(feeds)
