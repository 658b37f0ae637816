"""TaskSpec -> MjModel and reset state. ``Scene(spec)`` compiles once; ``Scene.reset(seed)`` is pure in (spec, seed)."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.errors import SceneError, SpecError
from robostack.sim.cards import RobotCard, load_asset, load_robot
from robostack.sim.furniture import furnish
from robostack.sim.ik import IKSolver
from robostack.sim.objects import JointShape, Shape, build_object
from robostack.sim.placement import PlanarPose, sample_placements
from robostack.sim.robot import TCP_SITE, build_robot
from robostack.task.evaluate import check_bindings, margin
from robostack.task.geometry import bottom
from robostack.task.spec import Entity, TaskSpec
from robostack.task.world import EntityBinding, JointBinding, RobotBinding, Snapshot, World

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_ATTEMPTS = 20
_SETTLE_MAX_S, _SETTLE_WINDOW_S = 1.5, 0.1
_MAX_SHIFT, _MAX_TILT = 0.015, np.deg2rad(10)
_MAX_PENETRATION = 1e-3
_PREFIX = "robot/"


@dataclass(frozen=True)
class ArmIndex:
    """Addresses of the robot in the scene's model."""

    qpos: np.ndarray
    actuators: np.ndarray
    gripper_qpos: int
    gripper_actuator: int


class Scene:
    """A compiled task: the model, its live data, and what predicates need to know of it."""

    def __init__(self, spec: TaskSpec):
        self.spec = spec
        self.card: RobotCard = load_robot(spec.robot.name)
        self.substeps = _substeps(spec)
        mj_spec, shapes = _assemble(spec, self.card)
        try:
            self.model = mj_spec.compile()
        except ValueError as error:
            raise SceneError(
                "COMPILE", f"task '{spec.name}' does not compile: {' '.join(str(error).split())}"
            ) from error
        self.shapes: dict[str, Shape] = shapes
        self.data = mujoco.MjData(self.model)
        self.world = _bind(spec, self.model, self.data, shapes)
        self.arm = _arm_index(self.model, self.card)
        self.ik = IKSolver(self.card)
        self._nominal = (self.model.body_mass.copy(), self.model.body_inertia.copy(), self.model.geom_friction.copy())
        mujoco.mj_forward(self.model, self.data)
        self.world.initial = self.snapshot()
        check_bindings(spec, self.world)

    def reset(self, seed: int) -> None:
        """Put the data into the settled start state of ``seed``; the same bits whatever happened before.

        Raises:
            SceneError: no valid start state was found in 20 attempts; the code tells why the last one failed.
        """
        failure = SceneError("PLACEMENT_INFEASIBLE", "no attempt was made")
        for attempt in range(_ATTEMPTS):
            rng = np.random.Generator(np.random.Philox(key=[seed, attempt]))
            try:
                self._try_reset(rng)
                return
            except SceneError as error:
                failure = error
                if error.code == "PLACEMENT_INFEASIBLE":
                    break
        raise failure

    def _try_reset(self, rng: np.random.Generator) -> None:
        poses = sample_placements(self.spec, self.shapes, rng)
        self._randomise_physics(rng)
        mujoco.mj_resetData(self.model, self.data)
        self._home()
        self._set_joints(rng)
        for entity_id, pose in poses.items():
            self._place(entity_id, pose)
        mujoco.mj_forward(self.model, self.data)
        self._check_contacts()
        before = self.snapshot()
        self._settle()
        self.world.initial = self.snapshot()
        self._check_drift(before, self.world.initial)
        self._check_reach()
        if margin(self.spec.goal, self.world) >= 0:
            raise SceneError("TRIVIAL", f"the goal of '{self.spec.name}' already holds at reset")
        self.data.time = 0.0

    def step(self, ctrl: Float[np.ndarray, " Nu"]) -> None:
        """One control step: actuator targets move linearly from the last ones to ``ctrl``."""
        data, n = self.data, self.substeps
        start = data.ctrl.copy()
        ramp = start + np.arange(1, n + 1)[:, None] * ((ctrl - start) / n)
        ramp[-1] = ctrl
        for row in ramp:
            data.ctrl[:] = row
            mujoco.mj_step(self.model, data)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)

    def get_state(self) -> Float[np.ndarray, " S"]:
        """MuJoCo's integration state: everything that determines the future."""
        state = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, state, STATE)
        return state

    def set_state(self, state: Float[np.ndarray, " S"]) -> None:
        """Inverse of ``get_state``; also refreshes derived poses."""
        mujoco.mj_setState(self.model, self.data, state, STATE)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def snapshot(self) -> Snapshot:
        """Poses of all entities now."""
        names = list(self.world.entities)
        return Snapshot(
            pos={n: self.world.pos(n).copy() for n in names},
            rot={n: self.world.rot(n).copy() for n in names},
            bottom={n: bottom(self.world, n) for n in names},
            joints={(n, j): self.world.fraction(n, j) for n in names for j in self.world.entities[n].joints},
            qpos=self.data.qpos.copy(),
        )

    def tcp(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
        """Measured tool position [m] and rotation, world frame; copies."""
        site = self.world.robot.ee_site
        return self.data.site_xpos[site].copy(), self.data.site_xmat[site].reshape(3, 3).copy()

    def arm_q(self) -> Float[np.ndarray, " Nj"]:
        """Measured arm joint positions [rad]."""
        return self.data.qpos[self.arm.qpos]

    def gripper_opening(self) -> float:
        """Measured opening: 0 closed, 1 open."""
        g = self.card.gripper
        return float((self.data.qpos[self.arm.gripper_qpos] - g.closed) / (g.open - g.closed))

    def _home(self) -> None:
        home, gripper = np.asarray(self.card.arm.home), self.card.gripper
        self.data.qpos[self.arm.qpos] = home
        self.data.ctrl[self.arm.actuators] = home
        for name in gripper.joints:
            self.data.joint(_PREFIX + name).qpos[0] = gripper.open
        self.data.ctrl[self.arm.gripper_actuator] = gripper.open

    def _place(self, entity_id: str, pose: PlanarPose) -> None:
        quat = np.array([np.cos(0.5 * pose.yaw), 0.0, 0.0, np.sin(0.5 * pose.yaw)])
        z = self.shapes[entity_id].rest_z
        binding = self.world.entities[entity_id]
        if binding.dof >= 0:
            self.data.joint(f"{entity_id}_free").qpos[:] = [pose.x, pose.y, z + 3e-4, *quat]
        else:
            mocap = self.model.body_mocapid[binding.body]
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = [pose.x, pose.y, z], quat

    def _set_joints(self, rng: np.random.Generator) -> None:
        for entity in self.spec.entities:
            for name, joint in self.world.entities[entity.id].joints.items():
                low, high = entity.joints.get(name, (0.0, 0.0))
                fraction = rng.uniform(low, high) if high > low else low
                self.data.qpos[joint.qpos] = joint.closed + fraction * (joint.open - joint.closed)

    def _randomise_physics(self, rng: np.random.Generator) -> None:
        physics, (mass, inertia, friction) = self.spec.physics, self._nominal
        self.model.body_mass[:], self.model.body_inertia[:], self.model.geom_friction[:] = mass, inertia, friction
        if not (physics.mass_jitter or physics.friction_jitter):
            return
        for binding in self.world.entities.values():
            scale = 1 + physics.mass_jitter * rng.uniform(-1, 1)
            self.model.body_mass[binding.body] *= scale
            self.model.body_inertia[binding.body] *= scale
            self.model.geom_friction[list(binding.geoms), 0] *= 1 + physics.friction_jitter * rng.uniform(-1, 1)
        mujoco.mj_setConst(self.model, self.data)

    def _check_contacts(self) -> None:
        if self.data.ncon and float(self.data.contact.dist.min()) < -_MAX_PENETRATION:
            pair = self.data.contact.geom[int(np.argmin(self.data.contact.dist))]
            bodies = " and ".join(self.model.body(self.model.geom_bodyid[g]).name for g in pair)
            depth = -1e3 * float(self.data.contact.dist.min())
            raise SceneError("PENETRATION", f"{bodies} overlap by {depth:.1f} mm at reset")

    def _settle(self) -> None:
        spans = [(b.dof, b.dof + 6) for b in self.world.entities.values() if b.dof >= 0]
        spans += [(j.dof, j.dof + 1) for b in self.world.entities.values() for j in b.joints.values()]
        quiet, steps = 0, int(_SETTLE_MAX_S / self.model.opt.timestep)
        window = int(_SETTLE_WINDOW_S / self.model.opt.timestep)
        for _ in range(steps):
            mujoco.mj_step(self.model, self.data)
            calm = all(np.abs(self.data.qvel[a:b]).max() < 5e-3 for a, b in spans)
            quiet = quiet + 1 if calm else 0
            if quiet >= window:
                break
        else:
            raise SceneError("UNSTABLE", f"objects of '{self.spec.name}' still move after {_SETTLE_MAX_S} s")
        if any(w.number for w in self.data.warning):
            raise SceneError("UNSTABLE", f"MuJoCo warned while '{self.spec.name}' settled")
        mujoco.mj_forward(self.model, self.data)

    def _check_drift(self, before: Snapshot, after: Snapshot) -> None:
        for name in before.pos:
            shift = float(np.linalg.norm(after.pos[name] - before.pos[name]))
            tilt = float(np.arccos(np.clip(after.rot[name][2, 2] / max(1e-9, before.rot[name][2, 2]), -1, 1)))
            if shift > _MAX_SHIFT or tilt > _MAX_TILT:
                raise SceneError(
                    "UNSTABLE", f"'{name}' moved {shift * 1e3:.0f} mm and tilted {np.rad2deg(tilt):.0f} deg on settling"
                )

    def _check_reach(self) -> None:
        down = np.diag([1.0, -1.0, -1.0])
        for entity in self.spec.entities:
            if entity.role == "distractor":
                continue
            handles = [j.handle for j in self.world.entities[entity.id].joints.values()]
            target = self.data.site_xpos[handles[0]] if handles else self.world.pos(entity.id)
            goal = target + np.array([0.0, 0.0, 0.05])
            result = self.ik.solve(goal, down, self.ik.home, tolerance=1e-3)
            tilt = self.ik.forward(result.q)[1][2, 2]
            if result.position_error > 5e-3 or tilt > -0.95:
                raise SceneError("UNREACHABLE", f"{self.card.name} cannot reach '{entity.id}' from above")


def state_sha(state: Float[np.ndarray, " S"]) -> str:
    """SHA-256 of the bits of a state."""
    return hashlib.sha256(np.ascontiguousarray(state).tobytes()).hexdigest()


def versions() -> dict[str, str]:
    """What a bit-exact replay depends on."""
    return {"mujoco": mujoco.__version__, "platform": f"{platform.system()}-{platform.machine()}".lower()}


def train_seed(index: int) -> int:
    """The index-th seed of the training namespace: even numbers."""
    return 2 * index


def eval_seed(index: int) -> int:
    """The index-th seed of the evaluation namespace: odd numbers, so that no training seed is among them."""
    return 2 * index + 1


def _substeps(spec: TaskSpec) -> int:
    ratio = 1.0 / (spec.robot.control_hz * spec.physics.timestep)
    if abs(ratio - round(ratio)) > 1e-6 or ratio < 1:
        raise SpecError(
            f"control period {1 / spec.robot.control_hz:g} s is not a multiple of the physics step"
            f" {spec.physics.timestep:g} s; change robot.control_hz or physics.timestep"
        )
    return round(ratio)


def _assemble(spec: TaskSpec, card: RobotCard) -> tuple[mujoco.MjSpec, dict[str, Shape]]:
    root = mujoco.MjSpec()
    root.modelname = spec.name
    root.option.timestep = spec.physics.timestep
    root.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    root.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    root.option.impratio = 10.0
    root.compiler.degree = False
    furnish(root, card)
    frame = root.worldbody.add_frame(pos=[0.0, 0.0, card.base_height])
    root.attach(build_robot(card), prefix=_PREFIX, frame=frame)
    shapes = {}
    for entity in spec.entities:
        asset = load_asset(entity.card)
        fixed = asset.fixed
        body = root.worldbody.add_body(name=entity.id, mocap=fixed)
        if not fixed:
            body.add_freejoint(name=f"{entity.id}_free")
        shapes[entity.id] = build_object(
            root, body, asset, entity.size, entity.color, mass=entity.mass, friction=entity.friction
        )
    return root, shapes


def _bind(spec: TaskSpec, model: mujoco.MjModel, data: mujoco.MjData, shapes: dict[str, Shape]) -> World:
    entities = {e.id: _bind_entity(e, model, shapes[e.id]) for e in spec.entities}
    robot_bodies = [b for b in range(model.nbody) if model.body(b).name.startswith(_PREFIX)]
    robot_geoms = [g for b in robot_bodies for g in _geoms_of(model, b) if model.geom_contype[g]]
    pads = tuple(tuple(g for g in robot_geoms if f"pad_{side}_" in model.geom(g).name) for side in ("left", "right"))
    robot = RobotBinding(frozenset(robot_geoms), (pads[0], pads[1]), model.site(_PREFIX + TCP_SITE).id)
    return World(model, data, entities, robot, table_geoms=frozenset({model.geom("table").id}))


def _bind_entity(entity: Entity, model: mujoco.MjModel, shape: Shape) -> EntityBinding:
    body = model.body(entity.id).id
    bodies = np.flatnonzero(model.body_rootid == body)  # with its moving parts
    geoms = [g for b in bodies for g in _geoms_of(model, int(b)) if model.geom_contype[g]]
    free = model.body_jntnum[body] > 0
    return EntityBinding(
        id=entity.id,
        card=entity.card,
        color=entity.color,
        role=entity.role,
        body=body,
        geoms=tuple(geoms),
        dof=int(model.body_dofadr[body]) if free else -1,
        symmetry=load_asset(entity.card).symmetry,
        half=shape.half,
        surface=shape.surface,
        interior=shape.interior,
        surface_body=model.body(shape.surface_body).id if shape.surface_body else -1,
        interior_body=model.body(shape.interior_body).id if shape.interior_body else -1,
        joints={name: _bind_joint(name, joint, model) for name, joint in shape.joints.items()},
        grip=shape.grip,
    )


def _bind_joint(name: str, shape: JointShape, model: mujoco.MjModel) -> JointBinding:
    joint = model.joint(shape.joint)
    return JointBinding(
        name=name,
        kind=shape.kind,
        qpos=int(joint.qposadr[0]),
        dof=int(joint.dofadr[0]),
        closed=shape.closed,
        open=shape.open,
        body=model.body(shape.body).id,
        handle=model.site(shape.handle).id,
    )


def _geoms_of(model: mujoco.MjModel, body: int) -> list[int]:
    start = int(model.body_geomadr[body])
    return list(range(start, start + int(model.body_geomnum[body]))) if start >= 0 else []


def _arm_index(model: mujoco.MjModel, card: RobotCard) -> ArmIndex:
    driven = _PREFIX + card.gripper.joints[0]
    return ArmIndex(
        qpos=np.array([model.joint(_PREFIX + name).qposadr[0] for name in card.arm.joints]),
        actuators=np.array([model.actuator(_PREFIX + name).id for name in card.arm.joints]),
        gripper_qpos=int(model.joint(driven).qposadr[0]),
        gripper_actuator=int(model.actuator(driven).id),
    )
