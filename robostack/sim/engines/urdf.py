"""A compiled MuJoCo model as URDF files, one per kinematic tree: how another engine gets exactly the same bodies.

What carries over: the tree, joint axes, ranges and anchors, masses and inertias, collision shapes (primitives, and
meshes as the convex hulls that MuJoCo uses). Visual shapes stay behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import mujoco
import numpy as np

from robostack.errors import SceneError

_GEOM, _JOINT = mujoco.mjtGeom, mujoco.mjtJoint
_KINDS = {int(_JOINT.mjJNT_HINGE): "revolute", int(_JOINT.mjJNT_SLIDE): "prismatic"}


@dataclass(frozen=True)
class Tree:
    """A body that hangs on the world, with all that hangs on it.

    Attributes:
        root: MuJoCo body id.
        free: whether it floats; else it stands where the model or its mocap pose puts it.
        bodies: MuJoCo body ids in the order of the URDF's links.
        joints: name of the URDF's joint -> MuJoCo joint id, hinges and slides only.
        path: the URDF file.
    """

    root: int
    free: bool
    bodies: tuple[int, ...]
    joints: dict[str, int]
    path: Path


def export_trees(model: mujoco.MjModel, directory: Path) -> tuple[Tree, ...]:
    """Write one URDF per child of the world that has a collision shape somewhere below it."""
    roots = [b for b in range(1, model.nbody) if model.body_parentid[b] == 0]
    return tuple(tree for tree in (_export(model, root, directory) for root in roots) if _collides(model, tree.bodies))


def collision_geoms(model: mujoco.MjModel, body: int) -> list[int]:
    """Ids of the body's geoms that can touch something."""
    start, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
    return [g for g in range(start, start + count) if model.geom_contype[g] or model.geom_conaffinity[g]]


def _collides(model: mujoco.MjModel, bodies: tuple[int, ...]) -> bool:
    return any(collision_geoms(model, body) for body in bodies)


def _export(model: mujoco.MjModel, root: int, directory: Path) -> Tree:
    bodies = tuple(b for b in range(1, model.nbody) if model.body_rootid[b] == root)
    free = bool(model.body_jntnum[root]) and model.jnt_type[model.body_jntadr[root]] == _JOINT.mjJNT_FREE
    robot, joints = ET.Element("robot", name=f"tree{root}"), {}
    for body in bodies:
        _add_link(robot, model, body, directory)
    for body in bodies[1:]:
        joint = _joint_of(model, body)
        if joint is not None:
            joints[f"j{body}"] = joint
        _add_joint(robot, model, body, joint)
    path = directory / f"tree{root}.urdf"
    ET.indent(robot)  # PyBullet's reader fails on long lines
    ET.ElementTree(robot).write(path)
    return Tree(root, free, bodies, joints, path)


def _joint_of(model: mujoco.MjModel, body: int) -> int | None:
    if model.body_jntnum[body] == 0:
        return None
    joint = int(model.body_jntadr[body])
    if model.body_jntnum[body] > 1 or int(model.jnt_type[joint]) not in _KINDS:
        raise SceneError("COMPILE", f"body '{model.body(body).name}' has joints that URDF cannot express")
    return joint


def anchor(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Where the body's link frame lies in the body frame [m]: URDF puts it on the joint's axis."""
    joint = None if model.body_jntnum[body] == 0 else int(model.body_jntadr[body])
    free = joint is not None and model.jnt_type[joint] == _JOINT.mjJNT_FREE
    return np.zeros(3) if joint is None or free else model.jnt_pos[joint].copy()


def _add_link(robot: ET.Element, model: mujoco.MjModel, body: int, directory: Path) -> None:
    link, shift = ET.SubElement(robot, "link", name=f"b{body}"), anchor(model, body)
    inertial = ET.SubElement(link, "inertial")
    _origin(inertial, model.body_ipos[body] - shift, model.body_iquat[body])
    ET.SubElement(inertial, "mass", value=repr(float(model.body_mass[body])))
    ix, iy, iz = (repr(float(max(v, 1e-9))) for v in model.body_inertia[body])
    ET.SubElement(inertial, "inertia", ixx=ix, iyy=iy, izz=iz, ixy="0", ixz="0", iyz="0")
    for geom in collision_geoms(model, body):
        collision = ET.SubElement(link, "collision")
        _origin(collision, model.geom_pos[geom] - shift, model.geom_quat[geom])
        _shape(ET.SubElement(collision, "geometry"), model, geom, directory)


def _shape(geometry: ET.Element, model: mujoco.MjModel, geom: int, directory: Path) -> None:
    kind, (a, b, c) = model.geom_type[geom], model.geom_size[geom].tolist()
    if kind == _GEOM.mjGEOM_BOX:
        ET.SubElement(geometry, "box", size=f"{2 * a!r} {2 * b!r} {2 * c!r}")
    elif kind == _GEOM.mjGEOM_SPHERE:
        ET.SubElement(geometry, "sphere", radius=repr(a))
    elif kind == _GEOM.mjGEOM_CYLINDER:
        ET.SubElement(geometry, "cylinder", radius=repr(a), length=repr(2 * b))
    elif kind == _GEOM.mjGEOM_CAPSULE:
        ET.SubElement(geometry, "capsule", radius=repr(a), length=repr(2 * b))
    elif kind == _GEOM.mjGEOM_MESH:
        ET.SubElement(geometry, "mesh", filename=str(_write_mesh(model, int(model.geom_dataid[geom]), directory)))
    else:
        raise SceneError("COMPILE", f"geom {geom} of '{model.body(model.geom_bodyid[geom]).name}' has no URDF shape")


def _write_mesh(model: mujoco.MjModel, mesh: int, directory: Path) -> Path:
    path = directory / f"mesh{mesh}.obj"
    if not path.exists():
        v0, f0 = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        vertices = model.mesh_vert[v0 : v0 + model.mesh_vertnum[mesh]]
        faces = model.mesh_face[f0 : f0 + model.mesh_facenum[mesh]] + 1
        lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices.tolist()]
        lines += [f"f {i} {j} {k}" for i, j, k in faces.tolist()]
        path.write_text("\n".join(lines) + "\n")
    return path


def _add_joint(robot: ET.Element, model: mujoco.MjModel, body: int, joint: int | None) -> None:
    parent = int(model.body_parentid[body])
    kind = "fixed" if joint is None else _KINDS[int(model.jnt_type[joint])]
    element = ET.SubElement(robot, "joint", name=f"j{body}", type=kind)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.body_quat[body])
    place = model.body_pos[body] + rotation.reshape(3, 3) @ anchor(model, body) - anchor(model, parent)
    _origin(element, place, model.body_quat[body])
    ET.SubElement(element, "parent", link=f"b{parent}")
    ET.SubElement(element, "child", link=f"b{body}")
    if joint is not None:
        ET.SubElement(element, "axis", xyz=_text(model.jnt_axis[joint]))
        low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-1e3, 1e3)
        # MuJoCo's ranges count from qpos0, the position in which the tree is written down here.
        zero = model.qpos0[model.jnt_qposadr[joint]]
        limits = {"lower": repr(float(low - zero)), "upper": repr(float(high - zero))}
        ET.SubElement(element, "limit", {**limits, "effort": "1000", "velocity": "100"})


def _origin(element: ET.Element, pos: np.ndarray, quat: np.ndarray) -> None:
    ET.SubElement(element, "origin", xyz=_text(pos), rpy=_text(_rpy(quat)))


def _text(values: np.ndarray) -> str:
    return " ".join(repr(float(v)) for v in values)


def _rpy(quat: np.ndarray) -> np.ndarray:
    """Roll, pitch and yaw [rad] of a quaternion (w, x, y, z): rotations about the fixed axes x, y, z."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat)
    m = matrix.reshape(3, 3)
    pitch = np.arctan2(-m[2, 0], np.hypot(m[0, 0], m[1, 0]))
    if np.hypot(m[0, 0], m[1, 0]) < 1e-9:  # gimbal lock: all the rest is yaw
        return np.array([0.0, pitch, np.arctan2(-m[0, 1], m[1, 1])])
    return np.array([np.arctan2(m[2, 1], m[2, 2]), pitch, np.arctan2(m[1, 0], m[0, 0])])
