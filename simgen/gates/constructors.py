"""Per atom a constructor: where things have to be put by hand so that the atom holds, physics permitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.predicate import Atom
from simgen.gates.grip import hold
from simgen.gates.stage import Stage
from simgen.gates.wishes import Wish

# Which wish decides where a thing goes when there are several; the others are left to the sampler.
_RANK = {
    "joint": 0,
    "grasped": 1,
    "lifted": 1,
    "pose_at": 2,
    "in": 3,
    "contains_count": 3,
    "on": 3,
    "above": 4,
    "touching": 5,
    "left_of": 6,
    "right_of": 6,
    "front_of": 6,
    "behind": 6,
    "sorted": 7,
    "near": 8,
    "aligned": 9,
    "spread": 9,
    "upright": 10,
    "far": 11,
    "moved": 12,
}
_DIRECTION = {"left_of": (0.0, 1.0), "right_of": (0.0, -1.0), "front_of": (1.0, 0.0), "behind": (-1.0, 0.0)}
_LIFT = 3e-4  # above what carries it; contact closes the gap [m]
_DROP = 0.01
_ON_ITS_SIDE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])

Constructor = Callable[[Stage, Atom, np.random.Generator], bool]


def construct(stage: Stage, wishes: tuple[Wish, ...], rng: np.random.Generator) -> bool:
    """Put things so that the wishes may hold after settling; False when a thing found no room."""
    placed: set[str] = set()
    _clear_away(stage, wishes)
    for wish in _ordered(stage, wishes):
        atom = wish.atom
        subjects = [s for s in subjects_of(atom) if s not in placed]
        if not wish.positive:
            if ATOMS[atom.name].fn(stage.world, *atom.args, **atom.tol) >= 0.0 and not _undo(stage, atom, rng):
                return False
            continue
        if not subjects or atom.name not in CONSTRUCTORS:
            continue
        if not CONSTRUCTORS[atom.name](stage, atom, rng):
            return False
        stage.refresh()
        if any(stage.overlaps(s) for s in subjects if stage.free(s)):
            return False
        placed.update(s for s in subjects if atom.name != "joint")
    return True


def _clear_away(stage: Stage, wishes: tuple[Wish, ...]) -> None:
    """Take what gets a new place off the table first: things that change places must not be in each other's way."""
    moving = dict.fromkeys(
        str(w.atom.args[0])
        for w in wishes
        if w.positive and w.atom.name in ("on", "in") and w.atom.args[1] != "table" and stage.free(str(w.atom.args[0]))
    )
    for number, name in enumerate(moving):
        stage.put(name, np.array([0.4 * number, 0.0, 2.0]))
    stage.refresh()


def subjects_of(atom: Atom) -> tuple[str, ...]:
    """The entities that an atom is about: those that are moved to satisfy it."""
    if atom.name == "contains_count":
        return tuple(str(a) for a in atom.args[1]) if isinstance(atom.args[1], tuple) else ()
    first = atom.args[0]
    return tuple(str(a) for a in first) if isinstance(first, tuple) else (str(first),)


def reference_of(atom: Atom) -> str | None:
    """The entity that its subject is put in relation to."""
    if atom.name == "contains_count":
        return str(atom.args[0])
    second = atom.args[1] if len(atom.args) > 1 else None
    return second if isinstance(second, str) and atom.name != "joint" and second != "table" else None


def _ordered(stage: Stage, wishes: tuple[Wish, ...]) -> list[Wish]:
    """What carries comes before what is carried, what decides a place before what merely limits it."""
    carriers: dict[str, str] = {}
    for wish in wishes:
        reference = reference_of(wish.atom)
        if wish.positive and reference and wish.atom.name not in ("far",):
            for subject in subjects_of(wish.atom):
                carriers.setdefault(subject, reference)

    def depth(name: str, seen: tuple[str, ...] = ()) -> int:
        above = carriers.get(name)
        return 0 if above is None or name in seen else 1 + depth(above, (*seen, name))

    def key(wish: Wish) -> tuple:
        rank = _RANK.get(wish.atom.name, 99)
        if wish.atom.name == "on" and wish.atom.args[1] == "table":
            rank = _RANK["moved"]
        level = 0 if wish.atom.name == "joint" else max(depth(s) for s in subjects_of(wish.atom))
        return (wish.positive and rank > 0, level, rank, not wish.positive)

    del stage  # Unused.
    return sorted(wishes, key=key)


# Constructors.


def _on(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    a, b = str(atom.args[0]), str(atom.args[1])
    if b == "table":
        return somewhere(stage, a, rng)
    face = geo.face(stage.world, b)
    room = [max(0.0, h - 0.006) for h in face.half]
    spread = 0.8 * np.sqrt(rng.random())  # towards the middle: first tries are the ones a person would make
    u, v = (float(rng.uniform(-r, r)) * spread for r in room)
    if face.round:
        u, v = u * 0.7, v * 0.7
    spot = np.asarray(face.center) + u * np.asarray(face.u) + v * np.asarray(face.v)
    yaw = _yaw_of(stage, b) if rng.random() < 0.5 else float(rng.uniform(-np.pi, np.pi))
    stage.put(a, spot + [0.0, 0.0, stage.rest_z(a) + _LIFT], stage.upright(yaw))
    return True


def _inside(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    return put_in(stage, str(atom.args[0]), str(atom.args[1]), rng)


def put_in(stage: Stage, a: str, b: str, rng: np.random.Generator) -> bool:
    """Let ``a`` start at the lowest free height over a spot of ``b``'s interior."""
    world, binding = stage.world, stage.world.entities[b]
    interior = binding.interior
    if interior is None:
        return False
    body = binding.interior_body if binding.interior_body >= 0 else binding.body
    pos, rot = world.data.xpos[body].copy(), world.data.xmat[body].reshape(3, 3).copy()
    middle = rng.random() < 0.4
    share = np.zeros(2) if middle else rng.uniform(-0.6, 0.6, 2)
    yaw = float(np.arctan2(rot[1, 0], rot[0, 0])) if middle or rng.random() < 0.5 else float(rng.uniform(-np.pi, np.pi))
    for height in (1e-3, 4e-3, _DROP, 0.02, 0.035, 0.05):
        local = np.array([share[0] * interior.half[0], share[1] * interior.half[1], height - interior.half[2]])
        spot = pos + rot @ (np.asarray(interior.center) + local)
        stage.put(a, spot + [0.0, 0.0, stage.rest_z(a)], stage.upright(yaw))
        stage.refresh()
        if not stage.overlaps(a):
            return True
    return False


def _contains(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    b, items, cmp, n = str(atom.args[0]), subjects_of(atom), str(atom.args[2]), int(float(str(atom.args[3])))
    order = rng.permutation(len(items))[: 0 if cmp == "<=" else n]
    return len(items) >= n and all(put_in(stage, items[k], b, rng) for k in order)


def _joint(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    o, name, cmp, value = str(atom.args[0]), str(atom.args[1]), str(atom.args[2]), float(str(atom.args[3]))
    slack = float(rng.choice([1.0, 0.5]))
    fraction = {">=": value + (1.0 - value) * slack, "<=": value * (1.0 - slack), "==": value}[cmp]
    move_joint(stage, o, name, fraction)
    return True


def move_joint(stage: Stage, entity: str, joint: str, fraction: float) -> None:
    """Set a joint; what lies in the part that moves goes along."""
    world, binding = stage.world, stage.world.entities[entity]
    body = binding.joints[joint].body
    carried = []
    if binding.interior is not None and binding.interior_body == body:
        carried = [e for e in world.entities if stage.free(e) and geo.depth_in(world, entity, geo.com(world, e)) >= 0]
    pos, rot = world.data.xpos[body].copy(), world.data.xmat[body].reshape(3, 3).copy()
    poses = {e: stage.pose(e) for e in carried}
    stage.set_joint(entity, joint, fraction)
    stage.refresh()
    new_pos, new_rot = world.data.xpos[body], world.data.xmat[body].reshape(3, 3)
    for name, (p, r) in poses.items():
        stage.put(name, new_pos + new_rot @ rot.T @ (p - pos), new_rot @ rot.T @ r)
    stage.refresh()


def _beside(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    a, b = str(atom.args[0]), str(atom.args[1])
    along = np.array(_DIRECTION[atom.name])
    if not stage.free(a):
        a, b, along = b, a, -along
    if not stage.free(a):
        return False
    record = ATOMS[atom.name]
    gap = atom.tol.get("gap", record.tol["gap"])
    lateral = atom.tol.get("lateral", record.tol["lateral"])
    reach = max(gap, stage.radius(a) + stage.radius(b)) + float(rng.uniform(0.005, 0.12))
    across = float(rng.uniform(-0.8, 0.8)) * min(lateral, 0.1)
    spot = stage.world.pos(b)[:2] + along * reach + np.array([along[1], along[0]]) * across
    return on_table(stage, a, spot, rng)


def _near(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    a, b, d = str(atom.args[0]), str(atom.args[1]), float(str(atom.args[2]))
    if b == "table":
        return somewhere(stage, a, rng)
    if not stage.free(a):
        a, b = b, a
    angle = float(rng.uniform(-np.pi, np.pi))
    reach = stage.radius(a) + stage.radius(b) + d * float(rng.uniform(0.0, 0.8))
    return on_table(stage, a, stage.world.pos(b)[:2] + reach * np.array([np.cos(angle), np.sin(angle)]), rng)


def _touching(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    a, b = str(atom.args[0]), str(atom.args[1])
    if b == "table" or stage.world.entities[b].surface is not None:
        return _on(stage, atom, rng)
    return _near(stage, Atom(name="near", args=(a, b, 1e-3)), rng)


def _somewhere(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    return somewhere(stage, subjects_of(atom)[0], rng)


def _line(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    items = list(subjects_of(atom))
    along = np.asarray(atom.args[1], float) if atom.name == "sorted" else None
    if along is None:
        angle = float(rng.choice([0.0, np.pi / 2, float(rng.uniform(-np.pi, np.pi))]))
        along = np.array([np.cos(angle), np.sin(angle)])
    along = along / np.linalg.norm(along)
    widest = max(2.0 * stage.radius(i) for i in items)
    tight = atom.name == "spread" or rng.random() < 0.7
    step = widest + (0.012 if tight else float(rng.uniform(0.012, 0.06)))
    x0, y0, x1, y1 = stage.scene.card.workspace
    middle = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1)])
    for k, item in enumerate(items):
        if not on_table(stage, item, middle + along * step * (k - (len(items) - 1) / 2), rng, yaw=0.0):
            return False
    return True


def _pose_at(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    del rng  # Unused: a pose leaves no choice.
    pose = np.asarray(atom.args[1], float)
    rot = np.zeros(9)
    mujoco.mju_quat2Mat(rot, pose[3:])
    stage.put(str(atom.args[0]), pose[:3], rot.reshape(3, 3))
    return True


def _in_the_air(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    height = float(str(atom.args[1])) if atom.name == "lifted" else 0.05
    return hold(stage, str(atom.args[0]), height + 0.02, rng)


# Helpers.


def on_table(stage: Stage, a: str, spot: np.ndarray, rng: np.random.Generator, yaw: float | None = None) -> bool:
    """Put ``a`` upright on the table; False where the robot cannot reach."""
    x0, y0, x1, y1 = stage.scene.card.workspace
    if not (x0 <= spot[0] <= x1 and y0 <= spot[1] <= y1) or not stage.free(a):
        return False
    turn = float(rng.uniform(-np.pi, np.pi)) if yaw is None else yaw
    stage.put(a, np.array([spot[0], spot[1], stage.rest_z(a) + _LIFT]), stage.upright(turn))
    return True


def somewhere(stage: Stage, a: str, rng: np.random.Generator) -> bool:
    """Put ``a`` on a free spot of the table."""
    if not stage.free(a):
        return False
    x0, y0, x1, y1 = stage.scene.card.workspace
    for _ in range(30):
        on_table(stage, a, np.array([rng.uniform(x0, x1), rng.uniform(y0, y1)]), rng)
        stage.refresh()
        if not stage.overlaps(a):
            return True
    return False


def _undo(stage: Stage, atom: Atom, rng: np.random.Generator) -> bool:
    """Make a true atom false: a joint goes to its other end, what stands falls over, a thing goes somewhere else."""
    if atom.name == "joint":
        value = float(str(atom.args[3]))
        move_joint(stage, str(atom.args[0]), str(atom.args[1]), 0.0 if value > 0.5 else 1.0)
        return True
    if atom.name == "upright":
        return lay_down(stage, str(atom.args[0]), rng)
    return somewhere(stage, subjects_of(atom)[0], rng)


def lay_down(stage: Stage, a: str, rng: np.random.Generator) -> bool:
    """Put ``a`` on its side near where it stands; False where there is no room."""
    if not stage.free(a):
        return False
    pos, _ = stage.pose(a)
    for attempt in range(30):
        turn = stage.upright(float(rng.uniform(-np.pi, np.pi)))
        spot = pos[:2] + 0.2 * attempt * stage.radius(a) * rng.standard_normal(2)
        stage.put(a, np.array([*spot, 1.0]), turn @ _ON_ITS_SIDE)
        stage.refresh()
        stage.put(a, np.array([*spot, 1.0 - geo.bottom(stage.world, a) + _LIFT]))
        stage.refresh()
        if not stage.overlaps(a):
            return True
    return False


def _yaw_of(stage: Stage, entity: str) -> float:
    rot = stage.world.rot(entity)
    return float(np.arctan2(rot[1, 0], rot[0, 0]))


CONSTRUCTORS: Mapping[str, Constructor] = {
    "on": _on,
    "in": _inside,
    "contains_count": _contains,
    "joint": _joint,
    "left_of": _beside,
    "right_of": _beside,
    "front_of": _beside,
    "behind": _beside,
    "near": _near,
    "above": _on,
    "touching": _touching,
    "far": _somewhere,
    "moved": _somewhere,
    "aligned": _line,
    "sorted": _line,
    "spread": _line,
    "pose_at": _pose_at,
    "grasped": _in_the_air,
    "lifted": _in_the_air,
}
