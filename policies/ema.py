"""Exponential moving average of weights with the warm-up of Diffusion Policy (arXiv 2303.04137, after K. Crowson)."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def ema_decay(updates: int, *, inv_gamma: float = 1.0, power: float = 0.75, max_decay: float = 0.9999) -> float:
    """Decay of the update that follows ``updates`` earlier ones: ``clip(1 - (1 + t / inv_gamma)^-power, 0, max)``.

    t counts from the second update: the first two copy the weights.
    """
    t = max(0, updates - 1)
    return 0.0 if t == 0 else min(max(1 - (1 + t / inv_gamma) ** -power, 0.0), max_decay)


class Ema(Generic[M]):
    """A second copy of a model whose parameters trail the first; buffers are constants here and are not averaged.

    Attributes:
        model: the averaged copy, in evaluation mode and without gradients.
        updates: number of updates so far.
    """

    def __init__(self, live: M, *, power: float = 0.75, max_decay: float = 0.9999):
        self.model: M = copy.deepcopy(live).requires_grad_(False).eval()
        self.updates = 0
        self._live = [p.detach() for p in live.parameters()]
        self._mean = [p.detach() for p in self.model.parameters()]
        self._power, self._max_decay = power, max_decay

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the live weights; call once after each optimiser step."""
        decay = ema_decay(self.updates, power=self._power, max_decay=self._max_decay)
        torch._foreach_lerp_(self._mean, self._live, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
        self.updates += 1

    @torch.no_grad()
    def adopt(self) -> None:
        """Set the live weights to the averages, and average anew from there."""
        torch._foreach_copy_(self._live, self._mean)  # pyright: ignore[reportPrivateImportUsage]
        self.updates = 0
