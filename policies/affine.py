"""The kernel's normaliser as a module, so that its constants are saved with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from robostack.data.normalizer import Normalizer


class Affine(nn.Module):
    """``y = x * scale + offset`` over the trailing axes ``shape``."""

    scale: Tensor
    offset: Tensor

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("offset", torch.zeros(shape))

    def fit(self, x: Float[np.ndarray, "N ..."], modes: Sequence[str]) -> None:
        """Fit to samples; ``modes`` names the normalisation of each entry of the last axis."""
        shape = tuple(self.scale.shape)
        assert x.shape[1:] == shape, (x.shape, shape)
        repeats = self.scale.numel() // max(1, shape[-1])
        fitted = Normalizer.fit(x.reshape(len(x), -1), list(modes) * repeats)
        self.scale.copy_(torch.from_numpy(fitted.scale).reshape(shape))
        self.offset.copy_(torch.from_numpy(fitted.offset).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        """To network units."""
        return torch.addcmul(self.offset, x, self.scale)

    def inverse(self, y: Tensor) -> Tensor:
        """To physical units."""
        return (y - self.offset) / self.scale
