"""What may run a network for a policy that acts, by the names of ``accelerate=``.

All engines take the same: the condition of a batch of decisions, and a whole descent at once. They differ in what they
need. ``native`` compiles our own C++, ``onnx`` hands one graph per decision to ONNX Runtime, ``compile`` lets torch's
compiler have the body of the loop, ``cuda_graph`` replays the loop on a GPU without Python in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from policies.accel.bac_plan import Plan
from policies.accel.hot import WEIGHTS, HotStep
from policies.networks.base import Network
from policies.networks.transformer import TransformerForDiffusion
from policies.networks.unet1d import ConditionalUnet1D
from robostack.errors import ConfigError
from robostack.registry import Registry


@runtime_checkable
class Running(Protocol):
    """One batch of decisions: a network with its condition."""

    def predict(self, x: Float[Tensor, "B T Da"], k: int) -> Float[Tensor, "B T Da"]:
        """The network's output at diffusion step k."""
        ...

    def descend(
        self, x: Float[Tensor, "B T Da"], steps: tuple[HotStep, ...], noise: Sequence[Tensor | None], *, clip: bool
    ) -> Float[Tensor, "B T Da"]:
        """A whole descent: every step with its noise; estimates clipped to [-1, 1] where asked."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Runs a network whose weights do not change any more.

    Attributes:
        plans: whether it runs the plans of block-wise caching.
    """

    plans: bool

    def decision(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"], plan: Plan | None) -> Running:
        """A batch of decisions under a condition; with a plan only where ``plans`` says so."""
        ...


def _native(net: Network, how: str = "native") -> Engine:
    from policies.accel.hot_transformer import HotTransformer
    from policies.accel.hot_unet import HotUnet

    match net:
        case TransformerForDiffusion():
            return HotTransformer(net, WEIGHTS[how])
        case ConditionalUnet1D():
            return HotUnet(net, WEIGHTS[how])
    raise ConfigError(f"accelerate={how} has no programs for {type(net).__name__}: use none, onnx or compile")


def _onnx(net: Network) -> Engine:
    from policies.accel.onnx_engine import OnnxEngine

    return OnnxEngine(net)


def _compile(net: Network) -> Engine:
    from policies.accel.torch_engines import CompiledEngine

    return CompiledEngine(net)


def _cuda_graph(net: Network) -> Engine:
    from policies.accel.torch_engines import CudaGraphEngine

    return CudaGraphEngine(net)


ACCELERATORS: Registry[Callable[[Network], Engine]] = Registry("acceleration")
for _how in WEIGHTS:
    ACCELERATORS.add(_how, partial(_native, how=_how))
ACCELERATORS.add("onnx", _onnx)
ACCELERATORS.add("compile", _compile)
ACCELERATORS.add("cuda_graph", _cuda_graph)
