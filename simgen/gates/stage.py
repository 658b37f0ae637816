"""A stage: the scene of a candidate with its things put where one wants them, by hand and without an expert."""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.sim.env import TaskEnv
from robostack.sim.rotation import yaw_rotation
from robostack.task import geometry as geo
from robostack.task.evaluate import GoalMonitor
from robostack.task.spec import TaskSpec
from robostack.task.world import EntityBinding

_DEPTH = 1e-3  # contacts deeper than this are no placement [m]


class Stage:
    """Edits the live state of an environment. Whoever is done restores what ``save`` returned.

    Poses are those of the entities' bodies: position [m, world] and rotation matrix.
    """

    def __init__(self, env: TaskEnv):
        self.env, self.scene, self.world = env, env.scene, env.scene.world
        self.model, self.data = env.scene.model, env.scene.data
        self.start = self.save()

    # State.

    def restart(self, seed: int) -> None:
        """The start state of a seed, with its snapshot."""
        self.env.reset_scene(seed)
        mujoco.mj_forward(self.model, self.data)
        self.start = self.save()

    def save(self) -> np.ndarray:
        """The state now."""
        return self.scene.get_state()

    def load(self, state: np.ndarray) -> None:
        """Back to a saved state, with contacts and forces computed."""
        self.scene.set_state(state)
        self.refresh()

    def refresh(self) -> None:
        """Compute what follows from positions and velocities."""
        mujoco.mj_forward(self.model, self.data)

    # Things.

    def pose(self, entity: str) -> tuple[np.ndarray, np.ndarray]:
        """Where an entity is; copies."""
        return self.world.pos(entity).copy(), self.world.rot(entity).copy()

    def put(self, entity: str, pos: np.ndarray, rot: np.ndarray | None = None) -> None:
        """Move an entity, at rest; its rotation stays when none is given. Call ``refresh`` afterwards."""
        binding, quat = self.world.entities[entity], np.zeros(4)
        mujoco.mju_mat2Quat(quat, np.ascontiguousarray(self.world.rot(entity) if rot is None else rot).ravel())
        if binding.dof >= 0:
            address = self._address(binding)
            self.data.qpos[address : address + 7] = [*pos, *quat]
            self.data.qvel[binding.dof : binding.dof + 6] = 0.0
        elif (mocap := int(self.model.body_mocapid[binding.body])) >= 0:
            self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = pos, quat

    def push(self, entity: str, velocity: tuple[float, float, float]) -> None:
        """Give a free entity a linear velocity [m/s, world]."""
        dof = self.world.entities[entity].dof
        self.data.qvel[dof : dof + 3] = velocity

    def set_joint(self, entity: str, joint: str, fraction: float) -> None:
        """Move a joint to a fraction of its range, at rest."""
        binding = self.world.entities[entity].joints[joint]
        self.data.qpos[binding.qpos] = binding.closed + fraction * (binding.open - binding.closed)
        self.data.qvel[binding.dof] = 0.0

    def park(self) -> None:
        """The robot at its rest pose, fingers open. Call ``refresh`` afterwards."""
        scene, gripper = self.scene, self.scene.card.gripper
        self.data.qpos[scene.arm.qpos] = self.data.ctrl[scene.arm.actuators] = scene.ik.home
        self.data.ctrl[scene.arm.gripper_actuator] = gripper.open
        for name in gripper.joints:
            self.data.joint(f"robot/{name}").qpos[0] = gripper.open
        for name in (*scene.card.arm.joints, *gripper.joints):
            self.data.joint(f"robot/{name}").qvel[0] = 0.0

    def free(self, entity: str) -> bool:
        """Whether an entity can be moved."""
        return self.world.entities[entity].dof >= 0

    def _address(self, binding: EntityBinding) -> int:
        return int(self.model.jnt_qposadr[self.model.body_jntadr[binding.body]])

    # Geometry.

    def rest_z(self, entity: str) -> float:
        """Height of the origin above what an upright entity rests on [m]."""
        return self.scene.shapes[entity].rest_z

    def radius(self, entity: str) -> float:
        """Radius of a circle about the origin that holds its footprint [m]."""
        shape = self.scene.shapes[entity]
        return shape.footprint[0] if shape.round else float(np.hypot(*shape.footprint))

    def upright(self, yaw: float) -> np.ndarray:
        """Rotation of something that stands."""
        return yaw_rotation(yaw)

    def overlaps(self, entity: str) -> bool:
        """Whether an entity is deeper in another thing than a contact goes."""
        code = geo.owner(self.world, entity)
        return any(
            float(self.data.contact.dist[i]) < -_DEPTH for i, pair in enumerate(geo.owners(self.world)) if code in pair
        )

    def settle(self, seconds: float) -> None:
        """Let physics run, the actuators holding what they hold."""
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
        self.refresh()

    # Judgement.

    def _monitor(self, task: TaskSpec | None = None) -> GoalMonitor:
        """A monitor of an episode that begins at the start state."""
        self.load(self.start)
        return GoalMonitor(task or self.env.task, self.world)

    def holds_frozen(self, stages: tuple[np.ndarray, ...], final: np.ndarray, *, task: TaskSpec | None = None) -> bool:
        """Whether the task counts as done when these states pass by and the last one stays, physics standing still.

        ``task`` judges in place of the environment's own.
        """
        monitor, time_s, dt = self._monitor(task), 0.0, self.env.dt_s
        for state in stages:
            self.load(state)
            for _ in range(2):
                time_s += dt
                monitor.update(time_s)
        self.load(final)
        for _ in range(int(np.ceil(self.env.task.hold.seconds / dt)) + 2):
            time_s += dt
            monitor.update(time_s)
        return monitor.success

    def fires_once(self, stages: tuple[np.ndarray, ...], final: np.ndarray) -> bool:
        """Whether a state that is there for one control step only counts as success."""
        monitor, time_s, dt = self._monitor(), 0.0, self.env.dt_s
        for state in (*stages, final):
            self.load(state)
            time_s += dt
            monitor.update(time_s)
        return not np.isnan(monitor.first_success_s)

    def holds_live(self, stages: tuple[np.ndarray, ...], final: np.ndarray) -> bool:
        """The same with physics running through the hold window; leaves the state at its end."""
        monitor, time_s, dt = self._monitor(), 0.0, self.env.dt_s
        for state in stages:
            self.load(state)
            time_s += dt
            monitor.update(time_s)
        self.load(final)
        ctrl = self.data.ctrl.copy()
        for _ in range(int(np.ceil(self.env.task.hold.seconds / dt)) + 2):
            self.scene.step(ctrl)
            time_s += dt
            monitor.update(time_s)
        return monitor.success
