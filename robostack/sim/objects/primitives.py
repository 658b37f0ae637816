"""Solid primitives, and the painted zone."""

from __future__ import annotations

import mujoco

from robostack.sim.objects.parts import solid
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Surface

_GEOM = mujoco.mjtGeom


@shape("box", "ex", "ey", "ez")
def _box(b: Blank) -> Shape:
    half = (0.5 * b.size[0], 0.5 * b.size[1], 0.5 * b.size[2])
    solid(b.body, _GEOM.mjGEOM_BOX, half, b.friction, rgba=b.rgba, mass=b.mass)
    top = Surface(center=(0.0, 0.0, half[2]), half=half[:2])
    return Shape(half, half[2], half[:2], round=False, surface=top)


@shape("cylinder", "radius", "height")
def _cylinder(b: Blank) -> Shape:
    radius, half_z = b.size[0], 0.5 * b.size[1]
    solid(b.body, _GEOM.mjGEOM_CYLINDER, (radius, half_z, 0), b.friction, rgba=b.rgba, mass=b.mass)
    top = Surface(center=(0.0, 0.0, half_z), half=(radius, radius), round=True)
    return Shape((radius, radius, half_z), half_z, (radius, radius), round=True, surface=top)


@shape("sphere", "radius")
def _sphere(b: Blank) -> Shape:
    radius = b.size[0]
    geom = solid(b.body, _GEOM.mjGEOM_SPHERE, (radius, 0, 0), b.friction, rgba=b.rgba, mass=b.mass)
    geom.condim = 6
    return Shape((radius, radius, radius), radius, (radius, radius), round=True)


@shape("zone", "ex", "ey")
def _zone(b: Blank) -> Shape:
    hx, hy = 0.5 * b.size[0], 0.5 * b.size[1]
    b.body.add_geom(
        type=_GEOM.mjGEOM_BOX,
        size=[hx, hy, 0.0004],
        pos=[0, 0, 0.0002],
        rgba=[*b.rgba[:3], 0.55],
        contype=0,
        conaffinity=0,
        group=1,
        mass=0.0,
    )
    return Shape((hx, hy, 0.001), 0.0, (hx, hy), round=False, surface=Surface(center=(0.0, 0.0, 0.0), half=(hx, hy)))
