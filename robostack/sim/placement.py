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


def sample_placements(spec: TaskSpec, shapes: Mapping[str, Shape], rng: np.random.Generator) -> dict[str, PlanarPose]:
    """One pose per entity, footprints apart by their clearance; raises PLACEMENT_INFEASIBLE naming who is blocked."""
    blockers: dict[str, int] = {}
    for _ in range(_RESTARTS):
        placed: dict[str, PlanarPose] = {}
        outlines: dict[str, np.ndarray] = {}
        for entity in spec.entities:
            found = _place(entity, shapes[entity.id], outlines, rng)
            if found is None:
                blockers[entity.id] = blockers.get(entity.id, 0) + 1
                break
            placed[entity.id], outlines[entity.id] = found
        else:
            return placed
    worst = max(blockers, key=lambda name: blockers[name])
    others = ", ".join(e.id for e in spec.entities if e.id != worst)
    raise SceneError(
        "PLACEMENT_INFEASIBLE", f"no room for '{worst}' beside {others}; widen its placement box or shrink the objects"
    )


def _place(entity, shape: Shape, outlines: Mapping[str, np.ndarray], rng: np.random.Generator):
    x0, y0, x1, y1 = entity.placement.box
    for _ in range(_TRIES):
        pose = PlanarPose(rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(*entity.placement.yaw))
        outline = footprint(shape, pose, entity.placement.clearance)
        if not any(overlap(outline, other) for other in outlines.values()):
            return pose, footprint(shape, pose, 0.0)
    return None


def footprint(shape: Shape, pose: PlanarPose, inflate: float) -> np.ndarray:
    """Corners (K, 2) of a convex outline that contains the footprint grown by ``inflate`` [m]."""
    if shape.round:
        return np.array([pose.x, pose.y]) + (shape.footprint[0] + inflate) * _DISC
    hx, hy = shape.footprint[0] + inflate, shape.footprint[1] + inflate
    corners = np.array([[hx, hy], [-hx, hy], [-hx, -hy], [hx, -hy]])
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
