"""Binary columns of an action, such as a gripper that is commanded open or closed.

A warm start treats them differently from positions: they jump by their whole range between two decisions, and what is
executed must be one of the two values. Real-Time Iteration (Duan et al., arXiv 2508.05396, section III-B) scales the
warm start of such a column towards its middle and executes the sign of the prediction; a sign has no memory, so a
prediction near the middle chatters. Here a column changes only when the prediction is clearly on the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_NEAR = 0.02  # of the range: what still counts as one of the two values
_RARE = 0.005  # share of the rows that may lie in between, as a recorder that misses the instant of a jump leaves them
_RANGE_EPS = 1e-4  # below it a column is constant, as for the normaliser


@dataclass(frozen=True)
class DiscreteDims:
    """Which columns of an action take two values only, and which values, in the units of the dataset.

    Found in the data, not by name: a gripper that the demonstrator moves slowly is continuous, and snapping it would
    throw what it holds; a column that never changes has no second value to snap to.
    """

    columns: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self):
        assert len(self.columns) == len(self.low) == len(self.high), self
        assert all(a < b for a, b in zip(self.low, self.high, strict=True)), self

    @classmethod
    def of(cls, actions: Float[np.ndarray, "N Da"]) -> DiscreteDims:
        """The columns of ``actions`` that are binary, whatever their number and place."""
        low, high = actions.min(0).astype(np.float64), actions.max(0).astype(np.float64)
        margin = _NEAR * (high - low)
        between = ((actions > low + margin) & (actions < high - margin)).mean(0)
        columns = np.flatnonzero((between <= _RARE) & (high - low > _RANGE_EPS))
        return cls(tuple(columns.tolist()), tuple(low[columns].tolist()), tuple(high[columns].tolist()))

    def snap(
        self, actions: Float[Tensor, "*B T Da"], plan: Float[Tensor, "*B T Da"], hysteresis: float
    ) -> Float[Tensor, "*B T Da"]:
        """Set every binary column to one of its values.

        Args:
            actions: predictions in physical units.
            plan: what was planned for the same instants before; a prediction within the dead band keeps it.
            hysteresis: half width of the dead band as a share of half the range; 0 disables.
        """
        if not self.columns:
            return actions
        values = actions[..., self.columns]
        low, high = self._limits(actions)
        middle, half = (low + high) / 2, (high - low) / 2
        undecided = (values - middle).abs() <= hysteresis * half
        above = torch.where(undecided, plan[..., self.columns], values) > middle
        snapped = actions.clone()
        snapped[..., self.columns] = torch.where(above, high, low)
        return snapped

    def shrink(self, actions: Float[Tensor, "*B T Da"], scale: float) -> Float[Tensor, "*B T Da"]:
        """Move binary columns towards the middle of their range; ``scale`` 1 leaves them, 0 forgets them."""
        if not self.columns:
            return actions
        low, high = self._limits(actions)
        middle = (low + high) / 2
        shrunk = actions.clone()
        shrunk[..., self.columns] = middle + scale * (actions[..., self.columns] - middle)
        return shrunk

    def _limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return like.new_tensor(self.low), like.new_tensor(self.high)

    def to_dict(self) -> dict[str, list]:
        """Plain YAML values."""
        return {"columns": list(self.columns), "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DiscreteDims:
        """Inverse of ``to_dict``."""
        return cls(tuple(values["columns"]), tuple(values["low"]), tuple(values["high"]))
