"""A point cloud as a part of the context: the encoder of 3D Diffusion Policy (Ze et al., arXiv 2403.03954).

An MLP with layer normalisation on each point, the maximum over all points, a projection. Points are given in the
policy's frame, as the objects are; which points, and how many, the dataset and the environment have agreed upon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.affine import Affine
from policies.context import ContextPart, View
from robostack.errors import ConfigError


@dataclass(frozen=True)
class PointsCfg:
    """How a policy looks at point clouds.

    Attributes:
        color: look at colours too. The paper does not, so that appearance makes no difference.
        hidden: widths of the MLP.
        width: of the vector made from a cloud.
    """

    color: bool = True
    hidden: Sequence[int] = (64, 128, 256)
    width: int = 64

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(int(d) for d in self.hidden))
        if not self.hidden or min(*self.hidden, self.width) < 1:
            raise ConfigError(f"points.hidden={self.hidden} and points.width={self.width} must be positive widths")


class PointEncoder(ContextPart):
    """The vectors of the clouds of all steps."""

    def __init__(self, cfg: PointsCfg, To: int):
        super().__init__()
        self.channels = 6 if cfg.color else 3
        self.norm = Affine(self.channels)
        layers: list[nn.Module] = []
        for cin, cout in zip((self.channels, *cfg.hidden), cfg.hidden, strict=False):
            layers += [nn.Linear(cin, cout), nn.LayerNorm(cout), nn.ReLU()]
        self.mlp = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(cfg.hidden[-1], cfg.width), nn.LayerNorm(cfg.width))
        self.width = To * cfg.width

    @torch.no_grad()
    def prepare(self, view: View) -> None:
        """Fit the limits of positions and colours."""
        self.norm.fit(self._framed(view).flatten(0, 2).cpu().numpy(), ["limits"] * self.channels)

    def forward(self, view: View, generator: torch.Generator | None = None) -> Float[Tensor, "B C"]:
        """Vectors of all steps, oldest first."""
        del generator  # Unused: clouds are not augmented.
        features = self.mlp(self.norm(self._framed(view)))
        return self.head(features.amax(dim=2)).flatten(1)

    def _framed(self, view: View) -> Float[Tensor, "B To P c"]:
        points = view.observed.points
        assert points is not None, "what a policy looks at is checked when it is observed"
        origin = nn.functional.pad(view.origin[:, :3], (0, self.channels - 3))  # colours have no place
        return points[..., : self.channels] - origin[:, None, None]
