"""What a task's author must know about a robot, and the sizes of the asset cards.

Sizes, in metres, full extents unless they are called a radius:

=========  ==================================
block      (ex, ey, ez)
cylinder   (radius, height)
ball       (radius,)
bowl       (outer radius at the rim, height)
plate      (radius,)
tray       (ex, ey, ez) outer
zone       (ex, ey)
=========  ==================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robostack.errors import ConfigError

CARD_SIZES: dict[str, tuple[float, ...]] = {
    "block": (0.04, 0.04, 0.04),
    "cylinder": (0.02, 0.05),
    "ball": (0.02,),
    "bowl": (0.075, 0.05),
    "plate": (0.08,),
    "tray": (0.16, 0.12, 0.04),
    "zone": (0.14, 0.14),
}

GRASP_MARGIN = 0.8  # widest object that is still easy to grasp, as a fraction of the gripper's opening


@dataclass(frozen=True)
class RobotProfile:
    """The robot as a task's author sees it.

    Attributes:
        name: name of the robot card.
        workspace: (x_min, y_min, x_max, y_max) on the table where the robot can grasp from above, world frame [m].
        object_scale: sizes of objects as multiples of the cards' default sizes.
        gripper_max_opening_m: largest distance between the finger pads.
        control_hz: control rate.
    """

    name: str
    workspace: tuple[float, float, float, float]
    object_scale: float
    gripper_max_opening_m: float
    control_hz: float

    def __post_init__(self):
        numbers = (*self.workspace, self.object_scale, self.gripper_max_opening_m, self.control_hz)
        if len(self.workspace) != 4 or not all(math.isfinite(n) for n in numbers):
            raise ConfigError(f"profile of robot '{self.name}' needs four finite workspace bounds and finite numbers")
        x0, y0, x1, y1 = self.workspace
        if x0 >= x1 or y0 >= y1:
            raise ConfigError(f"workspace of robot '{self.name}' is empty: {self.workspace}; order is x0, y0, x1, y1")
        if min(numbers[4:]) <= 0.0:
            raise ConfigError(f"profile of robot '{self.name}': scale, gripper opening and control rate must be > 0")

    def size(self, card: str) -> tuple[float, ...]:
        """Size of a card's object for this robot [m]; graspable ones fit between the fingers."""
        scale = self.object_scale
        if card in ("block", "cylinder", "ball"):
            width = CARD_SIZES[card][0] * (1.0 if card == "block" else 2.0)
            scale = min(scale, GRASP_MARGIN * self.gripper_max_opening_m / width)
        return tuple(round(scale * length, 4) for length in CARD_SIZES[card])
