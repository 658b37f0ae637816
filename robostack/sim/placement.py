"""Where things start: rejection sampling of poses with separating-axis tests between footprints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robostack.errors import SceneError
from robostack.sim.objects import Shape
from robostack.task.spec import TaskSpec

_TRIES, _RESTARTS = 200, 20
_DISC = np.stack([np.cos(a := np.arange(12) * np.pi / 6), np.sin(a)], axis=1) / np.cos(np.pi / 12)


@dataclass(frozen=True)
class PlanarPose:
    """Position [m] and yaw [rad] on the table."""

    x: float
    y: float
    yaw: float


@dataclass(frozen=True)
class _Placed:
    """Outline (K, 2) and clearance [m] of an entity that has its place."""

    outline: np.ndarray
    clearance: float


def sample_placements(spec: TaskSpec, shapes: Mapping[str, Shape], rng: np.random.Generator) -> dict[str, PlanarPose]:
    """One pose per entity, footprints apart by their clearance; raises PLACEMENT_INFEASIBLE naming who is blocked."""
    blockers: dict[str, int] = {}
    for _ in range(_RESTARTS):
        poses: dict[str, PlanarPose] = {}
        placed: list[_Placed] = []
        for entity in spec.entities:
            shape = shapes[entity.id]
            pose = _place(entity, shape, placed, rng)
            if pose is None:
                blockers[entity.id] = blockers.get(entity.id, 0) + 1
                break
            poses[entity.id] = pose
            placed.append(_Placed(footprint(shape, pose, 0.0), entity.placement.clearance))
        else:
            return poses
    worst = max(blockers, key=lambda name: blockers[name])
    others = ", ".join(e.id for e in spec.entities if e.id != worst)
    raise SceneError(
        "PLACEMENT_INFEASIBLE", f"no room for '{worst}' beside {others}; widen its placement box or shrink the objects"
    )


def _place(entity, shape: Shape, placed: list[_Placed], rng: np.random.Generator) -> PlanarPose | None:
    x0, y0, x1, y1 = entity.placement.box
    own = entity.placement.clearance
    for _ in range(_TRIES):
        pose = PlanarPose(rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(*entity.placement.yaw))
        if not any(overlap(footprint(shape, pose, max(own, p.clearance)), p.outline) for p in placed):
            return pose
    return None


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
