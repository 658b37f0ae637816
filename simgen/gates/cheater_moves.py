"""Cheats: edits of a start state by which a careless goal may come true without the task being performed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robostack.sim.rotation import yaw_rotation
from robostack.task import geometry as geo
from robostack.task.spec import TaskSpec
from simgen.experts.motion import Planner, Pose
from simgen.gates.cheater_evidence import subjects
from simgen.gates.stage import Stage

_NUDGES = (0.01, 0.03)  # [m]
_COMPASS = [np.array([np.cos(a), np.sin(a), 0.0]) for a in np.arange(8) * np.pi / 4]
_GAP = 3e-4
_SQUEEZE = 1e-3


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
    """On the table against another thing's side."""
    pos, rot = stage.pose(b)
    height = stage.rest_z(a)
    for way in _COMPASS:
        reach = _extent(stage, a, stage.pose(a)[1], way) + _extent(stage, b, rot, way)
        spot = pos + way * (reach + _GAP)
        yield Cheat("beside", (Edit(a, (spot[0], spot[1], height + _GAP)),))


def _in_hand(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    """Held by the gripper at and above the destination."""
    base = _on_top(stage, a, b, None)
    for height in (0.0, 0.005, 0.04):
        yield Cheat("hand", (Edit(a, (base[0], base[1], base[2] + height), hand=True),))


def _toppled(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    for rot in (_turn(0, np.pi / 2), _turn(1, np.pi / 2), _turn(0, np.pi)):
        yield Cheat("topple", (Edit(a, _on_top(stage, a, b, rot), rot),))


def _flying(stage: Stage, a: str, b: str) -> Iterator[Cheat]:
    x, y, z = _on_top(stage, a, b, None)
    yield Cheat("throw", (Edit(a, (x, y, z + 0.04)),))
    yield Cheat("throw", (Edit(a, (x, y, z), velocity=(0.6, 0.0, 0.0)),))


def _arrangements(stage: Stage, items: list[str]) -> Iterator[Cheat]:
    """Everything to one place, one after the other on top; and all but one to each place."""
    places = [n for n, b in stage.world.entities.items() if b.surface is not None and n not in items]
    for place in places:
        for some in (items, *([i for i in items if i != left] for left in items)):
            if len(some) < 2 and len(items) > 1 and len(some) != len(items) - 1:
                continue
            edits, lift = [], 0.0
            for item in some:
                x, y, z = _on_top(stage, item, place, None)
                edits.append(Edit(item, (x, y, z + lift)))
                lift += 2.0 * float(stage.world.entities[item].half[2]) + 2e-3
            if edits:
                yield Cheat("pile", tuple(edits))
    for order in itertools.islice(itertools.product(places, repeat=len(items)), 16 if len(places) > 1 else 0):
        if len(set(order)) > 1 and len(items) > 1:
            yield Cheat("deal", tuple(Edit(i, _on_top(stage, i, p, None)) for i, p in zip(items, order, strict=True)))


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


def _turn(axis: int, angle: float) -> np.ndarray:
    rot = yaw_rotation(angle)
    return np.roll(np.roll(rot, axis + 1, axis=0), axis + 1, axis=1)
