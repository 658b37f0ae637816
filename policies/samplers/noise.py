"""Noise whose value in a lane depends on that lane's seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class LaneNoise:
    """One CPU generator per lane: episodes get the same noise in whatever batch and on whatever device they run."""

    def __init__(self, generators: Sequence[torch.Generator], shape: tuple[int, ...], device: torch.device):
        self._generators, self._shape, self._device = tuple(generators), shape, device

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self._generators)

    def draw(self) -> Float[Tensor, "B Tp Da"]:
        """Draw the next standard normal sample of every lane."""
        lanes = [torch.randn(self._shape, generator=g) for g in self._generators]
        return torch.stack(lanes).to(self._device)


def seeded(*entropy: int) -> torch.Generator:
    """A CPU generator for a tuple of integers; nearby tuples give unrelated streams."""
    words = np.random.SeedSequence([value % 2**64 for value in entropy]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
