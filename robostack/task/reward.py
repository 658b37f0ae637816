"""Rewards from progress: potential-based shaping, and bonuses for rarely seen progress."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from robostack.errors import DataError

GAMMA = 0.99
BINS, FEWEST_BINS = 64, 8
BONUS = 1e-3


class Shaping:
    """F = gamma * phi(s') - phi(s): changes what is learned first, not what is optimal (Ng, Harada, Russell 1999).

    For that the potential of a terminal state has to be 0 (Grzes 2017); a truncated episode goes on as far as the
    learner knows, and keeps it.
    """

    def __init__(self, gamma: float = GAMMA):
        self.gamma = gamma
        self._last = 0.0

    def reset(self, phi: float) -> None:
        """Start an episode in a state of potential ``phi``."""
        self._last = phi

    def step(self, phi: float, *, terminal: bool) -> float:
        """Reward for coming to a state of potential ``phi``."""
        potential = 0.0 if terminal else phi
        reward = self.gamma * potential - self._last
        self._last = potential
        return reward


class CountBonus:
    """Exploration bonus 1e-3 / sqrt(N) of the cell of progress that a state lies in (ProgressCounts, arXiv 2410.09187).

    A cell is a tuple of one bin per component of progress; component k has max(8, 64 * weight_k) bins, so that later
    stages are told apart more finely. N counts the visits, this one included.

    Attributes:
        bins: number of bins per component.
    """

    def __init__(self, weights: Sequence[float], *, scale: float = BONUS):
        self.bins = tuple(max(FEWEST_BINS, round(BINS * weight)) for weight in weights)
        self._scale = scale
        self._counts: Counter[tuple[int, ...]] = Counter()

    def cell(self, components: Sequence[float]) -> tuple[int, ...]:
        """The cell of a vector of components in [0, 1]; 1 has a bin of its own, as only what holds attains it."""
        assert len(components) == len(self.bins), (len(components), len(self.bins))
        return tuple(math.floor(min(max(c, 0.0), 1.0) * n) for c, n in zip(components, self.bins, strict=True))

    def visit(self, components: Sequence[float]) -> float:
        """Count a visit; returns its bonus."""
        cell = self.cell(components)
        self._counts[cell] += 1
        return self._scale / math.sqrt(self._counts[cell])

    def __len__(self) -> int:
        """Number of different cells seen."""
        return len(self._counts)

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values for a checkpoint."""
        cells = sorted(self._counts)
        return {"bins": list(self.bins), "cells": [list(c) for c in cells], "counts": [self._counts[c] for c in cells]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a checkpoint; raises DataError when it is of another task, or damaged. Nothing changes then."""
        try:
            bins, cells, counts = state["bins"], state["cells"], state["counts"]
            table = Counter({tuple(map(int, c)): int(n) for c, n in zip(cells, counts, strict=True)})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"count bonus: the checkpoint is damaged ({error}); start the counts anew") from error
        if tuple(bins) != self.bins:
            raise DataError(f"count bonus: the checkpoint has bins {list(bins)}, this task {list(self.bins)}")
        if any(len(cell) != len(self.bins) for cell in table) or any(n < 1 for n in table.values()):
            raise DataError("count bonus: the checkpoint has cells of another size, or counts below 1")
        self._counts = table
