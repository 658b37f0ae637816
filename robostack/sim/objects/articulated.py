"""Articulated fixtures: one joint each, at fraction 0 when closed. They face the robot, which sits towards -x.

Handles are made for a gripper that points straight down; lengths are those of the default size and scale with it.
Every handle site has z out of the handle, y along its bar, so that x is the direction in which the fingers close.

========  =====  ==============================================================================================
card      joint  handle (entity frame, joint closed; the origin is the middle of the footprint on the table)
========  =====  ==============================================================================================
drawer    slide  bar along y, 90 mm between its ends, 12 x 12 mm, its middle at (-0.136, 0, 0.088). 45 mm of free
                 space between bar and front; nothing taller than 22 mm above the bar. Close the fingers along x around
                 it and move along -x. Travel 110 mm. To close, push the bar or the front along +x.
button    press  top of the cap, at (0, 0, 0.05), 56 mm across. Push down with closed fingers by the travel, 12 mm.
========  =====  ==============================================================================================
"""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.objects.parts import (
    CLEAR,
    board,
    handle_site,
    joint_of,
    moving_part,
    show_lathe,
    solid,
    tint,
)
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Interior, Surface

_METAL = (0.30, 0.31, 0.34, 1.0)
_GEOM = mujoco.mjtGeom


@shape("drawer", "ex", "ey", "ez", joints=("slide",))
def _drawer(b: Blank) -> Shape:
    """A case with one drawer; the front overlays the case and carries a bar."""
    hx, hy, height = 0.5 * b.size[0], 0.5 * b.size[1], b.size[2]
    wall, gap = 0.05 * b.size[1], 0.01 * b.size[1]
    case_front = -hx + wall + gap  # the drawer's front fills the space up to -hx
    _case(b, (case_front, hx), hy, height, wall, tint(b.rgba, 0.62), 0.6 * b.mass)

    part = moving_part(b, "slide")
    inner, back, floor = hy - wall - gap, hx - wall - gap, wall + gap
    depth = back - case_front
    rim = floor + 0.45 * height
    pale = (0.80, 0.70, 0.56, 1.0)
    middle, thin = case_front + 0.5 * depth, 0.3 * wall
    mass = 0.4 * b.mass
    board(b, part, (0.5 * depth, inner, thin), (middle, 0, floor + thin), pale, 0.25 * mass)
    for side in (-1, 1):
        pos = (middle, side * (inner - thin), 0.5 * (floor + rim))
        board(b, part, (0.5 * depth, thin, 0.5 * (rim - floor)), pos, pale, 0.1 * mass)
    pos = (back - thin, 0, 0.5 * (floor + rim))
    board(b, part, (thin, inner - 2 * thin, 0.5 * (rim - floor)), pos, pale, 0.1 * mass)
    half_z = 0.5 * (height - gap)
    board(b, part, (0.5 * wall, hy, half_z), (-hx + 0.5 * wall, 0, gap + half_z), b.rgba, 0.3 * mass)
    bar = _bar_handle(b, part, (-hx, 0.0, 0.8 * height), mass=0.15 * mass)

    travel = 0.65 * b.size[0]
    joint = joint_of(b, part, "slide", (-1, 0, 0), travel, hinge=False)
    handle_site(part, bar, out=(0, 0, 1), along=(0, 1, 0))
    bottom = floor + 2 * thin
    low, high = -hx + wall, back - 2 * thin
    hollow = Interior(
        center=(0.5 * (low + high), 0.0, 0.5 * (bottom + rim)),
        half=(0.5 * (high - low), inner - 2 * thin, 0.5 * (rim - bottom)),
    )
    top = Surface(center=(0.5 * (case_front + hx), 0.0, height), half=(0.5 * (hx - case_front), hy))
    return Shape(
        (-bar[0] + 0.03 * b.size[1], hy, height),
        0.0,
        (hx, hy),
        round=False,
        surface=top,
        interior=hollow,
        sweep=(bar[0] - travel, -hy, hx, hy),
        interior_body=part.name,
        joints={"slide": joint},
    )


def _case(b: Blank, span: tuple[float, float], hy: float, height: float, wall: float, rgba, mass: float) -> None:
    """A box that is open towards -x, from span[0] to span[1] in x."""
    x, hx, t = 0.5 * (span[0] + span[1]), 0.5 * (span[1] - span[0]), 0.5 * wall
    board(b, b.body, (hx, hy, t), (x, 0, height - t), rgba, 0.25 * mass)
    board(b, b.body, (hx, hy, t), (x, 0, t), rgba, 0.25 * mass)
    for side in (-1, 1):
        board(b, b.body, (hx, t, 0.5 * height - wall), (x, side * (hy - t), 0.5 * height), rgba, 0.15 * mass)
    board(b, b.body, (t, hy - wall, 0.5 * height - wall), (span[1] - t, 0, 0.5 * height), rgba, 0.2 * mass)


def _bar_handle(b: Blank, part, front, *, mass: float) -> tuple[float, float, float]:
    """A bar along y on two posts in front of the point ``front``; the middle of the bar."""
    unit = b.size[1]
    half, reach = 0.03 * unit, 0.225 * unit
    x, z = front[0] - reach - half, front[2]
    board(b, part, (half, 0.225 * unit, half), (x, front[1], z), _METAL, 0.6 * mass)
    for side in (-1, 1):
        pos = (front[0] - 0.5 * reach, front[1] + side * 0.2 * unit, z)
        board(b, part, (0.5 * reach, 0.02 * unit, 0.6 * half), pos, _METAL, 0.2 * mass)
    return x, front[1], z


@shape("button", "radius", "height", joints=("press",))
def _button(b: Blank) -> Shape:
    """A cap in a square housing; a spring lifts it."""
    radius, height = b.size
    cap, travel = 0.7 * radius, 0.25 * height
    rim, low = 0.6 * height, 0.3 * height
    hole = cap + 0.04 * radius
    wall = 0.5 * (radius - hole)
    board(b, b.body, (radius, radius, 0.02 * height), (0, 0, 0.02 * height), _METAL, 0.2 * b.mass)
    for side in (-1, 1):
        pos = side * (hole + wall)
        board(b, b.body, (wall, radius, 0.5 * rim), (pos, 0, 0.5 * rim), _METAL, 0.15 * b.mass)
        board(b, b.body, (hole, wall, 0.5 * rim), (0, pos, 0.5 * rim), _METAL, 0.15 * b.mass)
    corner = 1.02 * np.sqrt(2) * hole
    collar = np.array([[hole, 0.9 * rim], [corner, 0.9 * rim], [corner, rim], [hole, 1.12 * rim], [hole, 0.9 * rim]])
    show_lathe(b.spec, b.body, collar, (0.75, 0.76, 0.78, 1.0))

    part = moving_part(b, "press")
    edge = 0.08 * height
    dome = np.array([[1e-4, low], [cap, low], [cap, height - edge], [cap - edge, height], [1e-4, height]])
    show_lathe(b.spec, part, dome, b.rgba)
    for angle in (0.0, 0.25 * np.pi):  # an octagon of boxes: they meet the pads' boxes in closed form
        solid(
            part,
            _GEOM.mjGEOM_BOX,
            (cap * np.cos(np.pi / 8), cap * np.sin(np.pi / 8), 0.5 * (height - low)),
            b.friction,
            pos=[0, 0, 0.5 * (height + low)],
            quat=[np.cos(0.5 * angle), 0, 0, np.sin(0.5 * angle)],
            rgba=CLEAR,
            mass=0.1 * b.mass,
        )
    joint = joint_of(b, part, "press", (0, 0, -1), travel, hinge=False)
    handle_site(part, (0, 0, height), out=(0, 0, 1), along=(0, 1, 0))
    return Shape((radius, radius, height), 0.0, (radius, radius), round=False, joints={"press": joint})
