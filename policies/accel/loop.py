"""The loop of a sampler without Python in its body: a step is a function of tensors, its coefficients among them.

One body serves every list of steps, which is why it is compiled, captured or exported once.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.accel.hot import HotStep
from policies.networks.base import Conditioning, Network

NUMBERS = 10
"""Numbers of a step: four of its split, four coefficients, that of the estimate before, and the limit of estimates."""

_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")
_OWN_WARNINGS = (r"`isinstance\(treespec, LeafSpec\)` is deprecated", r"`torch.jit.script_method` is deprecated")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that torch's compiler and exporter give of torch's own code, and without their log."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _OWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class Body(nn.Module):
    """One step of a descent: network, split, clipping, combination."""

    def __init__(self, net: Network):
        super().__init__()
        self.net = net

    def forward(
        self,
        x: Float[Tensor, "B T Da"],
        before: Float[Tensor, "B T Da"],
        numbers: Float[Tensor, " 10"],
        noise: Float[Tensor, "B T Da"],
        level: Conditioning,
        observed: Conditioning,
    ) -> tuple[Tensor, Tensor]:
        """The next sample, and the estimate of the clean chunk that it was made from."""
        pred = self.net.denoise(x, self.net.combine(level, observed))
        x_of_x, x_of_pred, eps_of_x, eps_of_pred, of_x0, of_x, of_eps, of_noise, of_before, limit = numbers.unbind()
        x0 = torch.minimum(torch.maximum(x_of_x * x + x_of_pred * pred, -limit), limit)
        eps = eps_of_x * x + eps_of_pred * pred
        return of_x0 * x0 + of_x * x + of_eps * eps + of_noise * noise + of_before * before, x0


class Observe(nn.Module):
    """The part of a network that runs once per decision."""

    def __init__(self, net: Network):
        super().__init__()
        self.net = net

    def forward(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Conditioning:
        """What the network makes of a condition."""
        return self.net.observe(steps, context)


def only_predict(k: int) -> HotStep:
    """A step whose result is the network's output."""
    return HotStep(k, (0.0, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))


class Tables:
    """What lists of steps are to the body of the loop, made once per list and kept."""

    def __init__(self, net: Network):
        self._net = net
        self._levels: dict[int, Conditioning] = {}
        self._tables: dict[tuple[tuple[HotStep, ...], bool], tuple[Tensor, Conditioning]] = {}

    def __call__(self, steps: tuple[HotStep, ...], *, clip: bool) -> tuple[Float[Tensor, "K 10"], Conditioning]:
        """Numbers of all steps, and what the network makes of their levels, stacked."""
        key = (steps, clip)
        if key not in self._tables:
            limit = 1.0 if clip else math.inf
            device = next(self._net.parameters()).device
            with torch.inference_mode(False), torch.no_grad():
                levels = [self._level(step.k, device) for step in steps]
                rows = [[*step.split, *step.coefs, step.before, limit] for step in steps]
                numbers = torch.tensor(rows, dtype=torch.float32, device=device)
                self._tables[key] = numbers, tuple(map(torch.stack, zip(*levels, strict=True)))
        return self._tables[key]

    def _level(self, k: int, device: torch.device) -> Conditioning:
        if k not in self._levels:
            self._levels[k] = self._net.level(torch.tensor([k], device=device))
        return self._levels[k]
