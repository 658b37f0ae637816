"""Asset cards -> bodies. Shapes touch through primitives and show, where it helps the eye, a lathed mesh.

Size conventions [m]: box (x, y, z) edges; cylinder (radius, height); sphere (radius,); bowl (rim radius, height);
plate (rim radius,); tray (x, y, z) outer edges; zone (x, y) edges. Body origins lie at the centre of the resting box
for convex shapes, and on the table plane for bowl, plate, tray and zone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np

from robostack.errors import SpecError
from robostack.registry import Registry
from robostack.sim.cards import AssetCard
from robostack.sim.robot import OBJECT_BIT
from robostack.task.world import Interior, Surface

COLORS: dict[str, tuple[float, float, float, float]] = {
    "red": (0.84, 0.18, 0.16, 1),
    "green": (0.20, 0.62, 0.32, 1),
    "blue": (0.16, 0.38, 0.78, 1),
    "yellow": (0.95, 0.77, 0.15, 1),
    "orange": (0.93, 0.48, 0.13, 1),
    "purple": (0.50, 0.28, 0.66, 1),
    "pink": (0.92, 0.52, 0.66, 1),
    "cyan": (0.20, 0.70, 0.76, 1),
    "brown": (0.47, 0.31, 0.20, 1),
    "white": (0.93, 0.93, 0.92, 1),
    "gray": (0.52, 0.53, 0.55, 1),
    "black": (0.13, 0.13, 0.14, 1),
}
_WALL = 0.003  # half thickness of container walls [m]


@dataclass(frozen=True)
class Shape:
    """What a shape offers besides its geoms.

    Attributes:
        half: half extents of the bounding box about the body origin, by the farther side [m].
        rest_z: height of the body origin when it rests on a surface [m].
        footprint: half extents of its footprint [m].
        round: whether the footprint is a disc.
    """

    half: tuple[float, float, float]
    rest_z: float
    footprint: tuple[float, float]
    round: bool
    surface: Surface | None = None
    interior: Interior | None = None


Builder = Callable[..., Shape]
SHAPES: Registry[Builder] = Registry("shape")
_ARITY = {"box": 3, "cylinder": 2, "sphere": 1, "bowl": 2, "plate": 1, "tray": 3, "zone": 2, "mesh": 1}


def build_object(spec: mujoco.MjSpec, body, card: AssetCard, size: tuple[float, ...] | None, color: str) -> Shape:
    """Add the card's geoms to a body of ``spec``; mass scales with volume. Raises SpecError for a bad size."""
    size = size or card.size
    if len(size) != _ARITY[card.shape] or min(size) <= 0:
        raise SpecError(f"{card.name}: size {size} must be {_ARITY[card.shape]} positive lengths")
    if color not in COLORS:
        raise SpecError(f"{card.name}: unknown color '{color}'; known: {', '.join(sorted(COLORS))}")
    if card.mesh is not None:
        from robostack.sim.mesh_shape import build_mesh

        return build_mesh(spec, body, card, size[0], COLORS[color])
    mass = card.mass * float(np.prod(size) / np.prod(card.size)) ** (3 / len(size))
    return SHAPES[card.shape](spec, body, size, COLORS[color], mass, card.friction)


def _geom(body, kind: mujoco.mjtGeom, size, friction, **extra):
    return body.add_geom(
        type=kind,
        size=np.resize(np.asarray(size, float), 3),
        friction=friction,
        condim=4,
        contype=OBJECT_BIT,
        conaffinity=OBJECT_BIT,
        group=0,
        **extra,
    )


def _visual_lathe(spec, body, profile: np.ndarray, rgba, segments: int = 40) -> None:
    """Surface of revolution of (radius, z) points, for the eye only."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    verts = np.concatenate([np.c_[r * ring, np.full(segments, z)] for r, z in profile])
    faces = []
    for level in range(len(profile) - 1):
        for i in range(segments):
            a, b = level * segments + i, level * segments + (i + 1) % segments
            faces += [(a, b, b + segments), (a, b + segments, a + segments)]
    name = f"{body.name}_lathe"
    spec.add_mesh(
        name=name,
        uservert=verts.ravel(),
        userface=np.asarray(faces).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, rgba=rgba, contype=0, conaffinity=0, group=1, mass=0.0
    )


def _box(spec, body, size, rgba, mass, friction) -> Shape:
    half = tuple(0.5 * s for s in size)
    _geom(body, mujoco.mjtGeom.mjGEOM_BOX, half, friction, rgba=rgba, mass=mass)
    top = Surface(center=(0.0, 0.0, half[2]), half=half[:2])
    return Shape(half, half[2], half[:2], round=False, surface=top)


def _cylinder(spec, body, size, rgba, mass, friction) -> Shape:
    radius, half_z = size[0], 0.5 * size[1]
    _geom(body, mujoco.mjtGeom.mjGEOM_CYLINDER, (radius, half_z, 0), friction, rgba=rgba, mass=mass)
    top = Surface(center=(0.0, 0.0, half_z), half=(radius, radius), round=True)
    return Shape((radius, radius, half_z), half_z, (radius, radius), round=True, surface=top)


def _sphere(spec, body, size, rgba, mass, friction) -> Shape:
    radius = size[0]
    geom = _geom(body, mujoco.mjtGeom.mjGEOM_SPHERE, (radius, 0, 0), friction, rgba=rgba, mass=mass)
    geom.condim = 6
    return Shape((radius, radius, radius), radius, (radius, radius), round=True)


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
        _geom(
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
    _geom(
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
        _geom(
            body, mujoco.mjtGeom.mjGEOM_BOX, half, friction, pos=[0, 0, 0.5 * (height + low)], mass=mass / 6, rgba=clear
        )


def _bowl(spec, body, size, rgba, mass, friction) -> Shape:
    radius, height = size
    base, floor = 0.62 * radius, 0.006
    _floor(body, base, floor, friction, 0.5 * mass)
    _ring(body, (base, radius - _WALL), (0.5 * floor, height - _WALL), friction, 0.5 * mass)
    u = np.linspace(0, 1, 9)[:, None]
    wall = np.array([[base, 0.0]]) + u * np.array([[radius - base, height]])
    wall[:, 0] += 0.05 * radius * np.sin(np.pi * u[:, 0])
    inner = wall[::-1] - np.array([[2 * _WALL, 0.0]])
    inner[-1] = [base - 2 * _WALL, floor]
    profile = np.vstack([[[1e-4, 0.0]], wall, [[radius - _WALL, height + 0.001]], inner, [[1e-4, floor]]])
    _visual_lathe(spec, body, profile, rgba)
    hollow = Interior(
        center=(0.0, 0.0, 0.5 * (floor + height)),
        half=(0.86 * radius, 0.86 * radius, 0.5 * (height - floor)),
        round=True,
    )
    top = Surface(center=(0.0, 0.0, floor), half=(base, base), round=True)
    return Shape((radius, radius, height), 0.0, (radius, radius), round=True, surface=top, interior=hollow)


def _plate(spec, body, size, rgba, mass, friction) -> Shape:
    radius, floor, height = size[0], 0.008, 0.016
    base = 0.78 * radius
    _floor(body, base, floor, friction, 0.7 * mass)
    _ring(body, (base, radius - _WALL), (0.5 * floor, height - _WALL), friction, 0.3 * mass)
    profile = np.array(
        [[1e-4, 0], [base, 0], [radius, height], [radius - 0.003, height + 0.001], [base - 0.002, floor], [1e-4, floor]]
    )
    _visual_lathe(spec, body, profile, rgba)
    top = Surface(center=(0.0, 0.0, floor), half=(base, base), round=True)
    return Shape((radius, radius, height), 0.0, (radius, radius), round=True, surface=top)


def _tray(spec, body, size, rgba, mass, friction) -> Shape:
    hx, hy, height = 0.5 * size[0], 0.5 * size[1], size[2]
    floor = 0.006
    parts = [((hx, hy, 0.5 * floor), (0.0, 0.0, 0.5 * floor))]
    parts += [((_WALL, hy, 0.5 * height), (s * (hx - _WALL), 0.0, 0.5 * height)) for s in (-1, 1)]
    parts += [((hx - 2 * _WALL, _WALL, 0.5 * height), (0.0, s * (hy - _WALL), 0.5 * height)) for s in (-1, 1)]
    for half, pos in parts:
        _geom(body, mujoco.mjtGeom.mjGEOM_BOX, half, friction, pos=pos, rgba=rgba, mass=mass / len(parts))
    hollow = Interior(
        center=(0.0, 0.0, 0.5 * (floor + height)), half=(hx - 2 * _WALL, hy - 2 * _WALL, 0.5 * (height - floor))
    )
    top = Surface(center=(0.0, 0.0, floor), half=(hx - 2 * _WALL, hy - 2 * _WALL))
    return Shape((hx, hy, height), 0.0, (hx, hy), round=False, surface=top, interior=hollow)


def _zone(spec, body, size, rgba, mass, friction) -> Shape:
    del spec, mass, friction  # Unused: paint has neither.
    hx, hy = 0.5 * size[0], 0.5 * size[1]
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[hx, hy, 0.0004],
        pos=[0, 0, 0.0002],
        rgba=[*rgba[:3], 0.55],
        contype=0,
        conaffinity=0,
        group=1,
        mass=0.0,
    )
    return Shape((hx, hy, 0.001), 0.0, (hx, hy), round=False, surface=Surface(center=(0.0, 0.0, 0.0), half=(hx, hy)))


for _name, _builder in {
    "box": _box,
    "cylinder": _cylinder,
    "sphere": _sphere,
    "bowl": _bowl,
    "plate": _plate,
    "tray": _tray,
    "zone": _zone,
}.items():
    SHAPES.add(_name, _builder)
