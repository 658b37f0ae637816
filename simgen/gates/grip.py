"""The robot put by hand: holding a thing in the air, or with its fingers on a thing that lies."""

from __future__ import annotations

from itertools import islice

import numpy as np

from robostack.sim.rotation import yaw_rotation
from robostack.task import geometry as geo
from robostack.task.world import ROBOT
from simgen.experts.grasps import grasps
from simgen.experts.motion import Planner, Pose
from simgen.experts.skills import Skills
from simgen.gates.stage import Stage

_SQUEEZE = 1e-3  # pads this deep in the object are a touch that no one overlooks [m]
_MOST_GRASPS = 12


def width(stage: Stage, entity: str) -> float:
    """Narrowest extent that the fingers have to span [m]."""
    binding = stage.world.entities[entity]
    return 2.0 * min((binding.grip or binding).half[:2])


def set_arm(stage: Stage, planner: Planner, pose: Pose, opening: float) -> bool:
    """Put the tool to a pose by inverse kinematics, fingers ``opening``; False where it cannot be."""
    scene = stage.scene
    best = scene.ik.solve(pose.pos, planner.rotation(pose), scene.ik.home, iterations=200)
    if best.position_error > 3e-3 or best.rotation_error > scene.card.tilt_tolerance:
        return False
    stage.data.qpos[scene.arm.qpos] = best.q
    stage.data.ctrl[scene.arm.actuators] = best.q
    set_fingers(stage, opening)
    return True


def set_fingers(stage: Stage, opening: float) -> None:
    """Put the fingers to an opening, 0 closed to 1 open."""
    gripper = stage.scene.card.gripper
    value = gripper.closed + opening * (gripper.open - gripper.closed)
    for name in gripper.joints:
        stage.data.joint(f"robot/{name}").qpos[0] = value
    stage.data.ctrl[stage.scene.arm.gripper_actuator] = value


def touch(stage: Stage, entity: str) -> bool:
    """Fingers closed on an entity where it is, or on the handle of its joint; False where no such pose exists."""
    skills = Skills(stage.env)
    for pose in _touching_poses(stage, skills, entity):
        for opening in np.linspace(1.0, 0.0, 26):
            if not set_arm(stage, skills.planner, pose, float(opening)):
                break
            stage.refresh()
            if touched(stage, entity):
                return True
    return False


def touched(stage: Stage, entity: str) -> bool:
    """Whether the robot touches an entity now."""
    code = stage.world.index[entity]
    return any(sorted(pair) == sorted((code, ROBOT)) for pair in geo.owners(stage.world))


def _touching_poses(stage: Stage, skills: Skills, entity: str) -> list[Pose]:
    joints = stage.world.entities[entity].joints
    if joints:
        handle = next(iter(joints.values())).handle
        return [Pose(stage.data.site_xpos[handle] + [0.0, 0.0, dz], 0.0) for dz in (0.0, 0.01, 0.02)]
    return [g.pose for g in islice(grasps(skills, entity), _MOST_GRASPS)]


def hold(stage: Stage, entity: str, height: float, rng: np.random.Generator) -> bool:
    """The entity between closed fingers, ``height`` above where it was at reset, gripped by friction."""
    if not stage.free(entity):
        return False
    planner, binding = Planner(stage.scene), stage.world.entities[entity]
    grip = binding.grip or binding
    offset = np.asarray(binding.grip.center) if binding.grip else np.zeros(3)
    x0, y0, x1, y1 = stage.scene.card.workspace
    spot = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1), stage.rest_z(entity) + height])
    yaw = float(rng.uniform(-0.5, 0.5))
    turn = yaw + planner.closing_angle() - (0.0 if grip.half[0] <= grip.half[1] else np.pi / 2)
    opening = planner.opening_for(max(0.0, width(stage, entity) - _SQUEEZE))
    _, middle = planner.pads_at(opening)
    target = spot + yaw_rotation(turn) @ offset
    pose = Pose(target, yaw)
    pose = pose.moved(-planner.rotation(pose)[:, 1] * middle)
    if not set_arm(stage, planner, pose, opening):
        return False
    stage.put(entity, spot, yaw_rotation(turn))
    stage.data.ctrl[stage.scene.arm.gripper_actuator] = stage.scene.card.gripper.closed
    stage.refresh()
    return True
