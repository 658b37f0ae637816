"""The robot put by hand: holding a thing in the air, or with its fingers on a thing that lies."""

from __future__ import annotations

import numpy as np

from robostack.sim.rotation import yaw_rotation
from simgen.experts.motion import Planner
from simgen.gates.stage import Stage

_SQUEEZE = 1e-3  # pads this deep in the object are a touch that no one overlooks [m]


def grasp_yaw(stage: Stage, planner: Planner, entity: str) -> float:
    """Tool yaw at which the fingers close on the entity's narrower side [rad]."""
    rot, half = stage.world.rot(entity), stage.world.entities[entity].half
    axis = rot[:, 0] if half[0] <= half[1] else rot[:, 1]
    turn = float(np.arctan2(axis[1], axis[0])) - planner.closing_angle()
    return (turn + np.pi / 2) % np.pi - np.pi / 2  # a finger is as good as the other


def width(stage: Stage, entity: str) -> float:
    """Extent between the fingers [m]."""
    return 2.0 * min(stage.world.entities[entity].half[:2])


def set_arm(stage: Stage, planner: Planner, pos: np.ndarray, yaw: float, opening: float) -> bool:
    """Put the tool to a downward pose by inverse kinematics, fingers ``opening``; False where it cannot be."""
    scene, rot = stage.scene, planner.rotation(yaw)
    best = scene.ik.solve(pos, rot, scene.ik.home, iterations=200)
    if best.position_error > 3e-3 or best.rotation_error > scene.card.tilt_tolerance:
        return False
    gripper = scene.card.gripper
    value = gripper.closed + opening * (gripper.open - gripper.closed)
    stage.data.qpos[scene.arm.qpos] = best.q
    stage.data.ctrl[scene.arm.actuators] = best.q
    for name in gripper.joints:
        stage.data.joint(f"robot/{name}").qpos[0] = value
    stage.data.ctrl[scene.arm.gripper_actuator] = value
    return True


def touch(stage: Stage, entity: str) -> bool:
    """Fingers closed on an entity where it lies; False where no such pose exists."""
    planner = Planner(stage.scene)
    yaw = grasp_yaw(stage, planner, entity)
    opening = planner.opening_for(max(0.0, width(stage, entity) - 2 * _SQUEEZE))
    _, middle = planner.pads_at(opening)
    target = stage.world.pos(entity) - planner.rotation(yaw)[:, 1] * middle
    low = planner.tip_below + 0.002
    target[2] = max(target[2], low)
    if not set_arm(stage, planner, target, yaw, opening):
        return False
    stage.refresh()
    return True


def hold(stage: Stage, entity: str, height: float, rng: np.random.Generator) -> bool:
    """The entity between closed fingers, ``height`` above where it was at reset, gripped by friction."""
    if not stage.free(entity):
        return False
    planner = Planner(stage.scene)
    x0, y0, x1, y1 = stage.scene.card.workspace
    spot = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1), stage.rest_z(entity) + height])
    yaw = float(rng.uniform(-0.5, 0.5))
    half = stage.world.entities[entity].half
    turn = yaw + planner.closing_angle() - (0.0 if half[0] <= half[1] else np.pi / 2)
    opening = planner.opening_for(max(0.0, width(stage, entity) - _SQUEEZE))
    _, middle = planner.pads_at(opening)
    target = spot - planner.rotation(yaw)[:, 1] * middle
    if not set_arm(stage, planner, target, yaw, opening):
        return False
    stage.put(entity, spot, yaw_rotation(turn))
    stage.data.ctrl[stage.scene.arm.gripper_actuator] = stage.scene.card.gripper.closed
    stage.refresh()
    return True
