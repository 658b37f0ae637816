"""What surrounds the robot: table, light, sky and fixed cameras, scaled to its workspace."""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.cards import RobotCard
from robostack.sim.robot import OBJECT_BIT


def furnish(root: mujoco.MjSpec, card: RobotCard) -> None:
    """Table, lights, sky and cameras. The table top is a plane for contact: exact and cheap against every primitive."""
    world = root.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[2.0, 2.0, 0.05],
        friction=[0.8, 0.01, 0.0005],
        contype=OBJECT_BIT,
        conaffinity=3,
        rgba=[0, 0, 0, 0],
        group=4,
    )
    x0, y0, x1, y1 = card.workspace
    reach = max(x1, 0.45) * 1.25
    half = [0.5 * (reach + 0.25), max(0.6 * reach, 1.35 * y1 + 0.1), 0.02]
    root.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.93, 0.94, 0.96],
        rgb2=[0.70, 0.74, 0.80],
        width=64,
        height=64,
    )
    flags = {"contype": 0, "conaffinity": 0, "group": 1}
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.5 * (reach - 0.25), 0, -half[2] - 5e-4],
        size=half,
        rgba=[0.80, 0.72, 0.62, 1],
        **flags,
    )
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE, pos=[0, 0, -0.7], size=[4, 4, 0.1], rgba=[0.55, 0.57, 0.60, 1], **flags
    )
    for sx, sy in ((-0.2, 1), (-0.2, -1), (1, 1), (1, -1)):
        x = 0.5 * (reach - 0.25) + (1 if sx > 0 else -1) * (half[0] - 0.04)
        world.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, sy * (half[1] - 0.04), -0.37],
            size=[0.025, 0.025, 0.33],
            rgba=[0.40, 0.37, 0.34, 1],
            **flags,
        )
    world.add_light(
        pos=[0.2, 0.8, 2.0], dir=[0.15, -0.45, -1.0], diffuse=[0.55] * 3, specular=[0.15] * 3, castshadow=True
    )
    world.add_light(
        pos=[1.2, -1.2, 1.6], dir=[-0.6, 0.7, -1.0], diffuse=[0.30] * 3, specular=[0.05] * 3, castshadow=False
    )
    root.visual.headlight.ambient = [0.38, 0.38, 0.38]
    root.visual.headlight.diffuse = [0.22, 0.22, 0.22]
    root.visual.headlight.specular = [0.05, 0.05, 0.05]
    root.visual.global_.offwidth, root.visual.global_.offheight = 1280, 960
    root.stat.center = [0.5 * (x0 + x1), 0.0, 0.1]
    root.stat.extent = 1.5 * reach
    root.visual.map.znear = 0.01
    _add_cameras(world, card)


def _add_cameras(world, card: RobotCard) -> None:
    x0, y0, x1, y1 = card.workspace
    target = np.array([0.55 * x1, 0.0, 0.24 * x1 / 0.65])
    scale = x1 / 0.65
    views = {  # "side" sees the fronts of furniture, which face the robot
        "front": (1.08, 0.78, 0.62),
        "overhead": (0.02, 0.0, 1.15),
        "side": (-0.62, 0.98, 0.78),
    }
    for name, offset in views.items():
        z_axis = np.array(offset) / np.linalg.norm(offset)
        x_axis = np.cross([0, 0, 1.0], z_axis)
        x_axis = x_axis / np.linalg.norm(x_axis) if name != "overhead" else np.array([0.0, -1.0, 0.0])
        y_axis = np.cross(z_axis, x_axis)
        pos = target + scale * np.array(offset)
        world.add_camera(name=name, pos=pos, xyaxes=[*x_axis, *y_axis], fovy=42.0)
