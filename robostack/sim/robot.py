"""Robot card -> MjSpec: servos, finger pads, mimic joints, tool frame.

Grasping in MuJoCo needs care: hulls of finger meshes touch at corners and creep. Fingers therefore touch objects
through box pads only, under an elliptic friction cone (set by the scene), and gravity is compensated on the arm as its
servo does.
"""

from __future__ import annotations

import re

import mujoco
import numpy as np

from robostack.errors import SpecError
from robostack.sim.cards import GripperCard, ParallelGripper, RobotCard
from robostack.sim.descriptions import load_description

ROBOT_BIT, OBJECT_BIT = 2, 1  # the robot collides with objects and table, not with itself
PAD_FRICTION = (1.2, 0.02, 0.001)
TCP_SITE = "tcp"


def build_robot(card: RobotCard) -> mujoco.MjSpec:
    """The robot alone, at the origin of its own frame, with position actuators named after their joints."""
    spec = load_description(card)
    spec.modelname = card.name
    bodies = {body.name: body for body in spec.bodies}
    _paint(spec, card)
    gripper = card.gripper
    if gripper.attach is not None:
        _add_parallel_gripper(_named(bodies, gripper.attach.body, card), gripper.attach, gripper)
        bodies = {body.name: body for body in spec.bodies}
    for name in gripper.hidden:
        for geom in _named(bodies, name, card).geoms:
            geom.contype = geom.conaffinity = 0
    for pad in gripper.pads:
        _add_pad(_named(bodies, pad.body, card), pad.side, pad.pos, pad.half, gripper.pad_solref, pad.euler)
    tcp = _named(bodies, card.tcp.body, card)
    tcp.add_site(name=TCP_SITE, pos=card.tcp.pos, quat=quat_from_euler(card.tcp.euler), size=[0.005] * 3, group=4)
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    _servo_arm(spec, card)
    _servo_gripper(spec, gripper, card)
    return spec


def quat_from_euler(euler: tuple[float, float, float]) -> np.ndarray:
    """Quaternion (w, x, y, z) of intrinsic rotations about x, y, z [rad]."""
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, np.asarray(euler, float), "xyz")
    return quat


def _named(bodies: dict, name: str, card: RobotCard):
    if name not in bodies:
        raise SpecError(f"robot '{card.name}': no body '{name}' in {card.source.file}; it has {', '.join(bodies)}")
    return bodies[name]


def _paint(spec: mujoco.MjSpec, card: RobotCard) -> None:
    for body in spec.bodies[1:]:
        color = next((rgba for pattern, rgba in card.colors.items() if re.search(pattern, body.name)), None)
        for geom in body.geoms:
            geom.contype, geom.conaffinity, geom.group = ROBOT_BIT, OBJECT_BIT, 2
            geom.friction = [0.6, 0.005, 0.0001]
            if color is not None:
                geom.rgba = color


def _add_pad(body, side: str, pos, half, solref: float, euler=(0.0, 0.0, 0.0)) -> None:
    body.add_geom(
        name=f"pad_{side}_{len(body.geoms)}",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=pos,
        size=half,
        quat=quat_from_euler(euler),
        rgba=[0.15, 0.15, 0.16, 1.0],
        friction=PAD_FRICTION,
        condim=4,
        contype=ROBOT_BIT,
        conaffinity=OBJECT_BIT,
        priority=1,
        solref=[solref, 1.0],
        mass=0.005,
        group=2,
    )


def _add_parallel_gripper(mount, shape: ParallelGripper, gripper: GripperCard) -> None:
    """Palm and two sliding fingers; z of the mount points at the object, the fingers close along y."""
    palm = mount.add_body(name="gripper_palm", pos=[0, 0, shape.palm[2]])
    dark, grey = [0.12, 0.12, 0.13, 1.0], [0.35, 0.36, 0.38, 1.0]
    flags = {"contype": ROBOT_BIT, "conaffinity": OBJECT_BIT, "group": 2}
    palm.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=shape.palm, rgba=dark, mass=0.6, **flags)
    for sign, side, joint in ((1.0, "left", gripper.joints[0]), (-1.0, "right", gripper.joints[1])):
        finger = palm.add_body(
            name=f"gripper_{side}_finger",
            pos=[0, sign * (shape.finger[1] + 1e-4), shape.palm[2] + shape.finger[2]],
        )
        finger.add_joint(
            name=joint, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, sign, 0], range=[0, shape.stroke], limited=True
        )
        finger.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=shape.finger, rgba=grey, mass=0.05, **flags)
        tip = min(0.012, shape.finger[2])
        _add_pad(
            finger,
            side,
            pos=[0, sign * -0.0005, shape.finger[2] - tip],
            half=[shape.finger[0] + 0.001, shape.finger[1], tip + 0.001],
            solref=gripper.pad_solref,
        )


def _joint(spec: mujoco.MjSpec, name: str, card: RobotCard):
    joints = {joint.name: joint for joint in spec.joints}
    if name not in joints:
        raise SpecError(f"robot '{card.name}': no joint '{name}' in {card.source.file}; it has {', '.join(joints)}")
    return joints[name]


def _servo_arm(spec: mujoco.MjSpec, card: RobotCard) -> None:
    arm = card.arm
    for i, name in enumerate(arm.joints):
        joint = _joint(spec, name, card)
        if arm.range is not None:
            joint.range = arm.range[i]
        joint.limited = True
        joint.armature, joint.frictionloss = arm.armature, 0.0
        joint.damping[0] = arm.damping
        _add_servo(spec, joint, arm.kp[i], arm.kd[i], arm.force[i])


def _servo_gripper(spec: mujoco.MjSpec, gripper: GripperCard, card: RobotCard) -> None:
    driven = _joint(spec, gripper.joints[0], card)
    for name in gripper.joints:
        joint = _joint(spec, name, card)
        joint.armature, joint.frictionloss = gripper.armature, 0.0
        joint.damping[0] = gripper.damping
    for name in gripper.joints[1:]:
        spec.add_equality(
            type=mujoco.mjtEq.mjEQ_JOINT,
            name1=name,
            name2=driven.name,
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            data=[0.0, 1.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, 0],
            solref=[0.005, 1.0],
        )
    _add_servo(spec, driven, gripper.kp, gripper.kd, gripper.force)


def _add_servo(spec: mujoco.MjSpec, joint, kp: float, kd: float, force: float) -> None:
    actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=kp, kv=kd)
    actuator.forcelimited, actuator.forcerange = True, [-force, force]
    actuator.ctrllimited, actuator.ctrlrange = True, list(joint.range)
