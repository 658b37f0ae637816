"""Engines of torch itself: the loop on buffers that never move, with a compiled body or captured as a whole.

``CudaGraphEngine`` has been run by nobody yet: there was no GPU where it was written. What it captures, the loop on
static buffers, is the same code that runs on the CPU (``TorchEngine``) and is tested there; the capture follows torch's
documentation of CUDA graphs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.accel.bac_plan import Plan
from policies.accel.hot import HotStep
from policies.accel.loop import Body, Observe, Tables, only_predict, quiet
from policies.networks.base import Conditioning, Network
from robostack.errors import DeviceUnavailable


@dataclass(frozen=True)
class Parts:
    """What a descent is made of: ``observe`` once, ``body`` for every step."""

    observe: Callable[..., Conditioning]
    body: Callable[..., tuple[Tensor, Tensor]]


class Descent:
    """Buffers for one list of steps and one shape, and the loop on them; ``run`` reads x, steps, context and noise.

    Randomness stays outside: noise is drawn by the caller and copied in.
    """

    def __init__(self, parts: Parts, table: tuple[Tensor, Conditioning], *, like: tuple[Tensor, Tensor, Tensor]):
        self._parts, (self._numbers, self._levels) = parts, table
        self.x, self.steps, self.context = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in like)
        self.noise = self.x.new_zeros(len(self._numbers), *self.x.shape)
        self.run: Callable[[], None] = self.loop
        self.chunk = self.x

    def loop(self) -> None:
        """Descend; leaves the result in ``chunk``."""
        observed = self._parts.observe(self.steps, self.context)
        x, before = self.x, torch.zeros_like(self.x)
        for i, numbers in enumerate(self._numbers):
            level = tuple(part[i] for part in self._levels)
            x, before = self._parts.body(x, before, numbers, self.noise[i], level, observed)
        self.chunk = x

    def capture(self) -> None:
        """Replay the loop from a CUDA graph from now on: ``chunk`` then is memory of the graph."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries choose their kernels and take their workspaces, which no graph may hold
                self.loop()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loop()
        self.run = graph.replay


class TorchEngine:
    """The loop on static buffers in eager mode, one ``Descent`` per list of steps, shape and number of threads."""

    plans = False

    def __init__(self, net: Network):
        self.net, self.tables = net, Tables(net)
        self._descents: dict[tuple, Descent] = {}

    def decision(
        self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"], plan: Plan | None
    ) -> TorchDecision:
        """A batch of decisions under a condition."""
        assert plan is None, "the policy refuses samplers with a plan"
        return TorchDecision(self, steps, context)

    def descent(self, like: tuple[Tensor, Tensor, Tensor], steps: tuple[HotStep, ...], *, clip: bool) -> Descent:
        """Buffers for a list of steps and tensors like x, steps and context."""
        key = (steps, clip, *(t.shape for t in like), torch.get_num_threads())
        if key not in self._descents:
            table = self.tables(steps, clip=clip)
            self._descents[key] = self.prepared(Descent(self.parts(like), table, like=like))
        return self._descents[key]

    def parts(self, like: tuple[Tensor, Tensor, Tensor]) -> Parts:
        """The network's parts for shapes like those of x, steps and context."""
        del like  # Unused.
        return Parts(Observe(self.net), Body(self.net))

    def prepared(self, descent: Descent) -> Descent:
        """A descent that is ready to run."""
        return descent


class TorchDecision:
    """One batch of decisions: its condition."""

    def __init__(self, engine: TorchEngine, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]):
        self._engine, self._steps, self._context = engine, steps, context

    def predict(self, x: Float[Tensor, "B T Da"], k: int) -> Float[Tensor, "B T Da"]:
        """The network's output at diffusion step k."""
        return self.descend(x, (only_predict(k),), [None], clip=False)

    def descend(
        self, x: Float[Tensor, "B T Da"], steps: tuple[HotStep, ...], noise: Sequence[Tensor | None], *, clip: bool
    ) -> Float[Tensor, "B T Da"]:
        """A whole descent."""
        with torch.inference_mode(False), torch.no_grad():  # the buffers outlive the mode that they are made in
            descent = self._engine.descent((x, self._steps, self._context), steps, clip=clip)
            descent.x.copy_(x)
            descent.steps.copy_(self._steps)
            descent.context.copy_(self._context)
            for row, drawn in zip(descent.noise, noise, strict=True):
                if drawn is not None:
                    row.copy_(drawn)
            descent.run()
            return descent.chunk.clone()


class CompiledEngine(TorchEngine):
    """``accelerate=compile``: torch's compiler for both parts, once per shape and number of threads.

    The body of the loop is what is compiled, not the loop: coefficients are tensors, so nothing depends on a step.
    """

    def __init__(self, net: Network):
        super().__init__(net)
        if compiler() is None:
            raise DeviceUnavailable(
                f"accelerate=compile needs a C++ compiler, and there is no {_wanted()}: install g++, or use none"
            )
        self._compiled: dict[tuple, Parts] = {}

    def parts(self, like: tuple[Tensor, Tensor, Tensor]) -> Parts:
        """Compiled on first use."""
        key = (*(t.shape for t in like), torch.get_num_threads())
        if key not in self._compiled:
            x, steps, context = (torch.zeros_like(t) for t in like)
            numbers, levels = self.tables((only_predict(0),), clip=False)
            observe, observed = _compiled(Observe(self.net), (steps, context))
            level = tuple(part[0] for part in levels)
            body, _ = _compiled(Body(self.net), (x, x.clone(), numbers[0], x.clone(), level, observed))
            self._compiled[key] = Parts(observe, body)
        return self._compiled[key]


def compiler() -> str | None:
    """Path of the compiler that torch will call; None for none."""
    return shutil.which(_wanted())


def _wanted() -> str:
    return os.environ.get("CXX", "g++")


def _compiled(module: nn.Module, examples: tuple) -> tuple[Callable, tuple]:
    """The compiled module, and what it makes of the examples."""
    try:
        with quiet():
            graph = torch.export.export(module.eval(), examples).module()  # of plain operations only
            function = torch.compile(graph, fullgraph=True, dynamic=False)
            return function, function(*examples)
    except Exception as error:  # torch wraps what the system's compiler says in several types of its own
        reason = " ".join(str(error).split("\n")[:2]) or type(error).__name__
        raise DeviceUnavailable(
            f"accelerate=compile: torch cannot compile here ({reason}): use accelerate=none or onnx"
        ) from error


class CudaGraphEngine(TorchEngine):
    """``accelerate=cuda_graph``: a decision is one launch; the network is moved to the GPU."""

    def __init__(self, net: Network):
        if not torch.cuda.is_available():
            raise DeviceUnavailable(
                "accelerate=cuda_graph needs an NVIDIA GPU, and torch sees none: use accelerate=native, onnx or none"
            )
        super().__init__(net.to("cuda"))

    def prepared(self, descent: Descent) -> Descent:
        """Captured."""
        descent.capture()
        return descent
