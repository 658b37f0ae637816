"""Support and containment: on, in, above, contains_count."""

from __future__ import annotations

import math

from robostack.task import geometry as geo
from robostack.task.atoms.record import atom
from robostack.task.choose import tally
from robostack.task.predicate import Cmp
from robostack.task.world import World

STEEP = 0.5  # cosine of the slope beyond which a face supports nothing


@atom("on", "entity support", cost=3, needs={0: "geoms", 1: "surface"})
def on(world: World, a: str, b: str, *, z: float = 0.005, inset: float = 0.005, contact: float = 0.002) -> float:
    """``a`` rests on ``b``: min(z - |gap|, distance of COM(a) to the edge - inset, contact - distance(a, b)) [m].

    gap = bottom(a) - height of b's support face under COM(a). A zone and the table are flush with the plane that
    carries them: there the gap is the distance.
    """
    x, y, _ = geo.com(world, a)
    face = geo.face(world, b)
    if face.normal[2] < STEEP:
        return face.normal[2] - STEEP
    edge = face.inset(x, y) - inset
    if edge < 0.0:
        return edge
    gap = geo.bottom(world, a) - face.height(x, y)
    margin = min(z - abs(gap), edge)
    if margin < 0.0:
        return margin
    if b == "table" or not world.entities[b].geoms:
        return min(margin, contact - gap)
    distance = geo.contact_distance(world, a, b)
    if distance == math.inf:
        distance = geo.surface_distance(world, a, b, 2.0 * contact)
    return min(margin, contact - distance)


@atom("in", "entity entity", cost=3, needs={0: "geoms", 1: "interior"})
def inside(world: World, a: str, b: str, *, frac: float = 0.5, contact: float = 0.002) -> float:
    """``a`` lies in ``b``'s interior [m].

    min(signed distance of COM(a) to the interior's walls, (share of 64 points of a's bounding box inside - frac) *
    height of the interior, contact - distance from a to b or to an entity whose COM is in b). No slack that would
    grow with, or exceed, a small container.
    """
    depth = geo.depth_in(world, b, geo.com(world, a))
    if depth < 0.0:
        return depth
    interior = world.entities[b].interior
    assert interior is not None, b
    share = (geo.fraction_in(world, a, b) - frac) * 2.0 * interior.half[2]
    if share < 0.0:
        return share
    return min(depth, share, contact - _support_distance(world, a, b, 2.0 * contact))


def _support_distance(world: World, a: str, b: str, limit: float) -> float:
    """Distance from ``a`` to ``b`` or to what lies in ``b``, from contacts where there are any."""
    touched = list(geo.contacts(world, a))
    carriers = {world.index[b]} & {other for _, other in touched}
    if not carriers:
        within = (e for e, i in world.index.items() if any(i == other for _, other in touched))
        carriers = {world.index[e] for e in within if geo.depth_in(world, b, geo.com(world, e)) >= 0.0}
    if not carriers:
        return geo.surface_distance(world, a, b, limit)
    depths = world.data.contact.dist
    return min(float(depths[i]) for i, other in touched if other in carriers)


@atom("contains_count", "entity entities comparison count", cost=4, needs={0: "interior", 1: "geoms"})
def contains_count(world: World, b: str, items: tuple[str, ...], comparison: Cmp, n: float) -> float:
    """How many of ``items`` are in ``b``: for >= the n-th largest margin of in(item, b) [m]; see ``tally``."""
    return tally([inside(world, item, b) for item in items], comparison, int(n))


@atom("above", "entity support", needs={0: "geoms"})
def above(world: World, a: str, b: str, *, overlap: float = 0.3) -> float:
    """``a`` is over ``b``: min(bottom(a) - top(b), (share of a's shadow over b's - overlap) * its width) [m].

    The shadow is the xy bounding box.
    """
    gap = geo.bottom(world, a) - geo.extent_z(world, b)[1]
    if gap < 0.0 or b == "table":
        return gap
    (ax, ay), (bx, by) = _footprint(world, a), _footprint(world, b)
    (x, y, _), (p, q, _) = world.pos(a).tolist(), world.pos(b).tolist()
    shared_x = min(x + ax, p + bx) - max(x - ax, p - bx)
    shared_y = min(y + ay, q + by) - max(y - ay, q - by)
    share = max(shared_x, 0.0) * max(shared_y, 0.0) / (4.0 * ax * ay)
    return min(gap, (share - overlap) * 2.0 * math.sqrt(ax * ay))


def _footprint(world: World, entity: str) -> tuple[float, float]:
    """Half extents of the bounding box's shadow on the table [m]."""
    hx, hy, hz = world.entities[entity].half
    a, b, c, d, e, f, *_ = world.data.xmat[world.entities[entity].body].tolist()
    return abs(a) * hx + abs(b) * hy + abs(c) * hz, abs(d) * hx + abs(e) * hy + abs(f) * hz
