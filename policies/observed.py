"""What a decision knows, as tensors; and where training finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from robostack.data.arrays import EpisodeArrays
from robostack.types import Features


@dataclass(frozen=True)
class Observed:
    """Windows of To observations, oldest first, in physical units and the world frame.

    Attributes:
        state: proprioception.
        objects: state of the objects; De is 0 for a policy that is not told.
        images: RGB by camera, for those that the policy looks at.
        points: x, y, z [m] and red, green, blue in [0, 1] of P points; None for a policy that looks at none.
    """

    state: Float[Tensor, "B To Ds"]
    objects: Float[Tensor, "B To De"]
    images: Mapping[str, UInt8[Tensor, "B To _ _ 3"]] = field(default_factory=dict)
    points: Float[Tensor, "B To P 6"] | None = None

    def __len__(self) -> int:
        return len(self.state)

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything, in a fixed order."""
        points = () if self.points is None else (self.points,)
        return (self.state, self.objects, *self.images.values(), *points)


class Recorded:
    """A dataset to cut windows from: its numbers lie on the device; its pictures stay where they are until asked for.

    Attributes:
        state, objects, action: all rows, in physical units and the world frame.
    """

    state: Float[Tensor, "N Ds"]
    objects: Float[Tensor, "N De"]
    action: Float[Tensor, "N Da"]

    def __init__(self, arrays: EpisodeArrays, features: Features, device: torch.device):
        """Take what a policy with these features looks at."""
        columns = (arrays.state, arrays.environment_state, arrays.action)
        self.state, self.objects, self.action = (torch.tensor(c, dtype=torch.float32, device=device) for c in columns)

    def at(self, rows: Int[np.ndarray, "B To"]) -> Observed:
        """The windows of these rows."""
        index = torch.from_numpy(rows).to(self.state.device)
        return Observed(self.state[index], self.objects[index])
