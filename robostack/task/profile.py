"""What a task's author must know about a robot, and the sizes of the asset cards.

Sizes, in metres, full extents unless they are called a radius:

=========  ============================================================
block      (ex, ey, ez)
cylinder   (radius, height)
ball       (radius,)
bowl       (outer radius at the rim, height)
plate      (radius,)
tray       (ex, ey, ez) outer
zone       (ex, ey)
mug        (outer radius without the handle, height)
bin, box   (ex, ey, ez) outer
lid        (ex, ey, ez), ez with its knob; closes a box of that (ex, ey)
peg        (edge, height)
socket     (edge of the peg that it takes, height)
stick      (length, width)
shelf      (ex, ey, ez), ez to its top face
drawer     (ex, ey, ez) of the case, without the handle
cabinet    (ex, ey, ez) of the case, without the handle
button     (half edge of its square housing, height)
lever      (height when upright,)
dial       (radius of the knob, height)
=========  ============================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robostack.errors import ConfigError, UnknownName

CARD_SIZES: dict[str, tuple[float, ...]] = {
    "block": (0.04, 0.04, 0.04),
    "cylinder": (0.02, 0.05),
    "ball": (0.02,),
    "bowl": (0.075, 0.05),
    "plate": (0.08,),
    "tray": (0.16, 0.12, 0.04),
    "zone": (0.14, 0.14),
    "mug": (0.031, 0.075),
    "bin": (0.17, 0.15, 0.08),
    "box": (0.12, 0.12, 0.06),
    "lid": (0.12, 0.12, 0.036),
    "peg": (0.025, 0.07),
    "socket": (0.025, 0.05),
    "stick": (0.22, 0.02),
    "shelf": (0.16, 0.22, 0.09),
    "drawer": (0.17, 0.20, 0.11),
    "cabinet": (0.14, 0.18, 0.16),
    "button": (0.04, 0.05),
    "lever": (0.13,),
    "dial": (0.033, 0.055),
}

# What the fingers close on, as (index into the size, factor); a socket stays with its peg.
_WIDTHS: dict[str, tuple[int, float]] = {
    "block": (0, 1.0),
    "cylinder": (0, 2.0),
    "ball": (0, 2.0),
    "mug": (0, 2.0),
    "peg": (0, 1.0),
    "socket": (0, 1.0),
    "stick": (1, 1.0),
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
        """Size of a card's object for this robot [m]; graspable ones fit between the fingers.

        Raises:
            UnknownName: no size is known of that card.
        """
        if card not in CARD_SIZES:
            raise UnknownName("object", card, CARD_SIZES)
        size, scale = CARD_SIZES[card], self.object_scale
        if card in _WIDTHS:
            index, factor = _WIDTHS[card]
            scale = min(scale, GRASP_MARGIN * self.gripper_max_opening_m / (size[index] * factor))
        return tuple(round(scale * length, 4) for length in size)
