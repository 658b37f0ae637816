"""TaskSpec -> MjModel and reset state. ``Scene(spec)`` compiles once; ``Scene.reset(seed)`` is pure in (spec, seed)."""

from __future__ import annotations

import hashlib
import platform

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.errors import SceneError, SpecError
from robostack.sim.binding import ROBOT_PREFIX, arm_index, assemble, bind
from robostack.sim.cards import RobotCard, load_robot
from robostack.sim.ik import IKSolver
from robostack.sim.objects import Shape
from robostack.sim.placement import PlanarPose, Stand, sample_placements
from robostack.task.evaluate import check_bindings, init_violation, margin_at_start, text
from robostack.task.geometry import bottom
from robostack.task.spec import Entity, TaskSpec
from robostack.task.world import EntityBinding, JointBinding, Snapshot

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_ATTEMPTS = 20
_SETTLE_MAX_S, _SETTLE_WINDOW_S, _FLICKER_WINDOW_S = 1.5, 0.1, 0.25
_MAX_SHIFT, _MAX_TILT = 0.015, np.deg2rad(10)
_MAX_TURN = 0.05  # of a joint's range
_CALM = 5e-3  # greatest component of a velocity that counts as rest [m/s, rad/s]
_FLICKER = 0.05  # the same for a turning one that does not calm down [rad/s]
_MAX_PENETRATION = 1e-3
_JITTERED = ("body_mass", "body_inertia", "geom_friction", "dof_frictionloss")


class Scene:
    """A compiled task: the model, its live data, and what predicates need to know of it."""

    def __init__(self, spec: TaskSpec):
        self.spec = spec
        self.card: RobotCard = load_robot(spec.robot.name)
        self.substeps = _substeps(spec)
        try:
            mj_spec, shapes = assemble(spec, self.card)
            self.model = mj_spec.compile()
        except ValueError as error:
            raise SceneError(
                "COMPILE", f"task '{spec.name}' does not compile: {' '.join(str(error).split())}"
            ) from error
        self.shapes: dict[str, Shape] = shapes
        self.data = mujoco.MjData(self.model)
        self.world = bind(spec, self.model, self.data, shapes)
        self.arm = arm_index(self.model, self.card)
        self.ik = IKSolver(self.card)
        self._nominal = {name: getattr(self.model, name).copy() for name in _JITTERED}
        self._scratch = mujoco.MjData(self.model)
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
        mujoco.mj_resetData(self.model, self.data)
        self._set_joints(rng)
        poses = sample_placements(self.spec, self.shapes, rng, self._stands())
        self._randomise_physics(rng)
        self._home()
        for entity_id, pose in poses.items():
            self._place(entity_id, pose)
        mujoco.mj_forward(self.model, self.data)
        self._check_contacts()
        before = self.snapshot()
        self._settle()
        self.world.initial = self.snapshot()
        self._check_drift(before, self.world.initial)
        self._check_reach()
        self._check_predicates()
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
            self.data.joint(ROBOT_PREFIX + name).qpos[0] = gripper.open
        self.data.ctrl[self.arm.gripper_actuator] = gripper.open

    def _set_joints(self, rng: np.random.Generator) -> None:
        """Draw the fractions at which articulated entities start; what starts inside them moves along."""
        for entity in self.spec.entities:
            for name, joint in self.world.entities[entity.id].joints.items():
                low, high = entity.joints.get(name, (0.0, 0.0))
                fraction = rng.uniform(low, high) if high > low else low
                self.data.qpos[joint.qpos] = joint.closed + fraction * (joint.open - joint.closed)

    def _stands(self) -> dict[tuple[str, bool], Stand]:
        """The places that entities offer to others, while all bodies lie at the origin with their joints set."""
        wanted = {(e.placement.on, e.placement.inside) for e in self.spec.entities if e.placement.on != "table"}
        if wanted:
            mujoco.mj_kinematics(self.model, self.data)
        return {(name, inside): self._stand(self.world.entities[name], inside) for name, inside in wanted}

    def _stand(self, binding: EntityBinding, inside: bool) -> Stand:
        face = binding.interior if inside else binding.surface
        carrier = binding.interior_body if inside else binding.surface_body
        assert face is not None, "start places are checked when the scene is assembled"
        moved = self.data.xpos[carrier] - self.data.xpos[binding.body] if carrier >= 0 else np.zeros(3)
        x, y, z = (moved + face.center).tolist()
        if binding.interior is not None and inside:
            z -= binding.interior.half[2]
        return Stand((x, y, z), face.half[:2], face.round, walled=inside)

    def _place(self, entity_id: str, pose: PlanarPose) -> None:
        quat = np.array([np.cos(0.5 * pose.yaw), 0.0, 0.0, np.sin(0.5 * pose.yaw)])
        z = pose.z + self.shapes[entity_id].rest_z
        binding = self.world.entities[entity_id]
        if binding.dof >= 0:
            self.data.joint(f"{entity_id}_free").qpos[:] = [pose.x, pose.y, z + 3e-4, *quat]
        else:
            mocap = self.model.body_mocapid[binding.body]
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = [pose.x, pose.y, z], quat

    def _randomise_physics(self, rng: np.random.Generator) -> None:
        physics, model = self.spec.physics, self.model
        for name, values in self._nominal.items():
            getattr(model, name)[:] = values
        if not (physics.mass_jitter or physics.friction_jitter):
            return
        for binding in self.world.entities.values():
            scale = 1 + physics.mass_jitter * rng.uniform(-1, 1)
            bodies = model.body_rootid == binding.body
            model.body_mass[bodies] *= scale
            model.body_inertia[bodies] *= scale
            scale = 1 + physics.friction_jitter * rng.uniform(-1, 1)
            model.geom_friction[list(binding.geoms), 0] *= scale
            model.dof_frictionloss[[joint.dof for joint in binding.joints.values()]] *= scale
        mujoco.mj_setConst(model, self.data)

    def _check_contacts(self) -> None:
        if self.data.ncon and float(self.data.contact.dist.min()) < -_MAX_PENETRATION:
            pair = self.data.contact.geom[int(np.argmin(self.data.contact.dist))]
            bodies = " and ".join(self.model.body(self.model.geom_bodyid[g]).name for g in pair)
            depth = -1e3 * float(self.data.contact.dist.min())
            raise SceneError("PENETRATION", f"{bodies} overlap by {depth:.1f} mm at reset")

    def _settle(self) -> None:
        """Wait for rest. What keeps flickering, as a round foot on a box does, passes at the end if it is slow."""
        moving = {name: _dofs(binding) for name, binding in self.world.entities.items()}
        dofs = np.concatenate([np.empty(0, int), *moving.values()])
        peak, quiet = np.zeros(self.model.nv), 0
        window, loose = (int(seconds / self.model.opt.timestep) for seconds in (_SETTLE_WINDOW_S, _FLICKER_WINDOW_S))
        steps = int(_SETTLE_MAX_S / self.model.opt.timestep)
        for step in range(steps):
            mujoco.mj_step(self.model, self.data)
            quiet = quiet + 1 if np.abs(self.data.qvel[dofs]).max(initial=0.0) < _CALM else 0
            if quiet >= window:
                break
            if step >= steps - loose:
                np.maximum(peak, np.abs(self.data.qvel), out=peak)
        else:
            restless = [name for name, own in moving.items() if _restless(self.world.entities[name], peak[own])]
            if restless:
                who = ", ".join(f"'{name}'" for name in restless)
                raise SceneError("UNSTABLE", f"{who} of '{self.spec.name}' still moves after {_SETTLE_MAX_S} s")
        if any(w.number for w in self.data.warning):
            raise SceneError("UNSTABLE", f"MuJoCo warned while '{self.spec.name}' settled")
        mujoco.mj_forward(self.model, self.data)

    def _check_drift(self, before: Snapshot, after: Snapshot) -> None:
        for name in before.pos:
            shift = float(np.linalg.norm(after.pos[name] - before.pos[name]))
            tilt = float(np.arccos(np.clip(after.rot[name][2, 2] / max(1e-9, before.rot[name][2, 2]), -1, 1)))
            if shift > _MAX_SHIFT or tilt > _MAX_TILT:
                on = self.spec.entity(name).placement.on
                raise SceneError(
                    "UNSTABLE",
                    f"'{name}' moved {shift * 1e3:.0f} mm and tilted {np.rad2deg(tilt):.0f} deg on settling on '{on}'",
                )
        for (name, joint), fraction in after.joints.items():
            if abs(fraction - before.joints[name, joint]) > _MAX_TURN:
                raise SceneError(
                    "UNSTABLE",
                    f"joint '{joint}' of '{name}' went from {before.joints[name, joint]:.2f} to {fraction:.2f} of its"
                    " range on settling",
                )

    def _check_reach(self) -> None:
        down = np.diag([1.0, -1.0, -1.0])
        for entity in self.spec.entities:
            if entity.role == "distractor":
                continue
            for what, goal in self._reached(entity):
                result = self.ik.solve(goal, down, self.ik.home, tolerance=1e-3)
                tilt = self.ik.forward(result.q)[1][2, 2]
                if result.position_error > 5e-3 or tilt > -0.95:
                    raise SceneError("UNREACHABLE", f"{self.card.name} cannot reach {what}'{entity.id}' from above")

    def _reached(self, entity: Entity) -> list[tuple[str, np.ndarray]]:
        """Where the tool has to come [m, world]: over handles on their travel, over faces of fixtures, over objects."""
        binding, placement = self.world.entities[entity.id], entity.placement
        above = np.array([0.0, 0.0, 0.05])
        if binding.joints:
            return [
                (f"the handle, joint '{joint.name}' at {fraction:g}, of ", point + 0.5 * self.card.object_scale * above)
                for joint in binding.joints.values()
                for fraction, point in self._handle_path(joint)
            ]
        if placement.inside and self.world.entities[placement.on].joints:
            return []  # it comes out where the handle is, or through an opening that has to be made first
        if binding.dof < 0 and binding.geoms:
            top = self.world.pos(entity.id) + [0.0, 0.0, binding.half[2]]
            return [("", top + self.card.object_scale * above)]
        return [("", self.world.pos(entity.id) + above)]

    def _handle_path(self, joint: JointBinding) -> list[tuple[float, np.ndarray]]:
        """Where the handle is when the joint counts as closed, and a little beyond where it counts as open [m]."""
        data, span = self._scratch, joint.open - joint.closed
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = self.data.qpos, self.data.mocap_pos, self.data.mocap_quat
        out = []
        for fraction in (0.05, 0.85):
            data.qpos[joint.qpos] = joint.closed + fraction * span
            mujoco.mj_kinematics(self.model, data)
            out.append((fraction, data.site_xpos[joint.handle].copy()))
        return out

    def _check_predicates(self) -> None:
        violated = init_violation(self.spec, self.world)
        if violated is not None:
            raise SceneError("INIT_FALSE", f"'{text(violated)}' does not hold at the start of '{self.spec.name}'")
        if margin_at_start(self.spec.goal, self.world) >= 0:
            raise SceneError("TRIVIAL", f"the goal of '{self.spec.name}' already holds at reset")


def _dofs(binding: EntityBinding) -> np.ndarray:
    """Velocity indices of an entity: its free joint's six, then those of its joints."""
    free = range(binding.dof, binding.dof + 6) if binding.dof >= 0 else ()
    return np.array([*free, *(joint.dof for joint in binding.joints.values())], dtype=int)


def _restless(binding: EntityBinding, speed: np.ndarray) -> bool:
    """Whether components of speed [m/s, rad/s], in the order of ``_dofs``, are too high for a start state."""
    bound = np.full(len(speed), _CALM)
    if binding.dof >= 0:
        bound[3:6] = _FLICKER
    return not bool((speed < bound).all())


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
