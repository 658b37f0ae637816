"""Changes of time resolution as constant matrices, which are exact, differentiable and exportable.

A matrix M of shape (n, m) maps a signal of n samples to one of m by ``signal @ M``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_CUBIC = -0.75
"""Slope of the cubic convolution kernel (Keys 1981) at distance 1, the value image libraries use for bicubic."""


def area_matrix(length: int, size: int) -> Float[Tensor, "length size"]:
    """Averages over ``size`` windows that cover ``length`` samples; windows overlap where they do not divide it."""
    matrix = torch.zeros(length, size, dtype=torch.float64)
    for i in range(size):
        start, stop = i * length // size, -(-(i + 1) * length // size)
        matrix[start:stop, i] = 1 / (stop - start)
    return matrix.float()


def bicubic_matrix(size: int, length: int) -> Float[Tensor, "size length"]:
    """Cubic convolution with sample centres aligned and the ends repeated."""
    matrix = torch.zeros(size, length, dtype=torch.float64)
    for j in range(length):
        x = (j + 0.5) * size / length - 0.5
        left = int(x // 1)
        for tap in range(left - 1, left + 3):
            matrix[min(max(tap, 0), size - 1), j] += _keys(abs(x - tap))
    return matrix.float()


def _keys(d: float) -> float:
    if d <= 1:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    if d < 2:
        return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
    return 0.0
