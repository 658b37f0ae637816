"""Noise whose value in a lane depends on that lane's seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


class LaneNoise:
    """One CPU generator per lane: episodes get the same noise in whatever batch and on whatever device they run."""

    def __init__(self, generators: Sequence[torch.Generator | None], shape: tuple[int, ...], device: torch.device):
        self._generators, self._shape, self._device = tuple(generators), shape, device

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self._generators)

    def only(self, mask: Bool[Tensor, " B"]) -> LaneNoise:
        """The same streams, of which only the lanes of ``mask`` advance; the others get zeros.

        Lanes that denoise along different lists need different numbers of draws, and no lane may notice the others.
        """
        chosen = zip(self._generators, mask.tolist(), strict=True)
        return LaneNoise([g if g is not None and on else None for g, on in chosen], self._shape, self._device)

    def draw(self) -> Float[Tensor, "B Tp Da"]:
        """Draw the next standard normal sample of every lane."""
        lanes = [
            torch.zeros(self._shape) if g is None else torch.randn(self._shape, generator=g) for g in self._generators
        ]
        return torch.stack(lanes).to(self._device)


def seeded(*entropy: int) -> torch.Generator:
    """A CPU generator for a tuple of integers; nearby tuples give unrelated streams."""
    words = np.random.SeedSequence([value % 2**64 for value in entropy]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
