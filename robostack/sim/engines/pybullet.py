"""PyBullet under the same task: same bodies, same controller, same predicates, another solver.

``BulletScene`` is a ``Scene`` whose steps PyBullet computes. After each step its state is written into the MuJoCo data,
so that predicates, observations and pictures need no second implementation. A reset takes the start state that MuJoCo
settled, and lets PyBullet settle it again.

Where the engines speak different languages (Coumans, PyBullet quickstart guide):

* friction: MuJoCo takes the larger of two coefficients, Bullet their product; each side gets the square root of its
  own.
* servo: torque = kp * error - kd * velocity in MuJoCo; Bullet's motor is a velocity constraint that aims at
  gain * error / dt. With gain = dt * kp / kd both follow a target with the same lag kd / kp, under the same
  force limit.
* a mimicked gripper: MuJoCo couples the fingers by an equality; here each finger has a motor of its share of the
  force.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.errors import MissingExtra, SceneError
from robostack.sim.engines.urdf import Tree, collision_geoms, export_trees
from robostack.sim.scene import Scene
from robostack.task.evaluate import margin_at_start
from robostack.task.spec import TaskSpec

_SOLVER_ITERATIONS = 150
_SETTLE_S = 0.5
_MAX_SHIFT = 0.015


@dataclass(frozen=True)
class _Motor:
    """A servo of the robot: Bullet joint, its actuator in MuJoCo, qpos0, gain and force limit."""

    tree: int
    joint: int
    actuator: int
    zero: float
    gain: float
    force: float


@dataclass(frozen=True)
class _Passive:
    """A joint of an object: its dry friction and its spring."""

    tree: int
    joint: int
    friction: float
    stiffness: float
    spring_zero: float


class BulletScene(Scene):
    """A compiled task whose physics PyBullet computes. Not bit-compatible with MuJoCo, which is the point."""

    def __init__(self, spec: TaskSpec):
        super().__init__(spec)
        with _silenced():
            try:
                import pybullet
                from pybullet_utils.bullet_client import BulletClient
            except ModuleNotFoundError as error:
                raise MissingExtra("pybullet", "gen") from error
            self._b = BulletClient(connection_mode=pybullet.DIRECT)
        directory = tempfile.mkdtemp(prefix="robostack_")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self._trees = export_trees(self.model, Path(directory))
        self._build()

    def reset(self, seed: int) -> None:
        """The start state of ``seed`` as MuJoCo settled it, settled again by PyBullet.

        Raises:
            SceneError: the state is not at rest here: an object moves by more than 15 mm, or the goal comes true.
        """
        super().reset(seed)
        start = {name: self.world.pos(name).copy() for name in self.world.entities}
        self._b.resetSimulation()  # a restored state keeps contact caches: the next episode would depend on the last
        self._build()
        self._scale_physics()
        self._push()
        self.advance(self.data.ctrl.copy(), round(_SETTLE_S / self.model.opt.timestep))
        self.data.time = 0.0
        for name, pos in start.items():
            shift = float(np.linalg.norm(self.world.pos(name) - pos))
            if not shift < _MAX_SHIFT:
                raise SceneError("UNSTABLE", f"'{name}' moved {shift * 1e3:.0f} mm when PyBullet settled the scene")
        self.world.initial = self.snapshot()
        if margin_at_start(self.spec.goal, self.world) >= 0.0:
            raise SceneError("TRIVIAL", f"the goal of '{self.spec.name}' holds at reset in PyBullet")

    def step(self, ctrl: Float[np.ndarray, " Nu"]) -> None:
        """One control step: actuator targets move linearly from the last ones to ``ctrl``."""
        self.advance(ctrl, self.substeps)

    def set_state(self, state: Float[np.ndarray, " S"]) -> None:
        """Take over a MuJoCo state: positions, velocities and targets."""
        super().set_state(state)
        self._push()

    def advance(self, ctrl: Float[np.ndarray, " Nu"], substeps: int) -> None:
        """``substeps`` physics steps with targets that end at ``ctrl``; then the MuJoCo data shows the result."""
        start = self.data.ctrl.copy()
        for k in range(1, substeps + 1):
            self._drive(ctrl if k == substeps else start + (ctrl - start) * (k / substeps))
            self._b.stepSimulation()
        self.data.ctrl[:] = ctrl
        self._pull()
        self.data.time += substeps * self.model.opt.timestep
        mujoco.mj_forward(self.model, self.data)

    # Building.

    def _build(self) -> None:
        b, option = self._b, self.model.opt
        b.setPhysicsEngineParameter(
            fixedTimeStep=option.timestep, numSolverIterations=_SOLVER_ITERATIONS, deterministicOverlappingPairs=1
        )
        b.setGravity(*option.gravity.tolist())
        self._plane = b.createMultiBody(0, b.createCollisionShape(b.GEOM_PLANE))
        table = min(self.world.table_geoms)
        b.changeDynamics(self._plane, -1, lateralFriction=math.sqrt(self.model.geom_friction[table, 0]))
        flags = b.URDF_USE_INERTIA_FROM_FILE
        self._ids = [b.loadURDF(str(t.path), useFixedBase=not t.free, flags=flags) for t in self._trees]
        self._links = [self._link_indices(tree, body) for tree, body in zip(self._trees, self._ids, strict=True)]
        self._inertial = [b.getDynamicsInfo(body, -1)[3:5] for body in self._ids]
        for index in range(len(self._trees)):
            self._set_dynamics(index)
            self._set_filters(index)
        self._motors = self._find_motors()
        self._passive = self._find_passive()
        for p in self._passive:
            b.setJointMotorControl2(self._ids[p.tree], p.joint, b.VELOCITY_CONTROL, force=p.friction)

    def _link_indices(self, tree: Tree, body: int) -> dict[int, int]:
        """MuJoCo body id -> PyBullet's link index; the root is -1."""
        names = [self._b.getJointInfo(body, i)[1].decode() for i in range(self._b.getNumJoints(body))]
        return {tree.root: -1, **{int(name[1:]): i for i, name in enumerate(names)}}

    def _set_dynamics(self, index: int) -> None:
        tree, body, links = self._trees[index], self._ids[index], self._links[index]
        for mj_body in tree.bodies:
            geoms = collision_geoms(self.model, mj_body)
            slide, torsion, roll = self.model.geom_friction[geoms].max(0).tolist() if geoms else (0.5, 0.0, 0.0)
            rolls = any(self.model.geom_condim[g] == 6 for g in geoms)
            joint = int(self.model.body_jntadr[mj_body]) if self.model.body_jntnum[mj_body] else None
            dof = None if joint is None or mj_body == tree.root else int(self.model.jnt_dofadr[joint])
            self._b.changeDynamics(
                body,
                links[mj_body],
                lateralFriction=math.sqrt(slide),
                spinningFriction=torsion,
                rollingFriction=roll if rolls else 0.0,
                linearDamping=0.0,
                angularDamping=0.0,
                jointDamping=0.0 if dof is None else float(self.model.dof_damping[dof]),
                restitution=0.0,
            )

    def _set_filters(self, index: int) -> None:
        """Bodies that MuJoCo keeps apart by their bits never touch here either."""
        tree, model = self._trees[index], self.model
        for mj_body in tree.bodies:
            geoms = collision_geoms(model, mj_body)
            group = int(np.bitwise_or.reduce(model.geom_contype[geoms])) if geoms else 0
            mask = int(np.bitwise_or.reduce(model.geom_conaffinity[geoms])) if geoms else 0
            for other in range(index):
                for theirs in self._trees[other].bodies:
                    their = collision_geoms(model, theirs)
                    g = int(np.bitwise_or.reduce(model.geom_contype[their])) if their else 0
                    m = int(np.bitwise_or.reduce(model.geom_conaffinity[their])) if their else 0
                    self._b.setCollisionFilterPair(
                        self._ids[index],
                        self._ids[other],
                        self._links[index][mj_body],
                        self._links[other][theirs],
                        int(bool(group & m) or bool(g & mask)),
                    )

    def _find_motors(self) -> tuple[_Motor, ...]:
        gripper = [self.model.joint(f"robot/{name}").id for name in self.card.gripper.joints]
        actuator = {int(self.model.actuator_trnid[a, 0]): a for a in range(self.model.nu)}
        actuator.update(dict.fromkeys(gripper, self.arm.gripper_actuator))  # mimics follow the driven finger
        motors = []
        for index, bullet, joint in self._joints():
            if joint not in actuator:
                continue
            a = actuator[joint]
            kp, kd = float(self.model.actuator_gainprm[a, 0]), -float(self.model.actuator_biasprm[a, 2])
            share = len(gripper) if joint in gripper else 1
            zero = float(self.model.qpos0[self.model.jnt_qposadr[joint]])
            force = float(self.model.actuator_forcerange[a, 1]) / share
            motors.append(_Motor(index, bullet, a, zero, self.model.opt.timestep * kp / kd, force))
        return tuple(motors)

    def _find_passive(self) -> tuple[_Passive, ...]:
        driven = {(m.tree, m.joint) for m in self._motors}
        found = []
        for index, bullet, joint in self._joints():
            if (index, bullet) in driven:
                continue
            adr, dof = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
            zero = float(self.model.qpos_spring[adr] - self.model.qpos0[adr])
            friction, stiffness = float(self.model.dof_frictionloss[dof]), float(self.model.jnt_stiffness[joint])
            found.append(_Passive(index, bullet, friction, stiffness, zero))
        return tuple(found)

    def _joints(self) -> list[tuple[int, int, int]]:
        """(tree, PyBullet joint, MuJoCo joint) of all hinges and slides."""
        return [
            (index, self._links[index][int(name[1:])], joint)
            for index, tree in enumerate(self._trees)
            for name, joint in tree.joints.items()
        ]

    def _scale_physics(self) -> None:
        """Masses and friction as this reset's randomisation has them."""
        for tree, body, links in zip(self._trees, self._ids, self._links, strict=True):
            for mj_body in tree.bodies:
                geoms = collision_geoms(self.model, mj_body)
                if geoms:
                    slide = float(self.model.geom_friction[geoms, 0].max())
                    self._b.changeDynamics(body, links[mj_body], lateralFriction=math.sqrt(slide))
            if tree.free:
                self._b.changeDynamics(
                    body,
                    -1,
                    mass=float(self.model.body_mass[tree.root]),
                    localInertiaDiagonal=self.model.body_inertia[tree.root].tolist(),
                )

    # Exchange of state.

    def _drive(self, ctrl: np.ndarray) -> None:
        b = self._b
        for m in self._motors:
            b.setJointMotorControl2(
                self._ids[m.tree],
                m.joint,
                b.POSITION_CONTROL,
                targetPosition=float(ctrl[m.actuator]) - m.zero,
                positionGain=m.gain,
                velocityGain=1.0,
                force=m.force,
            )
        for p in self._passive:
            if p.stiffness:
                q = b.getJointState(self._ids[p.tree], p.joint)[0]
                torque = p.stiffness * (p.spring_zero - q)
                b.setJointMotorControl2(self._ids[p.tree], p.joint, b.TORQUE_CONTROL, force=torque)

    def _push(self) -> None:
        """MuJoCo's positions and velocities into PyBullet."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        for index, tree in enumerate(self._trees):
            self._push_base(index, tree)
        for index, bullet, joint in self._joints():
            adr, dof = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
            q = float(self.data.qpos[adr] - self.model.qpos0[adr])
            self._b.resetJointState(self._ids[index], bullet, q, float(self.data.qvel[dof]))

    def _push_base(self, index: int, tree: Tree) -> None:
        """PyBullet places the base by its centre of mass."""
        pos, quat = self.data.xpos[tree.root].tolist(), _xyzw(self.data.xquat[tree.root])
        place = self._b.multiplyTransforms(pos, quat, *self._inertial[index])
        self._b.resetBasePositionAndOrientation(self._ids[index], *place)
        if tree.free:
            dof = int(self.model.body_dofadr[tree.root])
            rotation = self.data.xmat[tree.root].reshape(3, 3)
            spin = rotation @ self.data.qvel[dof + 3 : dof + 6]
            linear = self.data.qvel[dof : dof + 3] + np.cross(
                spin, self.data.xipos[tree.root] - self.data.xpos[tree.root]
            )
            self._b.resetBaseVelocity(self._ids[index], linear.tolist(), spin.tolist())

    def _pull(self) -> None:
        """PyBullet's positions and velocities into MuJoCo."""
        for index, tree in enumerate(self._trees):
            if tree.free:
                self._read_base(index, tree)
        for index, bullet, joint in self._joints():
            q, velocity, *_ = self._b.getJointState(self._ids[index], bullet)
            adr = int(self.model.jnt_qposadr[joint])
            self.data.qpos[adr] = q + self.model.qpos0[adr]
            self.data.qvel[int(self.model.jnt_dofadr[joint])] = velocity

    def _read_base(self, index: int, tree: Tree) -> None:
        b, joint = self._b, int(self.model.body_jntadr[tree.root])
        com, com_quat = b.getBasePositionAndOrientation(self._ids[index])
        pos, (x, y, z, w) = b.multiplyTransforms(com, com_quat, *b.invertTransform(*self._inertial[index]))
        linear, spin = (np.asarray(v) for v in b.getBaseVelocity(self._ids[index]))
        adr, dof = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, np.array([w, x, y, z]))
        self.data.qpos[adr : adr + 7] = [*pos, w, x, y, z]
        self.data.qvel[dof : dof + 3] = linear - np.cross(spin, np.asarray(com) - np.asarray(pos))
        self.data.qvel[dof + 3 : dof + 6] = rotation.reshape(3, 3).T @ spin


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what PyBullet's library says when it is loaded and connected off standard output, which is for results."""
    libc, kept = ctypes.CDLL(None), os.dup(1)
    libc.fflush(None)
    with open(os.devnull, "w", encoding="ascii") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _xyzw(quat: np.ndarray) -> list[float]:
    w, x, y, z = quat.tolist()
    return [x, y, z, w]
