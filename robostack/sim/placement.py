"""Where things start: rejection sampling of poses with separating-axis tests between footprints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robostack.errors import SceneError
from robostack.sim.objects import Shape
from robostack.task.spec import Entity, TaskSpec

_TRIES, _RESTARTS = 200, 20
_EDGE = 0.005  # how far from the edge of a face the middle of what stands on it stays at least [m]
_DISC = np.stack([np.cos(a := np.arange(12) * np.pi / 6), np.sin(a)], axis=1) / np.cos(np.pi / 12)


@dataclass(frozen=True)
class PlanarPose:
    """Position [m] and yaw [rad] in the world; ``z`` is the height of the plane that it stands on [m]."""

    x: float
    y: float
    yaw: float
    z: float = 0.0

    def compose(self, x: float, y: float, yaw: float, z: float) -> PlanarPose:
        """A pose that is given in the frame of this one, in the world."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return PlanarPose(float(self.x + c * x - s * y), float(self.y + s * x + c * y), self.yaw + yaw, self.z + z)


@dataclass(frozen=True)
class Stand:
    """A horizontal place on an entity where others start, at its joints' start fractions.

    Attributes:
        center: its middle, from the entity's body origin [m, entity frame].
        half: half extents, or the radius twice when ``round`` [m].
        walled: an interior's floor, which no outline may leave; on a face only the middle has to be over it.
    """

    center: tuple[float, float, float]
    half: tuple[float, float]
    round: bool
    walled: bool

    def holds(self, outline: np.ndarray, x: float, y: float) -> bool:
        """Whether something of that outline (K, 2) about (x, y) can stand here; all in the frame of this place."""
        points = outline if self.walled else np.array([[x, y]])
        inset = 0.0 if self.walled else min(_EDGE, *(0.5 * h for h in self.half))
        if self.round:
            return bool((np.hypot(*points.T) <= self.half[0] - inset).all())
        return bool((np.abs(points) <= np.asarray(self.half) - inset).all())


Stands = Mapping[tuple[str, bool], Stand]


@dataclass(frozen=True)
class _Placed:
    """What has its place, with its outline (K, 2) in the world."""

    entity: Entity
    outline: np.ndarray

    @property
    def place(self) -> tuple[str, bool]:
        return self.entity.placement.on, self.entity.placement.inside


def sample_placements(
    spec: TaskSpec, shapes: Mapping[str, Shape], rng: np.random.Generator, stands: Stands | None = None
) -> dict[str, PlanarPose]:
    """One pose per entity, footprints apart by their clearance.

    Entities on the same support keep clear of each other, and everything keeps clear of what stands on a neighbour and
    may jut out.

    Args:
        spec: entities in the order in which they are placed, supports first.
        shapes: per entity.
        rng: where the poses come from.
        stands: (entity, inside) -> the place that it offers to those that start on or inside it.

    Raises:
        SceneError: PLACEMENT_INFEASIBLE, naming who has no room and who is in the way.
    """
    blame: dict[str, Counter[str]] = {}
    for _ in range(_RESTARTS):
        poses: dict[str, PlanarPose] = {}
        placed: list[_Placed] = []
        for entity in spec.entities:
            rivals = _rivals(entity, placed, spec)
            pose = _place(entity, shapes, poses, rivals, stands or {}, rng, blame.setdefault(entity.id, Counter()))
            if pose is None:
                break
            poses[entity.id] = pose
            placed.append(_Placed(entity, footprint(shapes[entity.id], pose, 0.0)))
        else:
            return poses
    raise _infeasible(spec, blame)


def _infeasible(spec: TaskSpec, blame: Mapping[str, Counter[str]]) -> SceneError:
    worst = max(blame, key=lambda name: blame[name].total())
    blockers, placement = blame[worst], spec.entity(worst).placement
    if blockers[placement.on] == blockers.total():
        where = "inside" if placement.inside else "on"
        message = f"'{worst}' does not fit {where} '{placement.on}'; move its placement box or shrink it"
    else:
        others = ", ".join(e.id for e in spec.entities if blockers[e.id])
        message = f"no room for '{worst}' beside {others}; widen its placement box or shrink the objects"
    return SceneError("PLACEMENT_INFEASIBLE", message)


def _root(entity: Entity, spec: TaskSpec) -> str:
    """What stands on the table under an entity, or the entity itself."""
    while entity.placement.on != "table":
        entity = spec.entity(entity.placement.on)
    return entity.id


def _rivals(entity: Entity, placed: list[_Placed], spec: TaskSpec) -> list[_Placed]:
    """Those that an entity keeps clear of: on the same support, or on another part of the table."""
    place, root = (entity.placement.on, entity.placement.inside), _root(entity, spec)
    return [p for p in placed if p.place == place or _root(p.entity, spec) != root]


def _place(
    entity: Entity,
    shapes: Mapping[str, Shape],
    poses: Mapping[str, PlanarPose],
    rivals: list[_Placed],
    stands: Stands,
    rng: np.random.Generator,
    blame: Counter[str],
) -> PlanarPose | None:
    placement, shape = entity.placement, shapes[entity.id]
    x0, y0, x1, y1 = placement.box
    for _ in range(_TRIES):
        pose = PlanarPose(rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(*placement.yaw))
        if placement.on != "table":
            stand = stands[placement.on, placement.inside]
            if not stand.holds(footprint(shape, pose, 0.0), pose.x, pose.y):
                blame[placement.on] += 1
                continue
            x, y, z = stand.center
            support = poses[placement.on]
            height = shapes[placement.on].rest_z + z
            pose = support.compose(x + pose.x, y + pose.y, pose.yaw, height)
        blocker = next((p for p in rivals if _too_close(shape, pose, placement.clearance, p)), None)
        if blocker is None:
            return pose
        blame[blocker.entity.id] += 1
    return None


def _too_close(shape: Shape, pose: PlanarPose, clearance: float, other: _Placed) -> bool:
    return overlap(footprint(shape, pose, max(clearance, other.entity.placement.clearance)), other.outline)


def footprint(shape: Shape, pose: PlanarPose, inflate: float) -> np.ndarray:
    """Corners (K, 2) of a convex outline that contains the footprint grown by ``inflate`` [m]."""
    if shape.round:
        return np.array([pose.x, pose.y]) + (shape.footprint[0] + inflate) * _DISC
    (hx, hy), outline = shape.footprint, shape.outline
    x0, y0, x1, y1 = outline if outline is not None else (-hx, -hy, hx, hy)
    x0, y0, x1, y1 = x0 - inflate, y0 - inflate, x1 + inflate, y1 + inflate
    corners = np.array([[x1, y1], [x0, y1], [x0, y0], [x1, y0]])
    c, s = np.cos(pose.yaw), np.sin(pose.yaw)
    return corners @ np.array([[c, s], [-s, c]]) + np.array([pose.x, pose.y])


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two convex polygons overlap, by the separating-axis theorem."""
    for poly in (a, b):
        edges = np.roll(poly, -1, axis=0) - poly
        normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1)
        pa, pb = a @ normals.T, b @ normals.T
        if np.any((pa.max(0) < pb.min(0)) | (pb.max(0) < pa.min(0))):
            return False
    return True
