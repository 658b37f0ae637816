"""The one controller: an action in ``ee_pose`` or ``joint_pos`` becomes joint targets, the same in every backend."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from robostack.errors import InvalidAction
from robostack.sim.ik import IKSolver
from robostack.sim.rotation import rot_from_6d
from robostack.task.spec import ControlMode

_MARGIN, _Z_RANGE = 0.12, (-0.005, 0.6)
_IK_ITERATIONS = 8


class Controller:
    """Turns actions into targets of (arm joints, gripper joint).

    ``ee_pose``: xyz [m, world], rot6d, gripper opening (0 closed, 1 open); absolute. ``joint_pos``: arm joints [rad],
    gripper opening. Targets stay within joint ranges and, from tick to tick, within the card's joint speeds.
    """

    def __init__(self, ik: IKSolver, mode: ControlMode, dt_s: float):
        self.ik, self.mode, card = ik, mode, ik.card
        self._gripper = (card.gripper.closed, card.gripper.open)
        self._max_dq = np.asarray(card.arm.velocity) * dt_s
        x0, y0, x1, y1 = card.workspace
        self._low = np.array([x0 - _MARGIN, y0 - _MARGIN, _Z_RANGE[0]])
        self._high = np.array([x1 + _MARGIN, y1 + _MARGIN, _Z_RANGE[1]])
        self.width = 10 if mode == "ee_pose" else len(ik.home) + 1
        self.q = ik.home.copy()

    def reset(self, q: Float[np.ndarray, " Nj"]) -> None:
        """Start from joint positions ``q`` [rad], normally the measured ones."""
        self.q = np.array(q, float)

    def targets(self, action: Float[np.ndarray, " Da"]) -> tuple[Float[np.ndarray, " Nj"], float]:
        """Joint targets [rad] and gripper target [joint units] for one control step.

        Raises:
            InvalidAction: wrong width, NaN or infinity, or a degenerate rotation; the last target stays in force.
        """
        action = np.asarray(action, float)
        if action.shape != (self.width,):
            raise InvalidAction(f"action has shape {action.shape}, {self.mode} control takes ({self.width},)")
        if not np.isfinite(action).all():
            bad = np.flatnonzero(~np.isfinite(action)).tolist()
            raise InvalidAction(f"action has NaN or infinite values at {bad}; nothing was sent to the robot")
        if self.mode == "ee_pose":
            pos = np.clip(action[:3], self._low, self._high)
            goal = self.ik.solve(pos, rot_from_6d(action[3:9]), self.q, iterations=_IK_ITERATIONS).q
        else:
            goal = np.clip(action[:-1], self.ik.lower, self.ik.upper)
        self.q = self.q + np.clip(goal - self.q, -self._max_dq, self._max_dq)
        closed, opened = self._gripper
        return self.q, closed + float(np.clip(action[-1], 0.0, 1.0)) * (opened - closed)
