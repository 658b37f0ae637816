"""What a policy sees of a scene, and how its elements are named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robostack.errors import UnknownName
from robostack.sim.rotation import canonical_rotation, rot6d
from robostack.sim.scene import Scene
from robostack.types import Features, Observation

_POSE = ("x", "y", "z", "r1", "r2", "r3", "r4", "r5", "r6")


def features(scene: Scene, cameras: Sequence[tuple[str, int, int]] = (), points: int = 0) -> Features:
    """Names of all elements of state, environment state and action, with the cameras and points that are wanted.

    Raises:
        UnknownName: the scene has no such camera.
    """
    spec, known = scene.spec, [scene.model.camera(i).name for i in range(scene.model.ncam)]
    for name, _, _ in cameras:
        if name not in known:
            raise UnknownName("camera", name, known)
    ee = tuple(f"ee.{part}" for part in _POSE) + ("gripper",)
    joints = tuple(f"{name}.pos" for name in scene.card.arm.joints) + ("gripper",)
    body = ee if spec.robot.control_mode == "ee_pose" else joints
    return Features(
        state=body,
        environment_state=tuple(
            f"{name}.{part}" for name, binding in scene.world.entities.items() for part in (*_POSE, *binding.joints)
        ),
        action=body,
        cameras=tuple(cameras),
        control_mode=spec.robot.control_mode,
        rate_hz=spec.robot.control_hz,
        robot=spec.robot.name,
        points=points,
    )


def observe(scene: Scene) -> Observation:
    """The state observation now; camera images are added by whoever owns a renderer."""
    return Observation(
        t_s=float(scene.data.time),
        state=proprioception(scene),
        environment_state=environment_state(scene),
        language=scene.spec.instruction.text,
    )


def proprioception(scene: Scene) -> np.ndarray:
    """Measured counterpart of an action: tool pose or joints, then the gripper opening."""
    if scene.spec.robot.control_mode == "ee_pose":
        pos, rot = scene.tcp()
        body = np.concatenate([pos, rot6d(rot)])
    else:
        body = scene.arm_q()
    return np.append(body, scene.gripper_opening()).astype(np.float32)


def environment_state(scene: Scene) -> np.ndarray:
    """Per entity: position [m, world], rot6d of its orientation modulo symmetry, the fraction of each joint."""
    world = scene.world
    out = np.empty(sum(9 + len(b.joints) for b in world.entities.values()), dtype=np.float32)
    at = 0
    for name, binding in world.entities.items():
        out[at : at + 3] = world.pos(name)
        out[at + 3 : at + 9] = rot6d(canonical_rotation(world.rot(name), binding.symmetry))
        at += 9
        for joint in binding.joints:
            out[at] = world.fraction(name, joint)
            at += 1
    return out
