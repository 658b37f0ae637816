"""Rotations modulo the symmetry group of an object."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import mujoco
import numpy as np

from robostack.task.world import Symmetry


@functools.cache
def group(symmetry: Symmetry) -> np.ndarray:
    """The finite rotation group (N, 3, 3) of a symmetry in the body frame; the identity where there is none.

    cube: the 24 signed permutation matrices of determinant 1; square_prism: the 8 of them that keep the z axis up to
    sign; box: the 4 diagonal ones.
    """
    signed = [
        np.diag(signs)[list(order)].astype(float)
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    rotations = [m for m in signed if np.linalg.det(m) > 0.0]
    if symmetry == "cube":
        return np.stack(rotations)
    if symmetry == "square_prism":
        return np.stack([m for m in rotations if abs(m[2, 2]) > 0.5])
    if symmetry == "box":
        return np.stack([m for m in rotations if np.count_nonzero(np.diag(m)) == 3])
    return np.eye(3)[None]


def angle_modulo(
    rotation: np.ndarray, target_wxyz: Sequence[float], symmetry: Symmetry, up: tuple[float, float, float]
) -> float:
    """Least rotation angle [rad] from ``rotation`` (3, 3) to the target, over what the symmetry cannot tell apart."""
    if symmetry == "sphere":
        return 0.0
    target = np.empty(9)
    mujoco.mju_quat2Mat(target, np.asarray(target_wxyz, dtype=float))
    goal = target.reshape(3, 3)
    if symmetry == "axial":
        cosine = float((rotation @ up) @ (goal @ up))
    else:
        relative = rotation.T @ goal
        cosine = max(0.5 * (float(np.trace(relative @ g)) - 1.0) for g in group(symmetry))
    return math.acos(max(-1.0, min(1.0, cosine)))
