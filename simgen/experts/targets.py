"""Where a held object may be set down for a subgoal, in order of preference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.task.spec import Subgoal
from simgen.experts.skills import Skills

_SQUARE = ("cube", "box", "square_prism")
_DROP = 0.004  # height above the support at which an object is let go, at object scale 1 [m]
_DROPS_ON, _DROPS_IN = (_DROP, 0.012, 0.02), (0.008, 0.02, 0.03, 0.045, 0.06)
_GRID = np.array([[x, y] for x in (0.0, -0.5, 0.5, -1.0, 1.0) for y in (0.0, -0.5, 0.5, -1.0, 1.0)])
_ROOM = 0.015  # between an object and what lies there already, at object scale 1 [m]


@dataclass(frozen=True)
class Target:
    """A place for an object's origin [m, world], what it may touch there, and a yaw to align with [rad]."""

    pos: Float[np.ndarray, "3"]
    touching: frozenset[str]
    yaw: float | None


def targets(skills: Skills, subgoal: Subgoal) -> list[Target]:
    """Places for ``subgoal.args[0]``, which the gripper holds."""
    obj, world = str(subgoal.args[0]), skills.world
    rest = skills.scene.shapes[obj].rest_z
    drop = _DROP * skills.scale
    if subgoal.skill == "place_at":
        x, y = float(subgoal.args[1]), float(subgoal.args[2])
        return [Target(np.array([x, y, rest + drop]), frozenset(), None)]
    base = str(subgoal.args[1])
    if base == "table":
        return [Target(np.array([*spot, rest + drop]), frozenset(), None) for spot in _on_the_table(skills, obj)]
    pos, rot, binding = world.pos(base), world.rot(base), world.entities[base]
    if subgoal.skill == "place_beside":
        dx, dy = float(subgoal.args[2]), float(subgoal.args[3])
        spot = np.array([pos[0] + dx, pos[1] + dy, rest + drop])
        return [Target(spot, frozenset(), 0.0 if binding.symmetry in _SQUARE else None)]
    if subgoal.skill == "stack":
        top = pos + [0, 0, float(np.abs(rot[2]) @ np.asarray(binding.half)) + rest + drop]
        return [Target(top, frozenset({base}), _facing(skills, base))]
    inside = subgoal.skill == "place_in" and binding.interior is not None
    center, half, frame = _face(skills, base, inside)
    yaw = _facing(skills, base) if not inside and _fills(skills, obj, half) else None
    drops = _DROPS_IN if inside else _DROPS_ON
    shared = sum(other.skill == subgoal.skill and other.args[1:2] == (base,) for other in skills.env.task.subgoals) > 1
    spots = _free_spots(skills, obj, base, center, half, frame, shared=shared)
    return [Target(spot + [0, 0, rest + d * skills.scale], frozenset({base}), yaw) for spot in spots for d in drops]


def _face(skills: Skills, base: str, inside: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre [m, world], half extents [m] and rotation of the face, or of the interior's floor, that carries things."""
    binding, data = skills.world.entities[base], skills.scene.data
    part = binding.interior_body if inside else binding.surface_body
    body = part if part >= 0 else binding.body
    rot = data.xmat[body].reshape(3, 3)
    if inside and binding.interior is not None:
        center = np.asarray(binding.interior.center) - [0.0, 0.0, binding.interior.half[2]]
        half = np.asarray(binding.interior.half[:2])
    else:
        assert binding.surface is not None, base
        center, half = np.asarray(binding.surface.center), np.asarray(binding.surface.half)
    return data.xpos[body] + rot @ center, half, rot


def _facing(skills: Skills, base: str) -> float | None:
    """Yaw of an entity's horizontal edge; None when it has no edges."""
    if skills.world.entities[base].symmetry not in _SQUARE:
        return None
    rot = skills.world.rot(base)
    edge = int(np.argmin(np.abs(rot[2])))
    return float(np.arctan2(rot[1, edge], rot[0, edge]))


def _fills(skills: Skills, obj: str, half: np.ndarray) -> bool:
    """Whether an object with edges is so large that it should lie square on the face."""
    binding = skills.world.entities[obj]
    return binding.symmetry in _SQUARE and min(binding.half[:2]) > 0.5 * float(half.min())


def _free_spots(
    skills: Skills, obj: str, base: str, center: np.ndarray, half: np.ndarray, frame: np.ndarray, *, shared: bool
) -> list[np.ndarray]:
    """The middle of the face; where other things lie there, places beside them first.

    What has to share a narrow face leaves the middle, from where it would keep out the next.
    """
    reach = _radius(skills, obj)
    others = [
        (skills.world.pos(name)[:2], _radius(skills, name))
        for name, binding in skills.world.entities.items()
        if name not in (obj, base) and binding.dof >= 0
    ]

    def room(spot: np.ndarray) -> float:
        return min((float(np.linalg.norm(spot[:2] - xy)) - r for xy, r in others), default=np.inf) - reach

    wanted = _ROOM * skills.scale
    inner = np.maximum(half - reach - 0.004 * skills.scale, 0.0)
    spots = [center + frame[:, :2] @ (cell * inner) for cell in _GRID]
    if room(center) >= wanted:
        if not shared or np.hypot(*inner) - 2 * reach >= 0.3 * wanted:
            return [center]
        outwards = sorted(spots, key=lambda s: -float(np.linalg.norm(s - center)))
        return [*outwards[:6], center]
    beside = sorted((s for s in spots if room(s) >= 0.3 * wanted), key=lambda s: -min(room(s), wanted))
    return [*beside[:6], center]


def _on_the_table(skills: Skills, obj: str) -> Iterator[np.ndarray]:
    """Free places on the table, the nearest to the object first."""
    x0, y0, x1, y1 = skills.scene.card.workspace
    cells = np.array([[x, y] for x in np.linspace(x0, x1, 9) for y in np.linspace(y0, y1, 13)])
    here, reach = skills.world.pos(obj)[:2].copy(), _radius(skills, obj)
    for cell in sorted(cells, key=lambda c: float(np.linalg.norm(c - here))):
        if all(
            _gap(skills, name, cell) > reach + 2 * _ROOM * skills.scale for name in skills.world.entities if name != obj
        ):
            yield cell


def _gap(skills: Skills, name: str, spot: np.ndarray) -> float:
    """Distance from a point on the table to an entity's bounding circle [m]."""
    return float(np.linalg.norm(spot - skills.world.pos(name)[:2])) - float(
        np.hypot(*skills.world.entities[name].half[:2])
    )


def _radius(skills: Skills, name: str) -> float:
    """Radius of an entity's footprint [m]."""
    binding = skills.world.entities[name]
    if binding.symmetry in ("axial", "sphere"):
        return binding.half[0]
    return float(np.hypot(*binding.half[:2]))
