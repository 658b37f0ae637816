"""Closed-form geometry of entities in a World: extents, faces, distances, contacts.

Positions are plain floats: on 3-vectors they are several times faster than numpy calls, and predicates run at
every control step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np

from robostack.task.world import TABLE, EntityBinding, World

Vec3 = tuple[float, float, float]

_GEOM = mujoco.mjtGeom
_BOX_LIKE = ("cube", "box", "square_prism")


class Face(NamedTuple):
    """An upward support face in the world frame.

    Attributes:
        center: its centre [m].
        u, v, normal: unit vectors along its two sides and out of it.
        half: half extents along u and v [m]; the radius twice when ``round``.
    """

    center: Vec3
    u: Vec3
    v: Vec3
    normal: Vec3
    half: tuple[float, float]
    round: bool

    def inset(self, x: float, y: float) -> float:
        """Distance of the point above (x, y) to the nearest edge of the face; negative outside [m]."""
        dx, dy = x - self.center[0], y - self.center[1]
        dz = self.height(x, y) - self.center[2]
        du = dx * self.u[0] + dy * self.u[1] + dz * self.u[2]
        dv = dx * self.v[0] + dy * self.v[1] + dz * self.v[2]
        if self.round:
            return self.half[0] - math.hypot(du, dv)
        return min(self.half[0] - abs(du), self.half[1] - abs(dv))

    def height(self, x: float, y: float) -> float:
        """Height z of the face's plane at (x, y) [m]; that of the centre when the face is steeper than 60 degrees."""
        nx, ny, nz = self.normal
        if nz < 0.5:
            return self.center[2]
        return self.center[2] - (nx * (x - self.center[0]) + ny * (y - self.center[1])) / nz


def com(world: World, entity: str) -> Vec3:
    """Centre of mass [m, world]; the centre of its face for a zone."""
    binding = world.entities[entity]
    if not binding.geoms and binding.surface is not None:
        return _to_world(world, binding.body, binding.surface.center)
    x, y, z = world.data.xipos[binding.body].tolist()
    return x, y, z


def extent_z(world: World, entity: str) -> tuple[float, float]:
    """Lowest and highest z of an entity's collision geoms [m, world]; of its face for a zone; (0, 0) for the table."""
    if entity == "table":
        return 0.0, 0.0
    binding = world.entities[entity]
    if not binding.geoms:
        z = com(world, entity)[2]
        return z, z
    spans = [_geom_extent_z(world, geom) for geom in binding.geoms]
    return min(span[0] for span in spans), max(span[1] for span in spans)


def bottom(world: World, entity: str) -> float:
    """Lowest z of an entity [m, world]."""
    return extent_z(world, entity)[0]


def _geom_extent_z(world: World, geom: int) -> tuple[float, float]:
    """Support of a geom along -z and +z: centre -+ |row z of the rotation * half sizes|, per shape."""
    model, data = world.model, world.data
    z = float(data.geom_xpos[geom, 2])
    r0, r1, r2 = data.geom_xmat[geom, 6:9].tolist()
    s0, s1, s2 = model.geom_size[geom].tolist()
    kind = model.geom_type[geom]
    if kind == _GEOM.mjGEOM_BOX:
        reach = abs(r0) * s0 + abs(r1) * s1 + abs(r2) * s2
    elif kind == _GEOM.mjGEOM_SPHERE:
        reach = s0
    elif kind == _GEOM.mjGEOM_CAPSULE:
        reach = s0 + abs(r2) * s1
    elif kind == _GEOM.mjGEOM_CYLINDER:
        reach = s0 * math.hypot(r0, r1) + abs(r2) * s1
    elif kind == _GEOM.mjGEOM_ELLIPSOID:
        reach = math.sqrt((r0 * s0) ** 2 + (r1 * s1) ** 2 + (r2 * s2) ** 2)
    else:
        return _mesh_extent_z(world, geom, z)
    return z - reach, z + reach


def _mesh_extent_z(world: World, geom: int, z: float) -> tuple[float, float]:
    model = world.model
    mesh = model.geom_dataid[geom]
    assert model.geom_type[geom] == _GEOM.mjGEOM_MESH, f"geom {geom} has no closed-form extent"
    start = model.mesh_vertadr[mesh]
    vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]]
    heights = vertices @ world.data.geom_xmat[geom, 6:9]
    return z + float(heights.min()), z + float(heights.max())


def face(world: World, entity: str) -> Face:
    """The support face of an entity; of a box-shaped one the side that looks up, whichever it is now.

    The table is the unbounded plane z = 0, unless all its geoms are boxes: then the largest of their top faces.
    """
    if entity == "table":
        return _table_face(world)
    binding = world.entities[entity]
    surface = binding.surface
    assert surface is not None, f"'{entity}' has no support face"
    body = binding.body if binding.surface_body < 0 else binding.surface_body
    axes = _columns(world, body)
    if binding.symmetry in _BOX_LIKE:
        k = max(range(3), key=lambda i: abs(axes[i][2]))
        if k != 2 or axes[2][2] < 0.0:
            sign = 1.0 if axes[k][2] >= 0.0 else -1.0
            i, j = (k + 1) % 3, (k + 2) % 3
            offset = [0.0, 0.0, 0.0]
            offset[k] = sign * binding.half[k]
            nx, ny, nz = axes[k]
            normal = (sign * nx, sign * ny, sign * nz)
            center = _to_world(world, body, (offset[0], offset[1], offset[2]))
            return Face(center, axes[i], axes[j], normal, (binding.half[i], binding.half[j]), False)
    return Face(_to_world(world, body, surface.center), *axes, surface.half, surface.round)


def _table_face(world: World) -> Face:
    model = world.model
    boxes = [g for g in world.table_geoms if model.geom_type[g] == _GEOM.mjGEOM_BOX]
    half, x, y = (math.inf, math.inf), 0.0, 0.0
    if boxes and len(boxes) == len(world.table_geoms):
        largest = max(boxes, key=lambda g: model.geom_size[g, 0] * model.geom_size[g, 1])
        half = (float(model.geom_size[largest, 0]), float(model.geom_size[largest, 1]))
        x, y = world.data.geom_xpos[largest, :2].tolist()
    return Face((x, y, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), half, False)


def _columns(world: World, body: int) -> tuple[Vec3, Vec3, Vec3]:
    """The body axes in the world frame."""
    a, b, c, d, e, f, g, h, i = world.data.xmat[body].tolist()
    return (a, d, g), (b, e, h), (c, f, i)


def _to_world(world: World, body: int, point: Vec3) -> Vec3:
    a, b, c, d, e, f, g, h, i = world.data.xmat[body].tolist()
    x, y, z = world.data.xpos[body].tolist()
    p, q, r = point
    return x + a * p + b * q + c * r, y + d * p + e * q + f * r, z + g * p + h * q + i * r


def depth_in(world: World, entity: str, point: Vec3) -> float:
    """Signed distance of a world point to the walls of the entity's interior, positive inside [m]."""
    side, height = _depths(world, entity, point)
    return min(side, height)


def sideways_in(world: World, entity: str, point: Vec3) -> float:
    """The same without regard to its floor and its brim [m]."""
    return _depths(world, entity, point)[0]


def _depths(world: World, entity: str, point: Vec3) -> tuple[float, float]:
    """Signed distances to the side walls and to the ends along the interior's z axis [m]."""
    binding = world.entities[entity]
    interior = binding.interior
    assert interior is not None, f"'{entity}' has no interior"
    body = _interior_body(binding)
    x, y, z = world.data.xpos[body].tolist()
    dx, dy, dz = point[0] - x, point[1] - y, point[2] - z
    (a, d, g), (b, e, h), (c, f, i) = _columns(world, body)
    u = a * dx + d * dy + g * dz - interior.center[0]
    v = b * dx + e * dy + h * dz - interior.center[1]
    w = c * dx + f * dy + i * dz - interior.center[2]
    side = (
        interior.half[0] - math.hypot(u, v)
        if interior.round
        else min(interior.half[0] - abs(u), interior.half[1] - abs(v))
    )
    return side, interior.half[2] - abs(w)


def _interior_body(binding: EntityBinding) -> int:
    return binding.body if binding.interior_body < 0 else binding.interior_body


_STEPS = np.array([-0.75, -0.25, 0.25, 0.75])
_SAMPLES = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(64, 3)


def fraction_in(world: World, entity: str, container: str) -> float:
    """Share of 64 fixed points of the entity's bounding box, a 4 x 4 x 4 grid of cell centres, in the interior."""
    item, binding = world.entities[entity], world.entities[container]
    interior = binding.interior
    assert interior is not None, f"'{container}' has no interior"
    body = _interior_body(binding)
    points = world.pos(entity) + _SAMPLES * item.half @ world.rot(entity).T
    local = np.abs((points - world.data.xpos[body]) @ world.data.xmat[body].reshape(3, 3) - interior.center)
    if interior.round:
        inside = (local[:, 0] ** 2 + local[:, 1] ** 2 <= interior.half[0] ** 2) & (local[:, 2] <= interior.half[2])
    else:
        inside = (local <= interior.half).all(axis=1)
    return float(np.count_nonzero(inside)) / 64.0


def geoms_of(world: World, entity: str) -> tuple[int, ...]:
    """Collision geoms of an entity or of the table."""
    return tuple(world.table_geoms) if entity == "table" else world.entities[entity].geoms


def geom_distance(world: World, first: tuple[int, ...], second: tuple[int, ...], limit: float = 10.0) -> float:
    """Least signed surface distance between two groups of geoms, at most ``limit`` [m]; negative in penetration."""
    model, data = world.model, world.data
    radius, centre = model.geom_rbound, data.geom_xpos
    best = limit
    for g in first:
        x, y, z = centre[g].tolist()
        for h in second:
            if radius[g] > 0.0 and radius[h] > 0.0:  # a plane has radius 0
                p, q, r = centre[h].tolist()
                if math.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2) - radius[g] - radius[h] >= best:
                    continue
            best = min(best, mujoco.mj_geomDistance(model, data, g, h, max(best, 1e-3), None))
    return float(best)


def surface_distance(world: World, a: str, b: str, limit: float = 10.0) -> float:
    """Least signed distance between the surfaces of two entities, at most ``limit`` [m]."""
    return geom_distance(world, geoms_of(world, a), geoms_of(world, b), limit)


def owner(world: World, entity: str) -> int:
    """The code under which contacts know an entity or the table."""
    return TABLE if entity == "table" else world.index[entity]


def owners(world: World) -> list[list[int]]:
    """Per contact of the current state the owners of its two geoms."""
    return world.geom_owner[world.data.contact.geom].tolist() if world.data.ncon else []


def contacts(world: World, entity: str) -> Iterator[tuple[int, int]]:
    """Active contacts of an entity as (index into data.contact, owner of the other geom)."""
    code = owner(world, entity)
    for i, (p, q) in enumerate(owners(world)):
        if p == code or q == code:
            other = q if p == code else p
            if world.data.contact.efc_address[i] >= 0:
                yield i, other


def contact_distance(world: World, a: str, b: str) -> float:
    """Least distance of the active contacts of two entities [m]; inf when they do not touch."""
    code = owner(world, b)
    distances = world.data.contact.dist
    return min((float(distances[i]) for i, other in contacts(world, a) if other == code), default=math.inf)


def normal_force(world: World, contact: int) -> float:
    """Normal force of a contact [N]."""
    force = np.zeros(6)
    mujoco.mj_contactForce(world.model, world.data, contact, force)
    return float(force[0])
