"""Actions between the world and a network."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from policies.affine import Affine
from policies.discrete import DiscreteDims
from policies.frame import Frame


@dataclass(frozen=True)
class Units:
    """Actions between the world and the network, for one batch of observations.

    A chunk that outlives its decision is kept in the world: the network's frame moves with the gripper.
    """

    frame: Frame
    norm: Affine
    origin: Float[Tensor, "B 4"]
    discrete: DiscreteDims = DiscreteDims()

    def encode(self, actions: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Tp Da"]:
        """Physical units and the world frame -> network units."""
        return self.norm(self.frame.actions(actions, self.origin))

    def decode(self, chunk: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Tp Da"]:
        """Inverse of ``encode``."""
        return self.frame.to_world(self.norm.inverse(chunk), self.origin)
