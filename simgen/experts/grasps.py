"""Where to take hold of an object: tool poses in order of preference, from its card's grasp axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robostack.sim.cards import load_asset
from robostack.task.geometry import extent_z
from robostack.task.world import Grip
from simgen.experts.arm import Arm
from simgen.experts.motion import Pose

_FLOOR = 0.004  # between fingertips and table, for arms that cannot point exactly down [m]
_SLIT = 0.001  # between fingertips and what is below the part that they take [m]
_MIN_GRIP = 0.008  # height over which the pads must face the object, at object scale 1 [m]
_COVER = 0.009  # of the object that the pads shall face at least, at object scale 1 [m]
_SPAN = 0.97  # share of the gripper's opening that an object may fill
_SLACK = (0.022, 0.012)  # room at both sides of the object together where a fully open gripper does not fit [m]
HOVER = 0.09  # height from which a thorough arm comes down where it cannot come over everything [m]
_TILTS = (0.45, -0.45, 0.9, -0.9, 1.35)  # from straight down, for thorough searches [rad]


@dataclass(frozen=True)
class Grasp:
    """A tool pose, how wide the gripper comes there (0 to 1), and where it starts its straight approach."""

    pose: Pose
    opening: float
    before: Pose


def grasps(arm: Arm, obj: str, *, above: float = 0.0) -> Iterator[Grasp]:
    """Grasps of ``obj``, best first: from above around its middle with the gripper fully open, then narrower ones.

    Where its surroundings leave no room for the hand, the fingers take less of it, nearer to its top; they leave at
    least the lowest ``above`` [m] of it free. Thorough arms also come tilted.
    """
    height, poses = arm.transit_height(), _poses(arm, obj)
    most = _highest(arm, obj, poses)
    lift = max(0.0, extent_z(arm.world, obj)[0] + above + arm.planner.tip_below - poses[0][0].pos[2]) if poses else 0.0
    poses, most = [(pose.moved([0.0, 0.0, lift]), width) for pose, width in poses], most - lift
    for share in (0.0, 0.5, 1.0):
        raised = [(pose.moved([0.0, 0.0, share * most]), width) for pose, width in poses]
        for slack in (None, *_SLACK):
            for pose, width in raised:
                opening = 1.0 if slack is None else arm.opening_around(width, slack)
                yield Grasp(pose, opening, pose.lifted(max(height, pose.pos[2] + 0.04 * arm.scale)))
                if arm.thorough:
                    yield Grasp(pose, opening, pose.lifted(pose.pos[2] + HOVER * arm.scale))
        if most < 0.002:
            break
    if not arm.thorough:
        return
    for tilt in _TILTS:
        for pose, width in poses:
            tilted = Pose(pose.pos, pose.yaw, 0.0, tilt)
            back = arm.planner.rotation(tilted)[:, 2] * -0.08 * arm.scale
            for opening in (1.0, arm.opening_around(width, _SLACK[0])):
                yield Grasp(tilted, opening, tilted.moved(back))


def _highest(arm: Arm, obj: str, poses: list[tuple[Pose, float]]) -> float:
    """How far above the usual grasp the tool may stay [m]."""
    if not poses or load_asset(arm.world.entities[obj].card).grasp_axis == "rim":
        return 0.0
    tips = float(poses[0][0].pos[2]) - arm.planner.tip_below
    return max(0.0, extent_z(arm.world, obj)[1] - tips - _COVER * arm.scale)


def _poses(arm: Arm, obj: str) -> list[tuple[Pose, float]]:
    """Downward poses with the width between the pads there [m], the least wrist turn first."""
    binding = arm.world.entities[obj]
    grip = binding.grip or Grip((0.0, 0.0, 0.0), binding.half)
    axis = "faces" if binding.grip else load_asset(binding.card).grasp_axis
    if axis == "rim":
        return _rim(arm, obj)
    if axis == "card":
        return _from_card(arm, obj)
    rot = arm.world.rot(obj)
    center = arm.world.pos(obj) + rot @ np.asarray(grip.center)
    half_z = float(np.abs(rot[2]) @ np.asarray(grip.half))
    below = max(extent_z(arm.world, obj)[0] + _FLOOR, center[2] - half_z + _SLIT)
    z = max(center[2], below + arm.planner.tip_below)
    if center[2] + half_z - (z - arm.planner.tip_below) < _MIN_GRIP * arm.scale:
        return []
    spot = np.array([center[0], center[1], z])
    found = []
    if axis == "faces":
        edge = int(np.argmin(np.abs(rot[2])))  # a horizontal edge of the block, whichever face is up
        other = min((i for i in range(3) if i != edge), key=lambda i: abs(rot[2, i]))
        facing = float(np.arctan2(rot[1, edge], rot[0, edge])) - arm.planner.closing_angle()
        for k in range(4):
            closing = (edge, other)[k % 2]
            if binding.grip and "xyz"[closing] not in grip.across:
                continue
            found.append((facing + k * np.pi / 2, 2 * grip.half[closing]))
    elif axis == "axial":
        found = [(k * np.pi / 8, 2 * min(grip.half[:2])) for k in range(-6, 7)]
    limit = _SPAN * arm.scene.card.gripper.max_opening
    turns = sorted(((arm.nearest_turn(t), w) for t, w in found if w <= limit), key=lambda tw: abs(tw[0]))
    return [(Pose(spot, yaw), width) for yaw, width in turns]


def _rim(arm: Arm, obj: str) -> list[tuple[Pose, float]]:
    """Over the edge of a container: one finger inside, one outside."""
    binding = arm.world.entities[obj]
    inner, pos, rot = binding.interior, arm.world.pos(obj), arm.world.rot(obj)
    if inner is None or rot[2, 2] < 0.9:
        return []
    top = extent_z(arm.world, obj)[1]
    z = top - min(arm.planner.tip_below, 0.7 * (top - extent_z(arm.world, obj)[0])) + 0.002
    z = max(z, extent_z(arm.world, obj)[0] + arm.planner.tip_below + _FLOOR)
    if top - (z - arm.planner.tip_below) < _MIN_GRIP * arm.scale:
        return []
    sides = range(8) if inner.round else range(0, 8, 2)
    found = []
    for k in sides:
        way = np.array([np.cos(k * np.pi / 4), np.sin(k * np.pi / 4), 0.0])
        reach = binding.half[0] if inner.round else float(np.abs(way[:2]) @ np.asarray(binding.half[:2]))
        inside = inner.half[0] if inner.round else float(np.abs(way[:2]) @ np.asarray(inner.half[:2]))
        thick = max(reach - inside, 0.006)
        at = pos + rot @ (way * (reach - 0.5 * thick))
        ahead = rot @ way
        yaw = float(np.arctan2(ahead[1], ahead[0])) - arm.planner.closing_angle()
        spot = np.array([at[0], at[1], z])
        found += [(Pose(spot, arm.nearest_turn(turn)), thick) for turn in (yaw, yaw + np.pi)]
    return sorted(found, key=lambda f: abs(f[0].yaw))


def _from_card(arm: Arm, obj: str) -> list[tuple[Pose, float]]:
    """The grasps of an imported object's card, best first, in both directions; none when it does not lie as at rest."""
    binding, rot = arm.world.entities[obj], arm.world.rot(obj)
    card = load_asset(binding.card)
    if card.mesh is None or rot[2, 2] < 0.97:
        return []
    scale = binding.half[0] / card.mesh.half[0]
    floor = extent_z(arm.world, obj)[0] + arm.planner.tip_below + _FLOOR
    turn = float(np.arctan2(rot[1, 0], rot[0, 0])) - arm.planner.closing_angle()
    found = []
    for grasp in card.grasps:
        spot, width = arm.world.pos(obj) + rot @ (scale * np.asarray(grasp.pos)), scale * grasp.width
        spot[2] = max(spot[2], floor)
        yaws = sorted((arm.nearest_turn(turn + grasp.yaw + k * np.pi) for k in (0, 1)), key=abs)
        found += [(Pose(spot, yaw), width) for yaw in yaws if width <= _SPAN * arm.scene.card.gripper.max_opening]
    return found
