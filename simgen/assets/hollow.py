"""Gate A8: a hollow to put things into, a face to put things onto; measured, then tried with a ball."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import mujoco
import numpy as np

from robostack.task.world import Interior, Surface
from simgen.assets.physics import add_pieces
from simgen.assets.record import AssetRecord, GateFailure
from simgen.assets.shape import Convex

Claim = Literal["interior", "surface"]
PROBE = 0.005  # radius of the ball [m]
_CELLS = 64
_LEVEL = 0.002  # heights of one face differ by at most this [m]
_FALL_S, _STEP_S = 1.5, 0.002


def hollow_gate(
    pieces: Sequence[Convex], claims: Sequence[Claim]
) -> tuple[Interior | None, Surface | None, AssetRecord]:
    """A8: what is claimed is there, in the body frame at rest, and a ball of 1 cm dropped onto it stays."""
    unknown = set(claims) - {"interior", "surface"}
    if unknown:
        raise GateFailure("A8", "UNKNOWN_CLAIM", f"claims are interior and surface, not {', '.join(sorted(unknown))}")
    if not claims:
        return None, None, AssetRecord(gate="A8", ok=True, detail="nothing is claimed")
    heights, xs, ys = height_map(pieces)
    interior = _interior(heights, xs, ys) if "interior" in claims else None
    if "interior" in claims:
        if interior is None:
            raise GateFailure(
                "A8", "NO_INTERIOR", "seen from above no hollow of 3 cm is walled in: drop the claim interior"
            )
        _try(pieces, np.array(interior.center) + [0, 0, interior.half[2] + 2 * PROBE], "interior", interior)
    surface = _surface(heights, xs, ys, interior) if "surface" in claims or interior is not None else None
    if surface is None and "surface" in claims:
        raise GateFailure("A8", "NO_SURFACE", "seen from above no level face is 2 cm wide: drop the claim surface")
    if surface is not None:
        _try(pieces, np.array(surface.center) + [0, 0, PROBE + 1e-3], "surface", surface)
    metrics: dict = {"claims": tuple(claims)}
    if interior is not None:
        metrics |= {"interior_radius_m": interior.half[0], "interior_depth_m": 2 * interior.half[2]}
    if surface is not None:
        metrics["surface_radius_m"] = surface.half[0]
    return interior, surface, AssetRecord(gate="A8", ok=True, metrics=metrics)


def height_map(pieces: Sequence[Convex]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height of the uppermost point over each cell of a grid (X, Y) [m], -inf beside the object; the cells' x and y."""
    corners = np.concatenate([piece.mesh.vertices for piece in pieces])
    low, high = corners.min(0)[:2], corners.max(0)[:2]
    step = float((high - low).max()) / _CELLS
    xs = np.arange(low[0] - 1.5 * step, high[0] + 2 * step, step)
    ys = np.arange(low[1] - 1.5 * step, high[1] + 2 * step, step)
    grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), axis=-1).reshape(-1, 2)
    top = np.full(len(grid), -np.inf)
    for piece in pieces:
        normal, offset = piece.planes[:, :3], piece.planes[:, 3]
        level = grid @ normal[:, :2].T + offset  # half space: level + z * n_z <= 0
        up, down = normal[:, 2] > 1e-9, normal[:, 2] < -1e-9
        ceiling = (-level[:, up] / normal[up, 2]).min(axis=1)
        floor = (-level[:, down] / normal[down, 2]).max(axis=1)
        beside = (level[:, ~(up | down)] > 0).any(axis=1)
        top = np.where((ceiling >= floor) & ~beside, np.maximum(top, ceiling), top)
    return top.reshape(len(xs), len(ys)), xs, ys


def _interior(heights: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> Interior | None:
    """The widest upright cylinder that is walled in on all sides and open above."""
    from scipy.ndimage import distance_transform_edt, label

    rims = np.unique(heights[np.isfinite(heights)].round(3))[::-1]
    for rim in rims[rims > rims[0] - 0.3 * (rims[0] - rims[-1] + 1e-9)]:
        free = heights < rim - 0.01
        regions = np.zeros(free.shape, np.int32)
        label(free, output=regions)
        outside = regions[0, 0]
        best: Interior | None = None
        for region in range(1, int(regions.max()) + 1):
            if region == outside:
                continue
            room = np.asarray(distance_transform_edt(regions == region))
            i, j = np.unravel_index(int(np.argmax(room)), room.shape)
            radius = float(room[i, j] - 0.5) * float(xs[1] - xs[0])
            disc = np.hypot(xs[:, None] - xs[i], ys[None] - ys[j]) <= 0.6 * radius
            floor = float(heights[disc].max())
            if radius < 0.015 or not np.isfinite(floor) or rim - floor < 0.01:
                continue
            if best is None or radius > best.half[0]:
                half = (round(radius, 6), round(radius, 6), round(0.5 * (float(rim) - floor), 6))
                center = (float(xs[i]), float(ys[j]), 0.5 * (float(rim) + floor))
                best = Interior(_rounded(center), half, round=True)
        if best is not None:
            return best
    return None


def _surface(heights: np.ndarray, xs: np.ndarray, ys: np.ndarray, interior: Interior | None) -> Surface | None:
    """The widest level disc on top, or on the floor of the hollow."""
    from scipy.ndimage import distance_transform_edt

    if interior is None:
        level = float(heights[np.isfinite(heights)].max())
        near = np.ones_like(heights, bool)
    else:
        level = interior.center[2] - interior.half[2]
        near = np.hypot(xs[:, None] - interior.center[0], ys[None] - interior.center[1]) <= interior.half[0]
    flat = (np.abs(heights - level) <= _LEVEL) & near
    if not flat.any():
        return None
    room = np.asarray(distance_transform_edt(np.pad(flat, 1)))[1:-1, 1:-1]
    i, j = np.unravel_index(int(np.argmax(room)), room.shape)
    radius = round(float(room[i, j] - 0.5) * float(xs[1] - xs[0]), 6)
    if radius < 0.01:
        return None
    return Surface(_rounded((float(xs[i]), float(ys[j]), level)), (radius, radius), round=True)


def _rounded(point: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = point
    return round(x, 6), round(y, 6), round(z, 6)


def _try(pieces: Sequence[Convex], start: np.ndarray, claim: str, place: Interior | Surface) -> None:
    """Drop the ball from ``start``; raise unless it comes to rest inside, or on."""
    end, speed = _drop_ball(pieces, start)
    beside = float(np.hypot(end[0] - place.center[0], end[1] - place.center[1])) - place.half[0]
    if isinstance(place, Interior):
        gone = beside > 0 or abs(end[2] - place.center[2]) > place.half[2] + PROBE
    else:
        gone = beside > 0 or abs(end[2] - PROBE - place.center[2]) > 3 * _LEVEL
    if gone or speed > 0.02:
        raise GateFailure(
            "A8",
            "PROBE_LOST",
            f"a ball of 1 cm dropped onto the {claim} did not stay there: raise max_hulls, or drop the claim",
            end_m=tuple(round(float(p), 4) for p in end),
        )


def _drop_ball(pieces: Sequence[Convex], start: np.ndarray) -> tuple[np.ndarray, float]:
    spec = mujoco.MjSpec()
    spec.option.timestep = _STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    add_pieces(spec, spec.worldbody.add_body(name="object"), pieces, mass=1.0)
    ball = spec.worldbody.add_body(name="probe", pos=start)
    ball.add_freejoint()
    # Rolling friction as of a soft ball: it shall tell where it stays, not how long it rolls.
    ball.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[PROBE, 0, 0], density=1000, condim=6, friction=[0.8, 0.01, 0.003]
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=round(_FALL_S / _STEP_S))
    return data.body("probe").xpos.copy(), float(np.abs(data.qvel[:3]).max())
