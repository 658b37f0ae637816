"""Gates A2 and A3: repair, size, floaters, and the decomposition into convex pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robostack.errors import MissingExtra
from simgen.assets.record import AssetRecord, GateFailure, Metric

if TYPE_CHECKING:
    import trimesh

LONGEST = (0.01, 1.5)  # m
THINNEST = 1e-3  # m
ASPECT = 0.02
MAX_HULLS = 32
MIN_IOU, GOOD_IOU = 0.8, 0.95
VISUAL_FACES = 2000
_HULL_VERTICES = 48
_SAMPLES = 4096


@dataclass(frozen=True)
class Convex:
    """A convex piece: its mesh, and its faces as half spaces (K, 4): inside where normal . x + offset <= 0."""

    mesh: trimesh.Trimesh
    planes: np.ndarray

    def contains(self, points: np.ndarray, slack: float = 0.0) -> np.ndarray:
        """Which of the points (N, 3) lie inside, or at most ``slack`` outside a face [m]."""
        return np.all(points @ self.planes[:, :3].T + self.planes[:, 3] <= slack, axis=1)

    def transformed(self, matrix: np.ndarray) -> Convex:
        """The piece after a rigid motion (4, 4)."""
        rot, shift = matrix[:3, :3], matrix[:3, 3]
        normals = self.planes[:, :3] @ rot.T
        return Convex(self.mesh.copy().apply_transform(matrix), np.c_[normals, self.planes[:, 3] - normals @ shift])


def convex(points: np.ndarray) -> Convex:
    """The convex hull of points (N, 3)."""
    import trimesh
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    mesh = trimesh.Trimesh(points[hull.vertices], np.searchsorted(hull.vertices, hull.simplices), process=False)
    mesh.fix_normals()
    return Convex(mesh, np.unique(hull.equations.round(12), axis=0))


def size_gate(mesh: trimesh.Trimesh, *, file_extents: np.ndarray) -> AssetRecord:
    """A3: within what a table and a gripper can do; says which unit the file seems to be in when it is not."""
    extents = np.asarray(mesh.extents)
    longest, thinnest = float(extents.max()), float(extents.min())
    metrics: dict[str, Metric] = {"extents_m": tuple(round(float(e), 6) for e in extents)}
    if not LONGEST[0] <= longest <= LONGEST[1]:
        code = "TOO_LARGE" if longest > LONGEST[1] else "TOO_SMALL"
        detail = f"the longest side is {longest:g} m, allowed are {LONGEST[0]:g} to {LONGEST[1]:g}"
        raise GateFailure("A3", code, f"{detail}: {_units_hint(float(file_extents.max()))}", **metrics)
    if thinnest < THINNEST or thinnest / longest < ASPECT:
        raise GateFailure(
            "A3",
            "TOO_THIN",
            f"the thinnest side is {thinnest * 1e3:.2f} mm of {longest * 1e3:.0f} mm: it needs {THINNEST * 1e3:g} mm"
            f" and {ASPECT:.0%} of the longest side; thicken the sheet",
            **metrics,
        )
    return AssetRecord(gate="A3", ok=True, metrics=metrics)


def _units_hint(longest: float) -> str:
    for unit, scale in (("millimetres", 1e-3), ("centimetres", 1e-2), ("inches", 0.0254), ("metres", 1.0)):
        if 0.02 <= longest * scale <= 0.6:  # a thing for a hand
            return f"looks like {unit}: pass scale={scale:g}"
    return f"pass scale=<metres per unit of the file>, e.g. scale={0.1 / longest:.3g} makes it 0.1 m long"


def clean(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Merge vertices, drop degenerate and double faces, close holes, turn the faces outwards."""
    import trimesh

    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    mesh.update_faces(mesh.nondegenerate_faces() & mesh.unique_faces())
    mesh.remove_unreferenced_vertices()
    if len(mesh.faces) == 0:
        raise GateFailure("A2", "DEGENERATE", "every triangle has zero area: export the model again")
    if not mesh.is_watertight:
        trimesh.repair.fill_holes(mesh)
    trimesh.repair.fix_normals(mesh, multibody=True)
    return mesh


def drop_floaters(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, int]:
    """The object without what hovers beside it, and how many pieces were dropped.

    Pieces belong together when their bounding boxes come closer than 1 % of the longest side.
    """
    import trimesh

    pieces = mesh.split(only_watertight=False)
    if len(pieces) < 2:
        return mesh, 0
    bounds = np.stack([piece.bounds for piece in pieces])
    gap = 0.01 * float(np.max(mesh.extents))
    kept = {int(np.argmax([piece.area for piece in pieces]))}
    while True:
        near = [
            i
            for i in set(range(len(pieces))) - kept
            if any(
                (bounds[i, 0] - gap <= bounds[k, 1]).all() and (bounds[k, 0] <= bounds[i, 1] + gap).all() for k in kept
            )
        ]
        if not near:
            break
        kept.update(near)
    body = trimesh.util.concatenate([pieces[i] for i in sorted(kept)])
    assert isinstance(body, trimesh.Trimesh)
    if body.area < 0.8 * mesh.area:
        share = body.area / mesh.area
        raise GateFailure(
            "A3",
            "SEVERAL_OBJECTS",
            f"the largest connected part is only {share:.0%} of the surface: split the file into one file per object",
            pieces=len(pieces),
        )
    return body, len(pieces) - len(kept)


def simplify(mesh: trimesh.Trimesh, faces: int = VISUAL_FACES) -> trimesh.Trimesh:
    """At most about ``faces`` triangles, by quadric error (Garland and Heckbert 1997)."""
    if len(mesh.faces) <= faces:
        return mesh
    try:
        import open3d
    except ImportError as error:
        raise MissingExtra("open3d", "gen") from error
    import trimesh

    dense = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces)
    )
    light = dense.simplify_quadric_decimation(faces)
    light.remove_degenerate_triangles()
    light.remove_unreferenced_vertices()
    return trimesh.Trimesh(np.asarray(light.vertices), np.asarray(light.triangles), process=True)


def stl(mesh: trimesh.Trimesh) -> bytes:
    """A binary STL, the same bytes for the same mesh."""
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    faces = np.zeros(len(mesh.faces), record)
    faces["normal"], faces["corners"] = mesh.face_normals, mesh.triangles
    return b"\0" * 80 + np.uint32(len(faces)).tobytes() + faces.tobytes()


def winding_number(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Generalised winding number of points (N, 3): 1 inside, 0 outside, in between near holes.

    Sum of signed solid angles of the faces (Van Oosterom and Strackee 1983) over 4 pi; it degrades gracefully where a
    surface is open (Jacobson, Kavan and Sorkine-Hornung 2013).
    """
    corners = np.asarray(mesh.triangles, float)
    total = np.zeros(len(points))
    for start in range(0, len(points), 256):
        a, b, c = (corners[None, :, k] - points[start : start + 256, None] for k in range(3))
        la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
        triple = np.einsum("nfi,nfi->nf", a, np.cross(b, c))
        below = la * lb * lc + lc * np.einsum("nfi,nfi->nf", a, b)
        below += lb * np.einsum("nfi,nfi->nf", a, c) + la * np.einsum("nfi,nfi->nf", b, c)
        total[start : start + 256] = np.arctan2(triple, below).sum(axis=1) / (2 * np.pi)
    return total


def decompose(mesh: trimesh.Trimesh, max_hulls: int) -> tuple[tuple[Convex, ...], AssetRecord]:
    """A2: convex pieces that fill the same space as the mesh; one hull where that is enough.

    CoACD (Wei et al. 2022) with a fixed seed cuts what one hull does not describe.
    """
    whole = convex(np.asarray(mesh.vertices))
    # A hull that fits this well is worth more than a close cut: it is faster, and its contacts are steadier.
    if max_hulls == 1 or share(mesh, (whole,)) >= GOOD_IOU:
        return keep(mesh, (whole,), max_hulls)
    return keep(mesh, _coacd(mesh, max_hulls), max_hulls)


def keep(mesh: trimesh.Trimesh, pieces: tuple[Convex, ...], max_hulls: int) -> tuple[tuple[Convex, ...], AssetRecord]:
    """A2 for given pieces."""
    if not 1 <= max_hulls <= MAX_HULLS:
        raise GateFailure("A2", "MAX_HULLS", f"max_hulls={max_hulls} must be 1 to {MAX_HULLS}")
    iou = share(mesh, pieces)
    metrics = {"hulls": len(pieces), "iou": round(iou, 4), "watertight": bool(mesh.is_watertight)}
    if len(pieces) > max_hulls:
        raise GateFailure(
            "A2",
            "TOO_MANY_HULLS",
            f"{len(pieces)} convex pieces, allowed are {max_hulls}: simplify the model",
            **metrics,
        )
    if iou < MIN_IOU:
        raise GateFailure(
            "A2",
            "NOT_SOLID" if not mesh.is_watertight else "CONVEX_FIT",
            f"the convex pieces and the model share {iou:.0%} of their volume, {MIN_IOU:.0%} are needed:"
            + (" close the holes of its surface" if not mesh.is_watertight else " raise max_hulls or simplify it"),
            **metrics,
        )
    return pieces, AssetRecord(gate="A2", ok=True, metrics=metrics)


def share(mesh: trimesh.Trimesh, pieces: tuple[Convex, ...]) -> float:
    """Volume that the pieces and the mesh have in common over that of both together, from random points."""
    low, high = np.asarray(mesh.bounds)
    rng = np.random.Generator(np.random.Philox(key=0))
    points = rng.uniform(low, high, (_SAMPLES, 3))
    inside = winding_number(mesh, points) > 0.5
    solid = np.any([piece.contains(points) for piece in pieces], axis=0)
    union = int((solid | inside).sum())
    return float((solid & inside).sum() / union) if union else 0.0


def _coacd(mesh: trimesh.Trimesh, max_hulls: int) -> tuple[Convex, ...]:
    try:
        import coacd
    except ImportError as error:
        raise MissingExtra("coacd", "gen") from error
    coacd.set_log_level("off")  # it writes to the terminal past Python
    parts = coacd.run_coacd(
        coacd.Mesh(np.asarray(mesh.vertices, float), np.asarray(mesh.faces, np.int32)),
        threshold=0.05,
        max_convex_hull=max_hulls,
        preprocess_mode="off" if mesh.is_watertight else "on",
        preprocess_resolution=30,
        resolution=500,
        mcts_nodes=10,
        mcts_iterations=60,
        max_ch_vertex=_HULL_VERTICES,
        decimate=True,
        seed=0,
    )
    return tuple(convex(np.asarray(vertices, float)) for vertices, _ in parts)
