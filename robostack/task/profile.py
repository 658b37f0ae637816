"""What a task generator needs to know of a robot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RobotProfile:
    """The robot as seen by whoever writes tasks for it.

    Attributes:
        workspace: (x_min, y_min, x_max, y_max) on the table, world frame [m].
        object_scale: factor on default object sizes.
        gripper_max_opening_m: the widest graspable object [m].
        control_hz: default control rate.
    """

    name: str
    workspace: tuple[float, float, float, float]
    object_scale: float = 1.0
    gripper_max_opening_m: float = 0.08
    control_hz: float = 20.0
