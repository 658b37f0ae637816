"""Gates A4 and A5: what an object weighs, and how it comes to rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from robostack.sim.objects.mesh import FOOT, add_foot
from simgen.assets.record import AssetRecord, GateFailure
from simgen.assets.shape import Convex

if TYPE_CHECKING:
    import trimesh

DENSITY = (20.0, 20_000.0)  # kg/m^3: light foam to gold
DEFAULT_DENSITY = 600.0  # beech
MAX_TILT = np.deg2rad(45)
_LEVEL = np.deg2rad(0.5)  # as good as level
_CALM = 5e-3  # largest speed of what is at rest, as when scenes settle [m/s, rad/s]
_FRICTION = (0.8, 0.01, 0.0005)
_PUSH = (0.2, 0.15)  # rad/s
_FLAT, _FEET = 3e-4, 6  # m; most feet
_DROP_S, _STEP_S, _HEIGHT = 1.0, 0.002, 0.003


def mass_gate(
    pieces: Sequence[Convex],
    *,
    mass: float | None,
    density: float | None,
    stated: tuple[float, ...] | None = None,
) -> tuple[float, AssetRecord]:
    """A4: the mass [kg], from a stated one or a density; inertia always follows from the geometry.

    ``stated``: principal moments that a file claims [kg m^2]; only how far off they are is recorded.
    """
    if mass is not None and density is not None:
        raise GateFailure("A4", "MASS_TWICE", "both mass and density are given: pass one of them")
    volume = float(sum(piece.mesh.volume for piece in pieces))
    if density is None:
        density = DEFAULT_DENSITY if mass is None else mass / volume
    metrics: dict = {"density_kg_m3": round(float(density), 3), "volume_m3": volume}
    if not DENSITY[0] <= density <= DENSITY[1]:  # also refuses NaN
        raise GateFailure(
            "A4",
            "DENSITY",
            f"{density:.4g} kg/m3 is no material's: {volume * 1e6:.4g} cm3 weigh {DENSITY[0] * volume:.3g} to"
            f" {DENSITY[1] * volume:.3g} kg; pass mass=<kg> or density=<kg/m3>",
            **metrics,
        )
    moments = principal_moments(pieces, float(density))
    metrics["inertia_kg_m2"] = tuple(float(m) for m in moments)
    if stated is not None:
        metrics["stated_inertia_ratio"] = float(max(stated) / max(moments))
    check_triangle(moments)
    return float(density) * volume, AssetRecord(gate="A4", ok=True, metrics=metrics)


def principal_moments(pieces: Sequence[Convex], density: float) -> np.ndarray:
    """Principal moments of inertia about the common centre of mass, ascending [kg m^2]."""
    volumes = np.array([piece.mesh.volume for piece in pieces])
    centers = np.stack([piece.mesh.center_mass for piece in pieces])
    middle = volumes @ centers / volumes.sum()
    total = np.zeros((3, 3))
    for piece, volume, center in zip(pieces, volumes, centers, strict=True):
        shift = center - middle
        total += piece.mesh.moment_inertia + volume * ((shift @ shift) * np.eye(3) - np.outer(shift, shift))
    return np.linalg.eigvalsh(density * total)


def check_triangle(moments: np.ndarray) -> None:
    """Raise unless the moments (3,) can belong to a body: positive, and none above the sum of the other two."""
    low, middle, high = sorted(float(m) for m in moments)
    if not (low > 0.0 and np.isfinite(high) and high <= (low + middle) * (1 + 1e-6)):
        raise GateFailure(
            "A4",
            "INERTIA",
            f"moments of inertia {low:.3g}, {middle:.3g}, {high:.3g} kg m2 belong to no body: close the surface",
            inertia_kg_m2=(low, middle, high),
        )


def rest_gate(visual: trimesh.Trimesh, pieces: Sequence[Convex], mass: float) -> tuple[np.ndarray, AssetRecord]:
    """A5: rotation and shift (4, 4) into the body frame of the rest pose: origin amid the bounding box, z up.

    Tried are the pose of the file, then the largest faces of the hull that it can stand on; the first that a drop
    of 3 mm leaves within 45 degrees, and in which it then stands still on its feet, is it. About z the rectangle that
    bounds the footprint lies along x and y.
    """
    tried = []
    for name, start in _candidates(visual, pieces):
        fallen, _ = _drop([piece.transformed(start) for piece in pieces], mass)
        tilt = float(np.arccos(np.clip(fallen[2, 2], -1, 1)))
        tried.append(round(float(np.rad2deg(tilt)), 3))
        if tilt >= MAX_TILT:
            continue
        pose = _centred(start[:3, :3] if tilt < _LEVEL else fallen @ start[:3, :3], pieces)
        placed = [piece.transformed(pose) for piece in pieces]
        half = 0.5 * np.ptp(_corners(placed), axis=0)
        standing, speed = _drop([_raised(piece, half[2]) for piece in placed], mass, feet(placed, FOOT))
        if speed < _CALM and standing[2, 2] > np.cos(_LEVEL):
            metrics = {"pose": name, "tilt_deg": tried[-1], "height_m": round(2 * float(half[2]), 6)}
            return pose, AssetRecord(gate="A5", ok=True, metrics=metrics)
    raise GateFailure(
        "A5",
        "UNSTABLE",
        f"it comes to rest in none of {len(tried)} poses: give it a flat face to stand on",
        tilts_deg=tuple(tried),
    )


def _candidates(visual: trimesh.Trimesh, pieces: Sequence[Convex]):
    """Poses to drop from: name and matrix (4, 4), lowest point at z = 0."""
    yield "file", _on_floor(np.eye(3), pieces)
    hull = visual.convex_hull
    corners = _corners(pieces)
    middle = _centre_of_mass(pieces)
    normals, areas = hull.facets_normal, hull.facets_area
    for i in np.argsort(-areas, kind="stable")[:12]:
        rot = _turn_down(normals[i])
        low = corners @ rot.T
        foot = low[low[:, 2] < low[:, 2].min() + 1e-4][:, :2]
        if len(foot) >= 3 and _over(foot, (rot @ middle)[:2]):
            yield f"face {len(foot)}", _on_floor(rot, pieces)


def _turn_down(normal: np.ndarray) -> np.ndarray:
    """The least rotation that turns a direction to -z."""
    from scipy.spatial.transform import Rotation

    axis = np.cross(normal, [0.0, 0.0, -1.0])
    sine, cosine = float(np.linalg.norm(axis)), float(-normal[2])
    if sine < 1e-9:
        return np.eye(3) if cosine > 0 else np.diag([1.0, -1.0, -1.0])
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, cosine)).as_matrix()


def _over(foot: np.ndarray, point: np.ndarray) -> bool:
    from scipy.spatial import Delaunay, QhullError

    try:
        return bool(Delaunay(foot).find_simplex(point) >= 0)
    except QhullError:  # all on one line
        return False


def _corners(pieces: Sequence[Convex]) -> np.ndarray:
    return np.concatenate([piece.mesh.vertices for piece in pieces])


def _centre_of_mass(pieces: Sequence[Convex]) -> np.ndarray:
    volumes = np.array([piece.mesh.volume for piece in pieces])
    return volumes @ np.stack([piece.mesh.center_mass for piece in pieces]) / volumes.sum()


def _on_floor(rot: np.ndarray, pieces: Sequence[Convex]) -> np.ndarray:
    turned = _corners(pieces) @ rot.T
    pose = np.eye(4)
    pose[:3, :3] = rot
    pose[:3, 3] = [*(-0.5 * (turned.min(0) + turned.max(0))[:2]), -turned[:, 2].min()]
    return pose


def _centred(rot: np.ndarray, pieces: Sequence[Convex]) -> np.ndarray:
    """Yaw to the smallest bounding rectangle, long side along x, and the origin amid the bounding box."""
    turned = _corners(pieces) @ rot.T
    angles = np.deg2rad(np.arange(-45, 45))  # whole degrees; 0 first among equals
    angles = angles[np.argsort(np.abs(angles), kind="stable")]
    spans = [
        np.ptp(turned[:, :2] @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]), axis=0) for a in angles
    ]
    areas = np.array([span[0] * span[1] for span in spans])
    best = int(np.argmax(areas <= areas.min() * (1 + 1e-6)))
    angle = angles[best] + (np.pi / 2 if spans[best][1] > spans[best][0] * (1 + 1e-6) else 0.0)
    c, s = np.cos(angle), np.sin(angle)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]) @ rot
    placed = _corners(pieces) @ pose[:3, :3].T
    pose[:3, 3] = -0.5 * (placed.min(0) + placed.max(0))
    return pose


def _raised(piece: Convex, height: float) -> Convex:
    lift = np.eye(4)
    lift[2, 3] = height
    return piece.transformed(lift)


def _drop(
    pieces: Sequence[Convex], mass: float, tips: Sequence[tuple[float, float, float]] = ()
) -> tuple[np.ndarray, float]:
    """Rotation (3, 3) after a second of falling and settling on a table, and the speed left [m/s, rad/s].

    Args:
        pieces: in the frame of the table.
        mass: of all [kg].
        tips: where it has feet; their heights are those of the table.
    """
    spec = mujoco.MjSpec()
    spec.option.timestep = _STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1], friction=_FRICTION)
    body = spec.worldbody.add_body(name="object", pos=[0, 0, _HEIGHT])
    body.add_freejoint()
    add_pieces(spec, body, pieces, mass)
    for x, y, _ in tips:
        add_foot(body, (x, y, 0.0), _FRICTION)
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qvel[3:5] = _PUSH  # what is balanced on a point shall fall
    mujoco.mj_step(model, data, nstep=round(_DROP_S / _STEP_S))
    if any(warning.number for warning in data.warning):
        return np.diag([1.0, -1.0, -1.0]), np.inf
    return data.body("object").xmat.reshape(3, 3).copy(), float(np.abs(data.qvel).max())


def add_pieces(spec: mujoco.MjSpec, body, pieces: Sequence[Convex], mass: float) -> None:
    """Convex pieces as collision geoms of ``body``, of one density."""
    volume = float(sum(piece.mesh.volume for piece in pieces))
    for i, piece in enumerate(pieces):
        name = f"{body.name}_{i}"
        spec.add_mesh(
            name=name,
            uservert=np.asarray(piece.mesh.vertices).ravel(),
            userface=np.asarray(piece.mesh.faces).ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            density=mass / volume,
            friction=_FRICTION,
            condim=4,
        )


def feet(pieces: Sequence[Convex], radius: float) -> tuple[tuple[float, float, float], ...]:
    """Points of the face that an object at rest stands on, in its body frame [m]: where feet go, clear of the edges."""
    corners = _corners(pieces)
    low = float(corners[:, 2].min())
    face = np.unique(corners[corners[:, 2] < low + _FLAT].round(6), axis=0)
    middle = 0.5 * (face.min(axis=0) + face.max(axis=0))
    chosen = [int(np.argmax(np.linalg.norm(face - middle, axis=1)))]
    while len(chosen) < min(_FEET, len(face)):
        gap = np.min(np.linalg.norm(face[:, None, :2] - face[None, chosen, :2], axis=2), axis=1)
        if gap.max() < 2 * radius:
            break
        chosen.append(int(np.argmax(gap)))
    spots = []
    for x, y, _ in face[chosen]:
        way = middle[:2] - (x, y)
        inset = min(0.3, radius / max(float(np.linalg.norm(way)), 1e-9))
        spots.append((round(float(x + inset * way[0]), 6), round(float(y + inset * way[1]), 6), round(low, 6)))
    return tuple(spots)
