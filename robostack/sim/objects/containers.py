"""Hollow things, and the lid of a box."""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.objects.parts import CLEAR, board, octagon, seen, show_board, show_lathe, solid, tint
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Grip, Interior, Surface

_BOX = mujoco.mjtGeom.mjGEOM_BOX
_WALL = 0.003  # half thickness of container walls [m]
_PLAY = 0.003  # between a peg and each side of its hole [m]


def _ring(
    body, radii: tuple[float, float], heights: tuple[float, float], friction, mass: float, wall: float = _WALL
) -> None:
    """A conical wall of boxes from (radii[0], heights[0]) up to (radii[1], heights[1])."""
    (r0, r1), (z0, z1) = radii, heights
    count = 14
    slope = np.arctan2(r1 - r0, z1 - z0)
    length = np.hypot(r1 - r0, z1 - z0)
    width = np.pi * r1 / count * 1.08
    for i in range(count):
        angle = 2 * np.pi * i / count
        turn, lean, quat = np.zeros(4), np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), angle)
        mujoco.mju_axisAngle2Quat(lean, np.array([0.0, 1.0, 0.0]), slope)
        mujoco.mju_mulQuat(quat, turn, lean)
        r, z = 0.5 * (r0 + r1), 0.5 * (z0 + z1)
        solid(
            body,
            _BOX,
            (wall, width, 0.5 * length),
            friction,
            pos=[r * np.cos(angle), r * np.sin(angle), z],
            quat=quat,
            mass=mass / count,
            rgba=CLEAR,
        )


def _floor(body, radius: float, height: float, friction, mass: float) -> None:
    """A disc: a foot that meets the table's plane exactly, under boxes that carry objects without trembling.

    Contacts of a box with a plane or a box are closed-form and come as a patch; box on cylinder is iterative and
    flickers.
    """
    foot = 0.4 * height
    solid(
        body,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        (radius, 0.5 * foot, 0),
        friction,
        pos=[0, 0, 0.5 * foot],
        mass=0.5 * mass,
        rgba=CLEAR,
    )
    low = 0.5 * foot
    for angle in np.deg2rad([22.5, 45.0, 67.5]):
        half = (radius * np.cos(angle), radius * np.sin(angle), 0.5 * (height - low))
        solid(body, _BOX, half, friction, pos=[0, 0, 0.5 * (height + low)], mass=mass / 6, rgba=CLEAR)


@shape("bowl", "radius", "height")
def _bowl(b: Blank) -> Shape:
    radius, height = b.size
    base, floor = 0.62 * radius, 0.006
    _floor(b.body, base, floor, b.friction, 0.5 * b.mass)
    _ring(b.body, (base, radius - _WALL), (0.5 * floor, height - _WALL), b.friction, 0.5 * b.mass)
    u = np.linspace(0, 1, 9)[:, None]
    wall = np.array([[base, 0.0]]) + u * np.array([[radius - base, height]])
    wall[:, 0] += 0.05 * radius * np.sin(np.pi * u[:, 0])
    inner = wall[::-1] - np.array([[2 * _WALL, 0.0]])
    inner[-1] = [base - 2 * _WALL, floor]
    profile = np.vstack([[[1e-4, 0.0]], wall, [[radius - _WALL, height + 0.001]], inner, [[1e-4, floor]]])
    show_lathe(b.spec, b.body, profile, b.rgba)
    hollow = Interior(
        center=(0.0, 0.0, 0.5 * (floor + height)),
        half=(0.86 * radius, 0.86 * radius, 0.5 * (height - floor)),
        round=True,
    )
    top = Surface(center=(0.0, 0.0, floor), half=(base, base), round=True)
    return Shape((radius, radius, height), 0.0, (radius, radius), round=True, surface=top, interior=hollow)


@shape("plate", "radius")
def _plate(b: Blank) -> Shape:
    radius, floor, height = b.size[0], 0.008, 0.016
    base = 0.78 * radius
    _floor(b.body, base, floor, b.friction, 0.7 * b.mass)
    _ring(b.body, (base, radius - _WALL), (0.5 * floor, height - _WALL), b.friction, 0.3 * b.mass)
    profile = np.array(
        [[1e-4, 0], [base, 0], [radius, height], [radius - 0.003, height + 0.001], [base - 0.002, floor], [1e-4, floor]]
    )
    show_lathe(b.spec, b.body, profile, b.rgba)
    top = Surface(center=(0.0, 0.0, floor), half=(base, base), round=True)
    return Shape((radius, radius, height), 0.0, (radius, radius), round=True, surface=top)


@shape("tray", "ex", "ey", "ez")
def _tray(b: Blank) -> Shape:
    hx, hy, height = 0.5 * b.size[0], 0.5 * b.size[1], b.size[2]
    floor = 0.006
    parts = [((hx, hy, 0.5 * floor), (0.0, 0.0, 0.5 * floor))]
    parts += [((_WALL, hy, 0.5 * height), (s * (hx - _WALL), 0.0, 0.5 * height)) for s in (-1, 1)]
    parts += [((hx - 2 * _WALL, _WALL, 0.5 * height), (0.0, s * (hy - _WALL), 0.5 * height)) for s in (-1, 1)]
    for half, pos in parts:
        solid(b.body, _BOX, half, b.friction, pos=pos, rgba=b.rgba, mass=b.mass / len(parts))
    hollow = Interior(
        center=(0.0, 0.0, 0.5 * (floor + height)), half=(hx - 2 * _WALL, hy - 2 * _WALL, 0.5 * (height - floor))
    )
    top = Surface(center=(0.0, 0.0, floor), half=(hx - 2 * _WALL, hy - 2 * _WALL))
    return Shape((hx, hy, height), 0.0, (hx, hy), round=False, surface=top, interior=hollow)


def _open_box(b: Blank, floor: float, *, rim: bool) -> tuple[tuple[float, float, float], Interior]:
    """A floor and four upright walls, with a collar around the top where ``rim``: outer half extents and hollow."""
    hx, hy, height = 0.5 * b.size[0], 0.5 * b.size[1], b.size[2]
    middle, upright = 0.5 * (height + floor), 0.5 * (height - floor)
    board(b, b.body, (hx, hy, 0.5 * floor), (0, 0, 0.5 * floor), tint(b.rgba, 0.8), 0.32 * b.mass)
    for side in (-1, 1):
        board(b, b.body, (_WALL, hy, upright), (side * (hx - _WALL), 0, middle), b.rgba, 0.17 * b.mass)
        half = (hx - 2 * _WALL, _WALL, upright)
        board(b, b.body, half, (0, side * (hy - _WALL), middle), b.rgba, 0.17 * b.mass)
        if rim:
            lip = tint(b.rgba, 1.25)
            show_board(b, b.body, (_WALL, hy, _WALL), (side * hx, 0, height - _WALL), lip)
            show_board(b, b.body, (hx, _WALL, _WALL), (0, side * hy, height - _WALL), lip)
    hollow = Interior(center=(0.0, 0.0, middle), half=(hx - 2 * _WALL, hy - 2 * _WALL, upright))
    return (hx, hy, height), hollow


@shape("bin", "ex", "ey", "ez")
def _bin(b: Blank) -> Shape:
    """Deep; its face is the floor."""
    half, hollow = _open_box(b, 0.008, rim=True)
    floor = Surface(center=(0.0, 0.0, 0.008), half=hollow.half[:2])
    return Shape(half, 0.0, half[:2], round=False, surface=floor, interior=hollow)


@shape("open_box", "ex", "ey", "ez")
def _box(b: Blank) -> Shape:
    """Its face is the rim, on which a lid of the same outline rests."""
    half, hollow = _open_box(b, 0.006, rim=False)
    rim = Surface(center=(0.0, 0.0, half[2]), half=half[:2])
    return Shape(half, 0.0, half[:2], round=False, surface=rim, interior=hollow)


@shape("lid", "ex", "ey", "ez")
def _lid(b: Blank) -> Shape:
    """A flat slab with a knob on top; ez is its height with the knob."""
    hx, hy, height = 0.5 * b.size[0], 0.5 * b.size[1], b.size[2]
    slab, knob = 0.15 * height, 0.35 * height
    board(b, b.body, (hx, hy, slab), (0, 0, slab), b.rgba, 0.85 * b.mass)
    center = (0.0, 0.0, height - knob)
    board(b, b.body, (knob, knob, knob), center, tint(b.rgba, 0.45), 0.15 * b.mass)
    return Shape((hx, hy, height), 0.0, (hx, hy), round=False, grip=Grip(center=center, half=(knob, knob, knob)))


@shape("mug", "radius", "height")
def _mug(b: Blank) -> Shape:
    """An upright wall of a hollow radius, with a handle towards +x; the fingers close along y, beside the handle."""
    radius, height = b.size
    wall = min(_WALL, 0.08 * radius)
    floor, inner = 4 * wall / 3, radius - 2 * wall
    octagon(b, b.body, radius - 0.6 * wall, 0.0, floor, 0.25 * b.mass)
    _ring(b.body, (radius - wall, radius - wall), (0.5 * floor, height), b.friction, 0.65 * b.mass, wall=wall)
    u = np.linspace(0, np.pi, 5)
    lip = np.stack([radius - wall + wall * np.cos(u), height + 0.6 * wall * np.sin(u)], axis=1)
    profile = np.vstack(
        [[[1e-4, 0], [0.93 * radius, 0], [radius, 0.06 * height]], lip, [[inner, floor], [1e-4, floor]]]
    )
    show_lathe(b.spec, b.body, profile, b.rgba)
    ear, thick = 0.7 * radius, 0.11 * radius
    low, high = 0.25 * height, 0.8 * height
    for z in (low, high):
        half = (0.5 * ear, thick, thick)
        board(b, b.body, half, (radius - 0.5 * wall + 0.5 * ear, 0, z), b.rgba, 0.03 * b.mass)
    end = radius - 0.5 * wall + ear - thick
    board(b, b.body, (thick, thick, 0.5 * (high - low)), (end, 0, 0.5 * (low + high)), b.rgba, 0.04 * b.mass)
    hollow = Interior(
        center=(0.0, 0.0, 0.5 * (floor + height)), half=(inner, inner, 0.5 * (height - floor)), round=True
    )
    grip = Grip(center=(0.0, 0.0, 0.55 * height), half=(radius, radius, 0.45 * height), across=("y",))
    reach = end + thick
    half, outline = (reach, radius, height), (-radius, -radius, reach, radius)
    return Shape(half, 0.0, half[:2], round=False, interior=hollow, outline=outline, grip=grip)


@shape("socket", "edge", "height")
def _socket(b: Blank) -> Shape:
    """A block with a square hole for a peg of that edge, ``_PLAY`` wider on each side."""
    edge, height = b.size
    hole, half, floor = 0.5 * edge + _PLAY, 1.5 * edge, 0.12 * height
    board(b, b.body, (half, half, 0.5 * floor), (0, 0, 0.5 * floor), tint(b.rgba, 0.5), 0.2 * b.mass)
    wall, upright, middle = 0.5 * (half - hole), 0.5 * (height - floor), 0.5 * (height + floor)
    lip, thin = tint(b.rgba, 0.4), 4e-4
    for side in (-1, 1):
        offset = side * (hole + wall)
        for half_xy, pos in (((wall, half), (offset, 0)), ((hole, wall), (0, offset))):
            size, at = (*half_xy, upright), (*pos, middle)
            solid(b.body, _BOX, size, b.friction, pos=at, rgba=b.rgba, mass=0.2 * b.mass)
        edge_at, rim = side * (hole + 0.1 * wall), (0.1 * wall, hole + 0.2 * wall, thin)
        seen(b.body, _BOX, rim, lip, pos=[edge_at, 0, height])
        seen(b.body, _BOX, (rim[1], rim[0], thin), lip, pos=[0, edge_at, height])
    hollow = Interior(center=(0.0, 0.0, middle), half=(hole, hole, upright))
    return Shape((half, half, height), 0.0, (half, half), round=False, interior=hollow)


@shape("shelf", "ex", "ey", "ez")
def _shelf(b: Blank) -> Shape:
    """A board on two side walls: room below, a face on top."""
    hx, hy, height = 0.5 * b.size[0], 0.5 * b.size[1], b.size[2]
    thick = 0.06 * height
    board(b, b.body, (hx, hy, thick), (0, 0, height - thick), b.rgba, 0.5 * b.mass)
    upright = 0.5 * (height - 2 * thick)
    for side in (-1, 1):
        pos = (0, side * (hy - 2 * thick), upright)
        board(b, b.body, (0.92 * hx, thick, upright), pos, tint(b.rgba, 0.6), 0.25 * b.mass)
    top = Surface(center=(0.0, 0.0, height), half=(hx, hy))
    return Shape((hx, hy, height), 0.0, (hx, hy), round=False, surface=top)
