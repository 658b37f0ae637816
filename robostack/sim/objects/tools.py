"""Things to insert and things to push with."""

from __future__ import annotations

import numpy as np

from robostack.sim.objects.parts import board, show_hull, tint
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Grip, Surface


@shape("peg", "edge", "height")
def _peg(b: Blank) -> Shape:
    """A square peg, upright; its origin is its centre."""
    half, half_z = 0.5 * b.size[0], 0.5 * b.size[1]
    board(b, b.body, (half, half, half_z), (0, 0, 0), b.rgba, b.mass)
    top = Surface(center=(0.0, 0.0, half_z), half=(half, half))
    return Shape((half, half, half_z), half_z, (half, half), round=False, surface=top)


@shape("stick", "length", "width")
def _stick(b: Blank) -> Shape:
    """An L lying flat: a straight handle along x, and at its far end a bar that sticks out along y.

    The origin is the middle of the handle. The outer face of the bar pushes away, its inner face rakes.
    """
    half, width = 0.5 * b.size[0], b.size[1]
    half_w, bar_y = 0.5 * width, 2.0 * width  # the bar is four widths long and starts at the handle's outer side
    handle = b.size[0] - width
    unit = b.mass / (handle + 4 * width)
    board(b, b.body, (0.5 * handle, half_w, half_w), (-half_w, 0, 0), b.rgba, unit * handle)
    board(b, b.body, (half_w, bar_y, half_w), (half - half_w, bar_y - half_w, 0), tint(b.rgba, 0.8), unit * 4 * width)
    tail = -half + 0.55 * half
    wrap = np.array([[x, y, z] for x in (-0.35 * half, 0.35 * half) for y in (-1, 1) for z in (-1, 1)])
    show_hull(b, b.body, wrap * [1.0, 1.04 * half_w, 1.04 * half_w], (0.16, 0.16, 0.17, 1.0), pos=(tail, 0, 0))
    grip = Grip(center=(tail, 0.0, 0.0), half=(0.35 * half, half_w, half_w), across=("y",))
    side = 2 * bar_y - half_w
    outline = (-half, -half_w, half, side)
    return Shape((half, side, half_w), half_w, (half, side), round=False, outline=outline, grip=grip)
