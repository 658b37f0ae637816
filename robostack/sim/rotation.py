"""Rotations as networks like them: the 6-D form, and orientations modulo an object's symmetry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from robostack.errors import InvalidAction
from robostack.task.symmetry import group
from robostack.task.world import Symmetry

_MAX_LENGTH = 1e6  # of a column of rot6d; squares of larger numbers lose the direction to overflow


def rot6d(rot: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "6"]:
    """First two columns of a rotation matrix, one after the other (Zhou et al. 2019)."""
    return rot[:, :2].T.ravel()


def rot_from_6d(values: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """Gram-Schmidt inverse of ``rot6d``; raises InvalidAction when columns are parallel, zero or absurdly long."""
    if np.abs(values).max() > _MAX_LENGTH:
        raise InvalidAction(
            f"action: rot6d has values beyond {_MAX_LENGTH:g}; send the first two columns of a rotation matrix"
        )
    a, b = values[:3], values[3:]
    norm = float(np.sqrt(a @ a))
    if norm < 1e-6:
        raise InvalidAction("action: rot6d's first column is zero; send the first two columns of a rotation matrix")
    x = a / norm
    y = b - (x @ b) * x
    norm = float(np.sqrt(y @ y))
    if norm < 1e-6:
        raise InvalidAction("action: rot6d's columns are parallel; send the first two columns of a rotation matrix")
    y = y / norm
    z = np.array([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]])
    return np.stack([x, y, z], axis=1)


def yaw_rotation(yaw: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about z by ``yaw`` [rad]."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def canonical_rotation(rot: Float[np.ndarray, "3 3"], symmetry: Symmetry) -> Float[np.ndarray, "3 3"]:
    """Of all orientations that look the same, the one nearest to the identity.

    A camera cannot tell a cube's faces apart, nor can this observation: ``cube`` has 24 equivalents, ``square_prism``
    (upright square) 8, ``box`` 4, ``axial`` a continuum about its z axis, ``sphere`` all rotations.
    """
    if symmetry == "none":
        return rot
    if symmetry == "sphere":
        return np.eye(3)
    if symmetry == "axial":
        return _tilt_only(rot[:, 2])
    turns = group(symmetry)
    best = int(np.argmax(turns.transpose(0, 2, 1).reshape(len(turns), 9) @ rot.ravel()))
    return rot @ turns[best]


def _tilt_only(axis: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes z to ``axis``."""
    x, y, z = axis
    if z < -0.999999:
        return np.diag([1.0, -1.0, -1.0])
    k = 1.0 / (1.0 + z)
    return np.array([[1 - k * x * x, -k * x * y, x], [-k * x * y, 1 - k * y * y, y], [-x, -y, z]])
