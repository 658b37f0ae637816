"""Cheats: edits of a start state by which a careless goal may come true without the task being performed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np

from robostack.task import geometry as geo
from robostack.task.spec import TaskSpec
from simgen.experts.motion import Planner, Pose
from simgen.gates.cheater_evidence import subjects
from simgen.gates.stage import Stage

_NUDGES = (0.01, 0.03)  # [m]
_COMPASS = [np.array([np.cos(a), np.sin(a), 0.0]) for a in np.arange(8) * np.pi / 4]
_GAP = 3e-4
_SQUEEZE = 1e-3
_BEYOND = np.deg2rad(8.0)  # past the angle at which a leaning thing falls over
_MOST_DEALS = 16
_X, _Y = np.eye(3)[:2]


@dataclass(frozen=True)
class Edit:
    """One thing that is put somewhere.

    Attributes:
        pos: of the body [m, world]; None leaves it where it is.
        rot: rotation matrix; None keeps it.
        velocity: linear [m/s].
        joint: (name, fraction) to set instead.
        hand: put the gripper around it.
    """

    entity: str
    pos: tuple[float, float, float] | None = None
    rot: np.ndarray | None = None
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    joint: tuple[str, float] | None = None
    hand: bool = False


@dataclass(frozen=True)
class Cheat:
    """A named set of edits."""

    name: str
    edits: tuple[Edit, ...]

    def apply(self, stage: Stage) -> bool:
        """Edit the state; False when the arm cannot be put where the cheat wants it."""
        for edit in self.edits:
            if edit.joint is not None:
                stage.set_joint(edit.entity, *edit.joint)
                continue
            if edit.pos is not None:
                stage.put(edit.entity, np.asarray(edit.pos), edit.rot)
                stage.push(edit.entity, edit.velocity)
            stage.refresh()
            if edit.hand and not _grip(stage, edit.entity):
                return False
        stage.refresh()
        return True

    def without(self, index: int) -> Cheat:
        """The same cheat less one edit."""
        return Cheat(self.name, self.edits[:index] + self.edits[index + 1 :])


def cheats(spec: TaskSpec, stage: Stage) -> Iterator[Cheat]:
    """All cheats for the start state on stage, mildest first."""
    items = [i for i in subjects(spec) if stage.free(i)]
    for item in items:
        yield from _nudges(stage, item)
    yield from _joints(stage)
    pairs = [(a, b) for a in items for b in stage.world.entities if a != b]
    for a, b in pairs:
        yield from _beside(stage, a, b)
        yield from _in_hand(stage, a, b)
        yield from _toppled(stage, a, b)
        yield from _flying(stage, a, b)
    for item in items:
        up = tuple(stage.pose(item)[0] + [0.0, 0.0, 0.06])
        yield Cheat("throw", (Edit(item, up),))
    yield from _arrangements(stage, items)


def _nudges(stage: Stage, item: str) -> Iterator[Cheat]:
    pos, _ = stage.pose(item)
    for length, way in itertools.product(_NUDGES, _COMPASS):
        yield Cheat("nudge", (Edit(item, tuple(pos + length * way)),))


def _joints(stage: Stage) -> Iterator[Cheat]:
    for name, binding in stage.world.entities.items():
        for joint, fraction in itertools.product(binding.joints, np.linspace(0.1, 1.0, 10)):
            yield Cheat("joint", (Edit(name, joint=(joint, float(fraction))),))


def _beside(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    """On the table against another thing's side, upright and leaning on it; and dropped onto its rim."""
    start, (pos, rot), half = stage.save(), stage.pose(b), stage.world.entities[a].half
    tipping = float(np.arctan2(max(half[:2]), half[2])) + _BEYOND
    for way in _COMPASS:
        lean = _about(np.cross([0.0, 0.0, 1.0], -way), tipping)
        for name, turn in (("beside", None), ("lean", lean)):
            own = stage.pose(a)[1] if turn is None else turn
            height = stage.rest_z(a) if turn is None else float(np.abs(turn[2]) @ stage.world.entities[a].half)
            reach = _extent(stage, a, own, way) + _extent(stage, b, rot, way) + 0.01
            spot = np.array([*(pos + way * reach)[:2], height + _GAP])
            for _ in range(4):  # outlines are generous: close in to where surfaces meet
                stage.put(a, spot, turn)
                stage.refresh()
                if stage.world.entities[b].geoms:
                    spot = spot - way * max(0.0, geo.surface_distance(stage.world, a, b) - _GAP)
            stage.load(start)
            yield Cheat(name, (Edit(a, (spot[0], spot[1], spot[2]), turn),))
        rim = pos + way * _extent(stage, b, rot, way)
        top = geo.extent_z(stage.world, b)[1] + stage.rest_z(a) + _GAP
        yield Cheat("rim", (Edit(a, (rim[0], rim[1], top)),))


def _in_hand(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    """Held by the gripper at and above the destination."""
    base = _on_top(stage, a, b, None)
    for height in (0.0, 0.005, 0.04):
        yield Cheat("hand", (Edit(a, (base[0], base[1], base[2] + height), hand=True),))


def _toppled(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    for rot in (_about(_X, np.pi / 2), _about(_Y, np.pi / 2), _about(_X, np.pi)):
        yield Cheat("topple", (Edit(a, _on_top(stage, a, b, rot), rot),))


def _flying(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    x, y, z = _on_top(stage, a, b, None)
    yield Cheat("throw", (Edit(a, (x, y, z + 0.04)),))
    yield Cheat("throw", (Edit(a, (x, y, z), velocity=(0.6, 0.0, 0.0)),))


def _arrangements(stage: Stage, items: list[str]) -> Iterator[Cheat]:
    """Everything, or all but one, into one place: as a tower or in a row; and each to some place."""
    places = [n for n, b in stage.world.entities.items() if b.surface is not None and n not in items]
    groups = [items, *([i for i in items if i != left] for left in items)] if len(items) > 1 else []
    for place, some in itertools.product(places, groups):
        for shift in ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
            yield Cheat("pile", tuple(_series(stage, some, place, np.asarray(shift))))
    if len(places) > 1 and len(items) > 1:
        for order in itertools.islice(itertools.product(places, repeat=len(items)), _MOST_DEALS):
            if len(set(order)) > 1:
                edits = (Edit(i, _on_top(stage, i, p, None)) for i, p in zip(items, order, strict=True))
                yield Cheat("deal", tuple(edits))


def _series(stage: Stage, items: list[str], place: str, shift: np.ndarray) -> Iterator[Edit]:
    """Things on one place, each a body's length further along ``shift`` in the place's frame."""
    rot = stage.pose(place)[1]
    for number, item in enumerate(items):
        size = 2.0 * np.asarray(stage.world.entities[item].half) + 2e-3
        middle = 0.0 if shift[2] else 0.5 * (len(items) - 1)
        x, y, z = np.asarray(_on_top(stage, item, place, None)) + rot @ (shift * size * (number - middle))
        yield Edit(item, (float(x), float(y), float(z)))


def _on_top(stage: Stage, a: str, b: str, rot: np.ndarray | None) -> tuple[float, float, float]:
    """Where ``a`` would rest on ``b``'s face, or on the floor of its interior."""
    binding = stage.world.entities[b]
    if binding.surface is not None:
        x, y, z = geo.face(stage.world, b).center
    else:
        x, y, _ = geo.com(stage.world, b)
        z = geo.extent_z(stage.world, b)[1]
    below = stage.rest_z(a)
    if rot is not None:
        below = float(np.abs(rot[2]) @ np.asarray(stage.world.entities[a].half))
    return x, y, z + below + _GAP


def _extent(stage: Stage, entity: str, rot: np.ndarray, way: np.ndarray) -> float:
    """How far a thing's footprint reaches along a horizontal direction [m]."""
    shape = stage.scene.shapes[entity]
    if shape.round:
        return shape.footprint[0]
    local = np.abs(rot.T @ way)
    return float(local[0] * shape.footprint[0] + local[1] * shape.footprint[1])


def _grip(stage: Stage, entity: str) -> bool:
    """Close the gripper on a thing where it is, fingers across its narrower side; False where the arm cannot be."""
    scene, planner = stage.scene, Planner(stage.scene)
    half, (pos, rot) = stage.world.entities[entity].half, stage.pose(entity)
    width, gripper = 2.0 * min(half[:2]), scene.card.gripper
    if width > gripper.max_opening:
        return False
    across = rot[:, 0] if half[0] <= half[1] else rot[:, 1]
    yaw = float(np.arctan2(across[1], across[0])) - planner.closing_angle()
    pose = Pose(pos, (yaw + np.pi / 2) % np.pi - np.pi / 2)  # a finger is as good as the other
    opening = planner.opening_for(max(0.0, width - _SQUEEZE))
    _, middle = planner.pads_at(opening)
    turn = planner.rotation(pose)
    found = scene.ik.solve(pos - turn[:, 1] * middle, turn, scene.ik.home, iterations=200)
    if found.position_error > 3e-3 or found.rotation_error > scene.card.tilt_tolerance:
        return False
    stage.data.qpos[scene.arm.qpos] = stage.data.ctrl[scene.arm.actuators] = found.q
    for name in gripper.joints:
        stage.data.joint(f"robot/{name}").qpos[0] = gripper.closed + opening * (gripper.open - gripper.closed)
    stage.data.ctrl[scene.arm.gripper_actuator] = gripper.closed
    return True


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    quat, rot = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quat, np.asarray(axis, float), angle)
    mujoco.mju_quat2Mat(rot, quat)
    return rot.reshape(3, 3)
