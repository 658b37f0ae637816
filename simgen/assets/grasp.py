"""Gate A6: grasps from above with two parallel fingers, found on the mesh and kept on the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from robostack.sim.cards import Grasp, load_robot, robots
from simgen.assets.record import AssetRecord, GateFailure
from simgen.assets.shape import Convex

if TYPE_CHECKING:
    import trimesh

SAMPLES = 256
CONE = np.deg2rad(15)  # half angle: friction of 0.27, a third of what rubber on plastic has
FILL = 0.9  # widest grasp as a share of the opening
KEPT = 16
# Of the fingers [m]: half width and half height of a pad, thickness, length below the palm.
_PAD_HALF, _PAD_HIGH, _FINGER, _REACH = 0.0085, 0.009, 0.015, 0.045
_FLOOR = 0.004  # between fingertip and table [m]
_GRAIN = 0.002  # what is thinner may be missed [m]
_CLEAR = 0.002  # beside the contact, where the finger must find nothing else [m]


def openings() -> dict[str, float]:
    """Robot -> widest object that its gripper takes [m]."""
    return {name: load_robot(name).gripper.max_opening for name in robots()}


def grasp_gate(
    mesh: trimesh.Trimesh, pieces: Sequence[Convex], grippers: Mapping[str, float], *, seed: int = 0
) -> tuple[tuple[Grasp, ...], AssetRecord]:
    """A6: antipodal grasps from above of an object at rest (body frame), the best first.

    A pair of contacts is antipodal when the line between them lies in both friction cones (Nguyen 1988); kept are
    those whose fingers come down, and close, through free space.

    Args:
        mesh: its surface.
        pieces: its convex pieces.
        grippers: robot -> opening [m].
        seed: of the surface samples.
    """
    first, second = antipodal_pairs(mesh, np.random.Generator(np.random.Philox(key=seed)))
    widths = np.linalg.norm(first - second, axis=1)
    widest = FILL * max(grippers.values())
    if len(widths) and float(widths.min()) > widest:
        raise GateFailure(
            "A6",
            "TOO_WIDE",
            f"the least width is {widths.min() * 1e3:.0f} mm, the widest gripper takes {widest * 1e3:.0f} mm:"
            " pass a smaller scale, or graspable=false for a container",
            min_width_m=float(widths.min()),
        )
    opening = max(grippers.values())
    good = [
        (a, b)
        for a, b, width in zip(first, second, widths, strict=True)
        if width <= widest and _fingers_fit(pieces, a, b, opening, float(mesh.bounds[0, 2]), float(mesh.bounds[1, 2]))
    ]
    if not good:
        raise GateFailure(
            "A6",
            "NO_GRASP",
            f"none of {SAMPLES} samples is a grasp from above: it needs two parallel sides that fingers can reach;"
            " pass graspable=false for a container",
            antipodal=len(widths),
        )
    grasps = _best(good, _centre_of_mass(pieces))
    able = tuple(name for name, gap in sorted(grippers.items()) if min(g.width for g in grasps) <= FILL * gap)
    metrics = {
        "antipodal": len(widths),
        "reachable": len(good),
        "kept": len(grasps),
        "min_width_m": round(min(g.width for g in grasps), 6),
        "robots": able,
    }
    return grasps, AssetRecord(gate="A6", ok=True, metrics=metrics)


def antipodal_pairs(mesh: trimesh.Trimesh, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Contacts (N, 3) and their opposites (N, 3), at one height each, both within the friction cone."""
    triangles, normals = np.asarray(mesh.triangles, float), np.asarray(mesh.face_normals, float)
    areas = 0.5 * np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    steep = np.abs(normals[:, 2]) <= np.sin(CONE)
    weights = np.where(steep, areas, 0.0)
    if weights.sum() <= 0:
        return np.empty((0, 3)), np.empty((0, 3))
    chosen = rng.choice(len(areas), SAMPLES, p=weights / weights.sum())
    u, v = rng.uniform(size=(2, SAMPLES))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = (triangles[chosen, k] for k in range(3))
    start = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    way = -normals[chosen] * [1.0, 1.0, 0.0]
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    reach, face = _first_hit(triangles, start, way)
    opposed = np.einsum("ni,ni->n", normals[face], way) >= np.cos(CONE)
    good = np.isfinite(reach) & opposed
    return start[good], start[good] + reach[good, None] * way[good]


def _first_hit(triangles: np.ndarray, start: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and index of, the first triangle along each ray (Moeller and Trumbore 1997); inf without one."""
    corner, e1, e2 = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    distance, index = np.full(len(start), np.inf), np.zeros(len(start), int)
    for n, (origin, ray) in enumerate(zip(start, way, strict=True)):
        p = np.cross(ray, e2)
        det = np.einsum("fi,fi->f", e1, p)
        safe = np.where(np.abs(det) < 1e-14, np.inf, det)
        t0 = origin - corner
        u = np.einsum("fi,fi->f", t0, p) / safe
        q = np.cross(t0, e1)
        v = q @ ray / safe
        t = np.einsum("fi,fi->f", e2, q) / safe
        hit = (np.abs(det) >= 1e-14) & (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (t > 1e-3)
        if hit.any():
            index[n] = int(np.argmin(np.where(hit, t, np.inf)))
            distance[n] = t[index[n]]
    return distance, index


def _fingers_fit(pieces, a: np.ndarray, b: np.ndarray, opening: float, low: float, high: float) -> bool:
    """Both pads meet the object along a line or over a face, and nothing is in the fingers' way from above."""
    middle, width = 0.5 * (a + b), float(np.linalg.norm(b - a))
    along = (b - a) / width
    across = np.array([-along[1], along[0], 0.0])
    z = max(float(middle[2]), low + _PAD_HIGH + _FLOOR)
    if high - z > _REACH or z - _PAD_HIGH > high:
        return False
    u, v, w = np.meshgrid([-1, 1], np.linspace(-0.7, 0.7, 3) * _PAD_HALF, np.linspace(-0.7, 0.7, 3) * _PAD_HIGH)
    depth = 0.5 * width - 0.0015
    pads = middle * [1, 1, 0] + [0, 0, z] + _grid(u * depth, v, w, along, across)
    if np.mean(_inside(pieces, pads)) < 0.3:  # a round side meets a pad along a line, a third of its face
        return False
    steps = np.arange(0.5 * width + _CLEAR, 0.5 * opening + _FINGER, _GRAIN)
    heights = np.arange(-_PAD_HIGH, max(high - z, _PAD_HIGH), 2 * _GRAIN)
    u, v, w = np.meshgrid(np.r_[-steps, steps], np.linspace(-1, 1, 6) * _PAD_HALF, heights)
    return not _inside(pieces, middle * [1, 1, 0] + [0, 0, z] + _grid(u, v, w, along, across)).any()


def _grid(u: np.ndarray, v: np.ndarray, w: np.ndarray, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    return u.reshape(-1, 1) * along + v.reshape(-1, 1) * across + w.reshape(-1, 1) * [0.0, 0.0, 1.0]


def _inside(pieces: Sequence[Convex], points: np.ndarray) -> np.ndarray:
    return np.any([piece.contains(points) for piece in pieces], axis=0)


def _centre_of_mass(pieces: Sequence[Convex]) -> np.ndarray:
    volumes = np.array([piece.mesh.volume for piece in pieces])
    return volumes @ np.stack([piece.mesh.center_mass for piece in pieces]) / volumes.sum()


def _best(pairs: Sequence[tuple[np.ndarray, np.ndarray]], middle: np.ndarray) -> tuple[Grasp, ...]:
    """The grasps nearest to the centre of mass, of different places or yaws."""
    order = sorted(pairs, key=lambda pair: float(np.linalg.norm(0.5 * (pair[0] + pair[1]) - middle)))
    kept: list[Grasp] = []
    for a, b in order:
        pos, way = 0.5 * (a + b), b - a
        yaw = float(np.arctan2(way[1], way[0]) % np.pi)
        same = any(
            np.linalg.norm(pos[:2] - g.pos[:2]) < 0.008 and abs((yaw - g.yaw + np.pi / 2) % np.pi - np.pi / 2) < 0.15
            for g in kept
        )
        if not same:
            x, y, z = (round(float(p), 6) for p in pos)
            kept.append(Grasp(pos=(x, y, z), yaw=round(yaw, 6), width=round(float(np.linalg.norm(way)), 6)))
        if len(kept) == KEPT:
            break
    return tuple(kept)
