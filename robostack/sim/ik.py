"""Damped least squares inverse kinematics on a robot-only model (Buss 2004; Nakamura and Hanafusa 1986).

Minimises |p - p*|^2 + w^2 |log(R*^T R)|^2 + damping |dq|^2 + posture |q - home|^2 per iteration, with w in metres per
radian; the weak posture term keeps redundant arms near their rest pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.sim.cards import RobotCard
from robostack.sim.robot import TCP_SITE, build_robot

_DAMPING, _POSTURE, _MAX_STEP = 1e-5, 2e-5, 0.3


@dataclass(frozen=True)
class IKResult:
    """Joint positions [rad] with the remaining errors [m, rad]."""

    q: Float[np.ndarray, " Nj"]
    position_error: float
    rotation_error: float


class IKSolver:
    """Inverse and forward kinematics of the tool-centre frame, in the world frame."""

    def __init__(self, card: RobotCard):
        spec = build_robot(card)
        for geom in spec.geoms:
            geom.contype = geom.conaffinity = 0
        self.card = card
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(name) for name in card.arm.joints]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self.lower, self.upper = np.array([joint.range for joint in joints]).T
        self.home = np.asarray(card.arm.home, float)
        self._site = self.model.site(TCP_SITE).id
        self._offset = np.array([0.0, 0.0, card.base_height])
        self._jac = np.zeros((6, self.model.nv))
        self._quat, self._goal, self._error = np.zeros(4), np.zeros(4), np.zeros(6)

    def forward(self, q: Float[np.ndarray, " Nj"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
        """Tool position [m] and rotation at joint positions ``q``."""
        self._kinematics(q)
        return self.data.site_xpos[self._site] + self._offset, self.data.site_xmat[self._site].reshape(3, 3).copy()

    def solve(
        self,
        pos: Float[np.ndarray, "3"],
        rot: Float[np.ndarray, "3 3"],
        q0: Float[np.ndarray, " Nj"],
        *,
        iterations: int = 100,
        tolerance: float = 1e-4,
    ) -> IKResult:
        """Descend from ``q0``; joint limits are kept. Stops when the weighted error falls below ``tolerance`` [m]."""
        w = self.card.rotation_weight
        mujoco.mju_mat2Quat(self._goal, np.ascontiguousarray(rot).ravel())
        goal = pos - self._offset
        q = np.clip(q0, self.lower, self.upper)
        for _ in range(iterations):
            error = self._residual(q, goal, w)
            if error @ error < tolerance * tolerance:
                break
            mujoco.mj_comPos(self.model, self.data)
            mujoco.mj_jacSite(self.model, self.data, self._jac[:3], self._jac[3:], self._site)
            jac = self._jac[:, self._dofs]
            jac[3:] *= w
            hessian = jac.T @ jac
            hessian.flat[:: len(q) + 1] += _DAMPING + _POSTURE
            dq = np.linalg.solve(hessian, jac.T @ error + _POSTURE * (self.home - q))
            peak = np.abs(dq).max()
            q = np.clip(q + dq * min(1.0, _MAX_STEP / peak), self.lower, self.upper)
            if peak < 1e-7:
                break
        error = self._residual(q, goal, w)
        return IKResult(q, float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:])) / w)

    def _kinematics(self, q: np.ndarray) -> None:
        self.data.qpos[self._qpos] = q
        mujoco.mj_kinematics(self.model, self.data)

    def _residual(self, q: np.ndarray, goal: np.ndarray, w: float) -> np.ndarray:
        self._kinematics(q)
        error = self._error
        error[:3] = goal - self.data.site_xpos[self._site]
        mujoco.mju_mat2Quat(self._quat, self.data.site_xmat[self._site])
        mujoco.mju_subQuat(error[3:], self._goal, self._quat)  # in the tool frame
        error[3:] = w * (self.data.site_xmat[self._site].reshape(3, 3) @ error[3:])
        return error.copy()
