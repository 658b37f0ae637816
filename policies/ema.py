"""Exponential moving average of weights with the warm-up of Diffusion Policy (arXiv 2303.04137, after K. Crowson)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def ema_decay(updates: int, *, inv_gamma: float = 1.0, power: float = 0.75, max_decay: float = 0.9999) -> float:
    """Decay of the update that follows ``updates`` earlier ones: ``clip(1 - (1 + t / inv_gamma)^-power, 0, max)``.

    t counts from the second update: the first two copy the weights.
    """
    t = max(0, updates - 1)
    return 0.0 if t == 0 else min(max(1 - (1 + t / inv_gamma) ** -power, 0.0), max_decay)


class Ema:
    """Averages trainable parameters in place; buffers are constants here (normalisers) and are not averaged."""

    def __init__(self, params: Iterable[nn.Parameter], *, power: float = 0.75, max_decay: float = 0.9999):
        self._live = list(params)
        self.params: list[Tensor] = [p.detach().clone() for p in self._live]
        self.updates = 0
        self._power, self._max_decay = power, max_decay

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the live weights; call once after each optimiser step."""
        decay = ema_decay(self.updates, power=self._power, max_decay=self._max_decay)
        torch._foreach_lerp_(self.params, [p.detach() for p in self._live], 1.0 - decay)
        self.updates += 1

    @torch.no_grad()
    def load(self, params: Sequence[Tensor], updates: int) -> None:
        """Restore averages and their number of updates."""
        for mine, other in zip(self.params, params, strict=True):
            mine.copy_(other)
        self.updates = updates
