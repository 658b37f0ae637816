"""Per-column affine normalisation, ``y = x * scale + offset``, with numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError, DataError

MODES = ("limits", "gaussian", "identity")
_RANGE_EPS = 1e-4


@dataclass(frozen=True)
class Normalizer:
    """An affine map per column.

    A column whose range is below 1e-4 carries no information: it is only centred, because a division by its
    range would blow numerical noise up to full scale (Diffusion Policy, ``range_eps``).
    """

    scale: Float[np.ndarray, " D"]
    offset: Float[np.ndarray, " D"]

    @classmethod
    def fit(cls, x: Float[np.ndarray, "*lead D"], mode: str | Sequence[str] = "limits") -> Normalizer:
        """Fit to data.

        Args:
            x: samples; all leading axes are pooled.
            mode: for all columns or per column: ``limits`` maps [min, max] to [-1, 1], ``gaussian`` maps to zero
                mean and unit deviation, ``identity`` leaves the column as it is.

        Raises:
            ConfigError: an unknown mode.
            DataError: no samples, or a sample that is not finite.
        """
        x = np.asarray(x, dtype=np.float64).reshape(math.prod(x.shape[:-1]), x.shape[-1])
        modes = np.asarray([mode] * x.shape[1] if isinstance(mode, str) else list(mode), dtype=object)
        assert len(modes) == x.shape[1], (len(modes), x.shape)
        unknown = sorted(set(modes) - set(MODES))
        if unknown:
            raise ConfigError(f"unknown normalisation '{unknown[0]}': use one of {', '.join(MODES)}")
        if len(x) == 0 or not np.isfinite(x).all():
            raise DataError("cannot normalise: the data is empty or holds NaN; check the dataset")
        low, high = x.min(axis=0, initial=np.inf), x.max(axis=0, initial=-np.inf)
        mean, std = x.mean(axis=0), x.std(axis=0)
        gaussian = modes == "gaussian"
        center = np.where(gaussian, mean, (low + high) / 2)
        width = np.where(gaussian, std, (high - low) / 2)
        scale = np.where(high - low < _RANGE_EPS, 1.0, 1.0 / np.maximum(width, _RANGE_EPS / 4))
        scale = np.where(modes == "identity", 1.0, scale)
        center = np.where(modes == "identity", 0.0, center)
        return cls(scale.astype(np.float32), (-center * scale).astype(np.float32))

    def normalize(self, x: Float[np.ndarray, "*lead D"]) -> Float[np.ndarray, "*lead D"]:
        """From physical units to network units."""
        return x * self.scale + self.offset

    def unnormalize(self, y: Float[np.ndarray, "*lead D"]) -> Float[np.ndarray, "*lead D"]:
        """From network units to physical units; inverse of ``normalize``."""
        return (y - self.offset) / self.scale

    def to_dict(self) -> dict[str, np.ndarray]:
        """Arrays by name."""
        return {"scale": self.scale, "offset": self.offset}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, np.ndarray]) -> Normalizer:
        """Inverse of ``to_dict``."""
        return cls(np.asarray(arrays["scale"], np.float32), np.asarray(arrays["offset"], np.float32))
