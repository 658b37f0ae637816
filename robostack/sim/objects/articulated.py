"""Articulated fixtures: one joint each, at fraction 0 when closed. They face the robot, which sits towards -x.

Handles are made for a gripper that points straight down. Every handle site has z out of the handle, y along its bar;
the fingers close along its x. Lengths below are those of the default size and scale with it; positions are in the
entity's frame (origin: middle of the footprint, on the table) at fraction 0.

drawer, ``slide``, 110 mm along -x
    A bar along y, 90 mm long, 12 x 12 mm, its middle at (-0.136, 0, 0.088); posts at y = +-40 mm, clear between. 45 mm
    of room between bar and front, nothing in front of it; the case ends 22 mm above the middle of the bar. Come from
    above, close along x around the bar, move along -x. To close it push bar or front along +x.
cabinet, ``hinge``, 90 degrees about the vertical axis through (-0.07, 0.09)
    The hinges are on the left (+y), the free edge swings towards the robot and ends at the left, a door's width in
    front of the case. A bar along z, 12 x 12 mm, from z = 0.072 to 0.16 (its top end is the top of the door) at
    (-0.121, -0.056), 45 mm in front of the door, posts at its ends behind it. The site lies 20 mm below the top end;
    its z points out of the door, but the top end may be taken from above, closing along y. The handle travels on a
    circle of 155 mm about the hinge, and the closing direction turns with it.
button, ``press``, 12.5 mm along -z
    The top of the cap, at (0, 0, 0.05), 56 mm across. Push down with closed fingers; a spring of 1 N (at rest) to 3 N
    (pressed) lifts it again.
lever, ``hinge``, 90 degrees about y through (0, 0, 0.029)
    A barrel along y, 23 mm thick and 44 mm long, 90 mm from the axis: at (-0.063, 0, 0.092), over (0, 0, 0.118), to
    (0.063, 0, 0.092). The site's z is the rod's direction. Close along x around it, or push it with closed fingers;
    it stays where it is left.
dial, ``turn``, 180 degrees clockwise seen from above
    A bar 20 mm wide, 61 mm long and 25 mm high on top of the knob, its middle at (0, 0, 0.043). The mark points to +y
    at 0, to +x at a half, to -y at 1. Close across the bar from above, turn the wrist.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.objects.parts import (
    board,
    handle_site,
    joint_of,
    moving_part,
    octagon,
    seen,
    show_board,
    show_lathe,
    solid,
    tint,
)
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Interior, Surface

_METAL, _WHITE = (0.30, 0.31, 0.34, 1.0), (0.95, 0.95, 0.95, 1.0)
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
        outline=(bar[0] - travel, -hy, hx, hy),
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
    octagon(b, part, cap, low, height, 0.2 * b.mass)
    joint = joint_of(b, part, "press", (0, 0, -1), travel, hinge=False)
    handle_site(part, (0, 0, height), out=(0, 0, 1), along=(0, 1, 0))
    return Shape((radius, radius, height), 0.0, (radius, radius), round=False, joints={"press": joint})


@shape("cabinet", "ex", "ey", "ez", joints=("hinge",))
def _cabinet(b: Blank) -> Shape:
    """A case behind a door that is hung on its left side, seen from the robot, and opens by a quarter turn."""
    hx, hy, height = 0.5 * b.size[0], 0.5 * b.size[1], b.size[2]
    wall, gap = 0.055 * b.size[1], 0.01 * b.size[1]
    case_front = -hx + wall + gap
    _case(b, (case_front, hx), hy, height, wall, tint(b.rgba, 0.62), 0.75 * b.mass)

    part = moving_part(b, "hinge")
    mass = 0.25 * b.mass
    half_z = 0.5 * (height - gap)
    board(b, part, (0.5 * wall, hy, half_z), (-hx + 0.5 * wall, 0, gap + half_z), b.rgba, 0.8 * mass)
    inset = (0.12 * wall, hy - 1.6 * wall, half_z - 1.6 * wall)
    show_board(b, part, inset, (-hx, 0, gap + half_z), tint(b.rgba, 1.2))
    thick, reach = 0.033 * b.size[1], 0.25 * b.size[1]
    x, y, low, high = -hx - reach - thick, -0.62 * hy, 0.45 * height, height
    board(b, part, (thick, thick, 0.5 * (high - low)), (x, y, 0.5 * (low + high)), _METAL, 0.14 * mass)
    for z in (low + 1.2 * thick, high - 1.2 * thick):
        board(b, part, (0.5 * reach, 0.6 * thick, 0.6 * thick), (-hx - 0.5 * reach, y, z), _METAL, 0.03 * mass)
    for z in (0.2 * height, 0.8 * height):
        seen(b.body, _GEOM.mjGEOM_CYLINDER, (0.35 * wall, 0.08 * height, 0), _METAL, pos=[-hx, hy, z])

    joint = joint_of(b, part, "hinge", (0, 0, -1), 0.5 * np.pi, hinge=True, pos=(-hx, hy, 0))
    handle_site(part, (x, y, height - 0.11 * b.size[1]), out=(-1, 0, 0), along=(0, 0, 1))
    low_x, high_x = case_front, hx - wall
    hollow = Interior(
        center=(0.5 * (low_x + high_x), 0.0, 0.5 * height),
        half=(0.5 * (high_x - low_x), hy - wall, 0.5 * height - wall),
    )
    top = Surface(center=(0.5 * (case_front + hx), 0.0, height), half=(0.5 * (hx - case_front), hy))
    reached = -hx - 2 * hy
    return Shape(
        (-x + thick, hy, height),
        0.0,
        (hx, hy),
        round=False,
        surface=top,
        interior=hollow,
        outline=(reached, -hy, hx, hy + reach + 2 * thick),
        joints={"hinge": joint},
    )


@shape("lever", "height", joints=("hinge",))
def _lever(b: Blank) -> Shape:
    """A rod with a barrel-shaped knob, swinging from 45 degrees towards the robot to 45 degrees away from it."""
    h = b.size[0]
    base = (0.26 * h, 0.2 * h, 0.06 * h)
    pivot = 0.22 * h
    board(b, b.body, base, (0, 0, base[2]), _METAL, 0.6 * b.mass)
    for side in (-1, 1):
        board(b, b.body, (0.1 * h, 0.025 * h, 0.1 * h), (0, side * 0.1 * h, 0.2 * h), _METAL, 0.1 * b.mass)
    pin = [np.sqrt(0.5), np.sqrt(0.5), 0, 0]
    seen(b.body, _GEOM.mjGEOM_CYLINDER, (0.035 * h, 0.14 * h, 0), (0.7, 0.71, 0.73, 1.0), pos=[0, 0, pivot], quat=pin)

    part = moving_part(b, "hinge")
    part.pos, part.quat = [0, 0, pivot], [np.cos(np.pi / 8), 0, -np.sin(np.pi / 8), 0]
    part.gravcomp = 1.0  # counterweighted: it stays where it is left
    knob, thick = 0.09 * h, 0.035 * h
    length = h - pivot - knob
    board(b, part, (thick, thick, 0.5 * length), (0, 0, 0.5 * length), (0.70, 0.71, 0.73, 1.0), 0.05 * b.mass)
    solid(
        part,
        _GEOM.mjGEOM_CAPSULE,
        (knob, 0.08 * h, 0),
        b.friction,
        pos=[0, 0, length],
        quat=pin,
        rgba=b.rgba,
        mass=0.15 * b.mass,
    )
    joint = joint_of(b, part, "hinge", (0, 1, 0), 0.5 * np.pi, hinge=True)
    handle_site(part, (0, 0, length), out=(0, 0, 1), along=(0, 1, 0))
    reach = float(np.sqrt(0.5) * length + knob)
    return Shape(
        (reach, base[1], h),
        0.0,
        base[:2],
        round=False,
        outline=(-reach, -base[1], reach, base[1]),
        joints={"hinge": joint},
    )


@shape("dial", "radius", "height", joints=("turn",))
def _dial(b: Blank) -> Shape:
    """A knob with a bar across it, turned clockwise by half a turn; a white mark on the bar points to the scale."""
    radius, height = b.size
    plate, low, top = 0.18 * height, 0.22 * height, 0.55 * height
    half = 1.3 * radius
    board(b, b.body, (half, half, 0.5 * plate), (0, 0, 0.5 * plate), _METAL, 0.6 * b.mass)
    for tick in range(5):  # from +y over +x to -y
        angle = 0.5 * np.pi - 0.25 * np.pi * tick
        pos = [1.12 * radius * np.cos(angle), 1.12 * radius * np.sin(angle), plate]
        turn = [np.cos(0.5 * angle), 0, 0, np.sin(0.5 * angle)]
        seen(b.body, _GEOM.mjGEOM_BOX, (0.09 * radius, 0.03 * radius, 5e-4), _WHITE, pos=pos, quat=turn)

    part = moving_part(b, "turn")
    disc = np.array([[1e-4, low], [radius, low], [0.94 * radius, top], [1e-4, top]])
    show_lathe(b.spec, part, disc, b.rgba)
    octagon(b, part, 0.97 * radius, low, top, 0.2 * b.mass)
    bar = (0.3 * radius, 0.92 * radius, 0.5 * (height - top))
    board(b, part, bar, (0, 0, top + bar[2]), tint(b.rgba, 0.7), 0.2 * b.mass)
    mark = (0.08 * radius, 0.3 * radius, 5e-4)
    seen(part, _GEOM.mjGEOM_BOX, mark, _WHITE, pos=[0, 0.58 * radius, height])
    joint = joint_of(b, part, "turn", (0, 0, -1), np.pi, hinge=True)
    handle_site(part, (0, 0, 0.5 * (top + height)), out=(0, 0, 1), along=(0, 1, 0))
    return Shape((half, half, height), 0.0, (half, half), round=False, joints={"turn": joint})
