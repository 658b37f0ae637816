"""Hollow things: bowl, plate, tray."""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.objects.parts import show_lathe, solid
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Interior, Surface

_WALL = 0.003  # half thickness of container walls [m]


def _ring(body, radii: tuple[float, float], heights: tuple[float, float], friction, mass: float, count: int = 14):
    """A conical wall of boxes from (radii[0], heights[0]) up to (radii[1], heights[1])."""
    (r0, r1), (z0, z1) = radii, heights
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
            mujoco.mjtGeom.mjGEOM_BOX,
            (_WALL, width, 0.5 * length),
            friction,
            pos=[r * np.cos(angle), r * np.sin(angle), z],
            quat=quat,
            mass=mass / count,
            rgba=[0, 0, 0, 0],
        )


def _floor(body, radius: float, height: float, friction, mass: float) -> None:
    """A disc: a foot that meets the table's plane exactly, under boxes that carry objects without trembling.

    Contacts of a box with a plane or a box are closed-form and come as a patch; box on cylinder is iterative and
    flickers.
    """
    foot = 0.4 * height
    clear = [0, 0, 0, 0]
    solid(
        body,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        (radius, 0.5 * foot, 0),
        friction,
        pos=[0, 0, 0.5 * foot],
        mass=0.5 * mass,
        rgba=clear,
    )
    low = 0.5 * foot
    for angle in np.deg2rad([22.5, 45.0, 67.5]):
        half = (radius * np.cos(angle), radius * np.sin(angle), 0.5 * (height - low))
        solid(
            body, mujoco.mjtGeom.mjGEOM_BOX, half, friction, pos=[0, 0, 0.5 * (height + low)], mass=mass / 6, rgba=clear
        )


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
        solid(b.body, mujoco.mjtGeom.mjGEOM_BOX, half, b.friction, pos=pos, rgba=b.rgba, mass=b.mass / len(parts))
    hollow = Interior(
        center=(0.0, 0.0, 0.5 * (floor + height)), half=(hx - 2 * _WALL, hy - 2 * _WALL, 0.5 * (height - floor))
    )
    top = Surface(center=(0.0, 0.0, floor), half=(hx - 2 * _WALL, hy - 2 * _WALL))
    return Shape((hx, hy, height), 0.0, (hx, hy), round=False, surface=top, interior=hollow)
