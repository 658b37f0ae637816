"""Geoms from which shapes are put together: what touches (group 0) and what is only seen (group 1)."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from robostack.sim.objects.shape import Blank, JointShape
from robostack.sim.robot import OBJECT_BIT

CLEAR = (0.0, 0.0, 0.0, 0.0)
_BOX = mujoco.mjtGeom.mjGEOM_BOX


def solid(body, kind: mujoco.mjtGeom, size, friction, **extra):
    """A geom that touches."""
    return body.add_geom(
        type=kind,
        size=np.resize(np.asarray(size, float), 3),
        friction=friction,
        condim=4,
        contype=OBJECT_BIT,
        conaffinity=OBJECT_BIT,
        group=0,
        **extra,
    )


def seen(body, kind: mujoco.mjtGeom, size, rgba, **extra):
    """A geom for the eye only."""
    return body.add_geom(
        type=kind,
        size=np.resize(np.asarray(size, float), 3),
        rgba=rgba,
        contype=0,
        conaffinity=0,
        group=1,
        mass=0.0,
        **extra,
    )


def tint(rgba: Sequence[float], factor: float) -> tuple[float, float, float, float]:
    """A darker shade for a factor below 1, a lighter one above."""
    r, g, b = (c * factor if factor <= 1.0 else 1.0 - (1.0 - c) / factor for c in rgba[:3])
    return r, g, b, 1.0


def board(blank: Blank, body, half, pos, rgba, mass: float, quat=(1.0, 0.0, 0.0, 0.0)) -> None:
    """A box that touches, seen with chamfered edges."""
    solid(body, _BOX, half, blank.friction, pos=pos, quat=quat, rgba=CLEAR, mass=mass)
    show_board(blank, body, half, pos, rgba, quat)


def octagon(blank: Blank, body, radius: float, low: float, high: float, mass: float) -> None:
    """An upright eight-sided disc, invisible, of four boxes: they meet a gripper's pads in closed form."""
    half = (radius * np.cos(np.pi / 8), radius * np.sin(np.pi / 8), 0.5 * (high - low))
    for angle in (0.0, 0.25 * np.pi, 0.5 * np.pi, 0.75 * np.pi):
        quat = [np.cos(0.5 * angle), 0, 0, np.sin(0.5 * angle)]
        pos = [0, 0, 0.5 * (high + low)]
        solid(body, _BOX, half, blank.friction, pos=pos, quat=quat, rgba=CLEAR, mass=0.25 * mass)


def show_board(blank: Blank, body, half, pos, rgba, quat=(1.0, 0.0, 0.0, 0.0)) -> None:
    """A box with chamfered edges, for the eye only."""
    half = np.asarray(half, float)
    cut = min(0.25 * float(half.min()), 0.0025)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    inset = np.concatenate([corners * (half - cut * (1 - np.eye(3)[axis])) for axis in range(3)])
    show_hull(blank, body, inset, rgba, pos=pos, quat=quat)


def show_hull(blank: Blank, body, points: np.ndarray, rgba, pos=(0.0, 0.0, 0.0), quat=(1.0, 0.0, 0.0, 0.0)) -> None:
    """The convex hull of points (N, 3) [m], for the eye only."""
    name = f"{blank.body.name}.hull{len(blank.spec.meshes)}"
    blank.spec.add_mesh(name=name, uservert=points.ravel())
    seen(body, mujoco.mjtGeom.mjGEOM_MESH, (1, 1, 1), rgba, meshname=name, pos=pos, quat=quat)


def show_lathe(spec, body, profile: np.ndarray, rgba, segments: int = 40, name: str = "lathe") -> None:
    """Surface of revolution of (radius, z) points, for the eye only."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    verts = np.concatenate([np.c_[r * ring, np.full(segments, z)] for r, z in profile])
    faces = []
    for level in range(len(profile) - 1):
        for i in range(segments):
            a, b = level * segments + i, level * segments + (i + 1) % segments
            faces += [(a, b, b + segments), (a, b + segments, a + segments)]
    mesh = f"{body.name}_{name}"
    spec.add_mesh(
        name=mesh,
        uservert=verts.ravel(),
        userface=np.asarray(faces).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh, rgba=rgba, contype=0, conaffinity=0, group=1, mass=0.0
    )


def moving_part(blank: Blank, name: str):
    """A child body named after its joint; it does not touch the body that carries it, whose shape its joint keeps."""
    child = blank.body.add_body(name=f"{blank.body.name}.{name}")
    blank.spec.add_exclude(bodyname1=blank.body.name, bodyname2=child.name)
    return child


def joint_of(blank: Blank, part, name: str, axis, travel: float, *, hinge: bool, pos=(0.0, 0.0, 0.0)) -> JointShape:
    """The joint of a moving part: 0 is closed, ``travel`` [m or rad] is open; with a spring it closes by itself.

    With the size of an object, forces grow like weights, torques like weights times arms, inertias like masses times
    squared arms; damping and springs keep their ratios to these.
    """
    card, weight = blank.joints[name], blank.volume
    arm = weight ** (1 / 3)
    torque, inertia = (weight * arm, weight * arm * arm) if hinge else (weight, weight)
    kind = mujoco.mjtJoint.mjJNT_HINGE if hinge else mujoco.mjtJoint.mjJNT_SLIDE
    joint = part.add_joint(name=part.name, type=kind, axis=axis, pos=pos, range=[0.0, travel], limited=True)
    joint.solref_limit = [0.006, 1.0]  # a stiff stop: the spring must not push the part through it
    joint.frictionloss = card.friction * torque
    joint.solref_friction, joint.solimp_friction = [0.004, 1.0], [0.99, 0.999, 0.001, 0.5, 2.0]  # no creep
    joint.damping[0] = card.damping * inertia
    if card.spring:
        joint.stiffness[0] = card.spring * (torque if hinge else weight / arm)
        joint.springref = -0.5 * travel  # presses the part against its stop, against gravity
    return JointShape("hinge" if hinge else "slide", part.name, part.name, f"{part.name}.handle", 0.0, travel)


def handle_site(part, pos, *, out, along) -> None:
    """The site where a robot takes hold of a moving part: z ``out`` of the handle, y ``along`` its bar."""
    z, y = np.asarray(out, float), np.asarray(along, float)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([np.cross(y, z), y, z], axis=1).ravel())
    part.add_site(name=f"{part.name}.handle", pos=pos, quat=quat, size=[0.004] * 3, group=4)
