"""Relations of position and orientation: distance, direction, pose, arrangement."""

from __future__ import annotations

import itertools
import math

from robostack.task import geometry as geo
from robostack.task.atoms.record import atom
from robostack.task.symmetry import angle_modulo
from robostack.task.world import World


@atom("near", "entity support number", cost=2, needs={0: "geoms", 1: "geoms"})
def near(world: World, a: str, b: str, d: float) -> float:
    """Surfaces at most ``d`` apart: d - distance(a, b) [m]."""
    return d - geo.surface_distance(world, a, b)


@atom("far", "entity support number", cost=2, needs={0: "geoms", 1: "geoms"})
def far(world: World, a: str, b: str, d: float) -> float:
    """Surfaces at least ``d`` apart: distance(a, b) - d [m]."""
    return geo.surface_distance(world, a, b) - d


def _beside(world: World, a: str, b: str, dx: float, dy: float, gap: float, lateral: float) -> float:
    (x, y, _), (p, q, _) = geo.com(world, a), geo.com(world, b)
    along = (x - p) * dx + (y - q) * dy
    across = (x - p) * dy - (y - q) * dx
    return min(along - gap, lateral - abs(across))


@atom("left_of", "entity entity")
def left_of(world: World, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """``a`` is to the robot's left of ``b``: min(y_a - y_b - gap, lateral - |x_a - x_b|) of their COMs [m]."""
    return _beside(world, a, b, 0.0, 1.0, gap, lateral)


@atom("right_of", "entity entity")
def right_of(world: World, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """``a`` is to the robot's right of ``b``: min(y_b - y_a - gap, lateral - |x_a - x_b|) of their COMs [m]."""
    return _beside(world, a, b, 0.0, -1.0, gap, lateral)


@atom("front_of", "entity entity")
def front_of(world: World, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """``a`` is further from the robot than ``b``: min(x_a - x_b - gap, lateral - |y_a - y_b|) of their COMs [m]."""
    return _beside(world, a, b, 1.0, 0.0, gap, lateral)


@atom("behind", "entity entity")
def behind(world: World, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """``a`` is nearer to the robot than ``b``: min(x_b - x_a - gap, lateral - |y_a - y_b|) of their COMs [m]."""
    return _beside(world, a, b, -1.0, 0.0, gap, lateral)


@atom("upright", "entity", unit="rad")
def upright(world: World, a: str, *, angle: float = math.radians(15.0)) -> float:
    """``a`` stands: angle - angle between its up axis and z [rad].

    What looks the same upside down (box, square_prism) may stand on its head, a cube on any face; a sphere always does.
    """
    binding = world.entities[a]
    if binding.symmetry == "sphere":
        return angle
    g, h, i = world.data.xmat[binding.body, 6:9].tolist()
    u, v, w = binding.up
    cosine = g * u + h * v + i * w
    if binding.symmetry == "cube":
        cosine = max(abs(g), abs(h), abs(i))
    elif binding.symmetry in ("box", "square_prism"):
        cosine = abs(cosine)
    return angle - math.acos(max(-1.0, min(1.0, cosine)))


@atom("pose_at", "entity pose", unit="m or rad", cost=2)
def pose_at(
    world: World, a: str, pose: tuple[float, ...], *, pos: float = 0.015, angle: float = math.radians(15.0)
) -> float:
    """``a`` is at a pose: min(pos - distance in 3-D [m], angle - rotation between them modulo a's symmetry [rad])."""
    x, y, z = world.pos(a).tolist()
    offset = pos - math.sqrt((x - pose[0]) ** 2 + (y - pose[1]) ** 2 + (z - pose[2]) ** 2)
    if offset < 0.0:
        return offset
    return min(offset, angle - angle_modulo(world.rot(a), pose[3:], world.entities[a].symmetry, world.entities[a].up))


@atom("aligned", "entities")
def aligned(world: World, items: tuple[str, ...], *, dist: float = 0.015) -> float:
    """COMs on a horizontal line: dist - largest distance to the line that makes it least [m].

    That line is parallel to one through two of the points (the narrowest strip touches an edge of their convex hull),
    so trying all pairs is exact and independent of the order.
    """
    points = [geo.com(world, item)[:2] for item in items]
    widths = []
    for (x, y), (p, q) in itertools.combinations(points, 2):
        length = math.hypot(p - x, q - y)
        if length > 1e-9:
            across = [((u - x) * (q - y) - (v - y) * (p - x)) / length for u, v in points]
            widths.append(max(across) - min(across))
    return dist - min(widths, default=0.0) / 2.0


@atom("spread", "entities number", cost=2, needs={0: "geoms"})
def spread(world: World, items: tuple[str, ...], d: float) -> float:
    """All within ``d`` of each other: d - largest pairwise surface distance [m]."""
    return d - max(geo.surface_distance(world, a, b) for a, b in itertools.combinations(sorted(items), 2))


@atom("sorted", "entities direction")
def ordered(world: World, items: tuple[str, ...], direction: tuple[float, ...], *, gap: float = 0.01) -> float:
    """In the given order along a horizontal direction: least step between consecutive COMs along it - gap [m]."""
    length = math.hypot(direction[0], direction[1])
    along = [(x * direction[0] + y * direction[1]) / length for x, y, _ in (geo.com(world, i) for i in items)]
    return min(b - a for a, b in itertools.pairwise(along)) - gap
