"""Tool paths: straight lines with minimum-jerk timing, proven reachable and collision-free before anything moves.

A pose of the tool is its position [m, world] and three angles [rad] relative to pointing straight down at rest: yaw
about the world's z axis, then lean about the tool's x axis and tilt about its y axis, the one in which fingers close.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.sim.rotation import yaw_rotation
from robostack.sim.scene import Scene

_MAX_POSITION_ERROR = 2e-3
_LEAP = 2.5  # joint motion per control step beyond which the arm cannot keep up, over what its speed allows
_CHECK_M, _CHECK_RAD, _CHECK_STEPS = 0.012, 0.1, 2  # travel, turn, samples after which collisions are checked again


@dataclass(frozen=True)
class Pose:
    """A tool pose; downward unless leaned or tilted."""

    pos: Float[np.ndarray, "3"]
    yaw: float
    lean: float = 0.0
    tilt: float = 0.0

    def lifted(self, z: float) -> Pose:
        """The same pose at another height."""
        return replace(self, pos=np.array([self.pos[0], self.pos[1], z]))

    def moved(self, shift: Sequence[float] | Float[np.ndarray, "3"]) -> Pose:
        """The same orientation elsewhere."""
        return replace(self, pos=self.pos + np.asarray(shift, float))

    def towards(self, other: Pose, share: float) -> Pose:
        """The pose ``share`` of the way to another one, angle by angle."""
        mixed = [float(a + share * (b - a)) for a, b in zip(self.angles, other.angles, strict=True)]
        return Pose(self.pos + share * (other.pos - self.pos), *mixed)

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw, lean, tilt."""
        return self.yaw, self.lean, self.tilt


@dataclass(frozen=True)
class Path:
    """Tool poses at the control rate, and the arm's joints [rad] at the last one."""

    poses: tuple[Pose, ...]
    q: Float[np.ndarray, " Nj"]


class PlanFailure(Exception):
    """A path that cannot be followed. ``code`` is NO_IK, COLLISION or NO_PATH."""

    def __init__(self, code: str, message: str):
        self.code = code
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True)
class Held:
    """An object in the gripper: its body's free joint and its pose in the tool frame."""

    entity: str
    qpos: int
    rot: Float[np.ndarray, "3 3"]
    pos: Float[np.ndarray, "3"]


class Planner:
    """Plans for one scene; keeps a scratch state for collision checks."""

    def __init__(self, scene: Scene, *, speed: float = 0.35, turn_speed: float = 1.6):
        self.scene, self._speed, self._turn_speed = scene, speed, turn_speed
        self._leap = _LEAP * np.asarray(scene.card.arm.velocity) / scene.spec.robot.control_hz
        self._scratch = mujoco.MjData(scene.model)
        _, home = scene.ik.forward(scene.ik.home)
        x = np.array([home[0, 0], home[1, 0], 0.0])
        x /= np.linalg.norm(x)
        self.down = np.stack([x, np.cross([0.0, 0.0, -1.0], x), [0.0, 0.0, -1.0]], axis=1)
        self._gripper_qpos = [int(scene.model.joint(f"robot/{n}").qposadr[0]) for n in scene.card.gripper.joints]
        self._measure_pads()

    def rotation(self, pose: Pose) -> Float[np.ndarray, "3 3"]:
        """Tool rotation of a pose, world frame."""
        rot = yaw_rotation(pose.yaw) @ self.down
        if pose.lean == 0.0 and pose.tilt == 0.0:
            return rot
        (cl, sl), (ct, st) = ((np.cos(a), np.sin(a)) for a in (pose.lean, pose.tilt))
        lean = np.array([[1.0, 0.0, 0.0], [0.0, cl, -sl], [0.0, sl, cl]])
        tilt = np.array([[ct, 0.0, st], [0.0, 1.0, 0.0], [-st, 0.0, ct]])
        return rot @ lean @ tilt

    def pose_of(self, pos: Float[np.ndarray, "3"], rot: Float[np.ndarray, "3 3"], like: Pose | None = None) -> Pose:
        """Inverse of ``rotation``; the yaw is the one nearest to that of ``like`` among its full turns."""
        local = self.down.T @ rot  # Rz(-yaw) Rx(lean) Ry(tilt): the downward frame turns yaw around
        lean = float(np.arcsin(np.clip(local[2, 1], -1.0, 1.0)))
        tilt = float(np.arctan2(-local[2, 0], local[2, 2]))
        yaw = -float(np.arctan2(-local[0, 1], local[1, 1]))
        if like is not None:
            yaw += 2 * np.pi * round((like.yaw - yaw) / (2 * np.pi))
        return Pose(np.array(pos, float), yaw, lean, tilt)

    def is_downward(self, pose: Pose) -> bool:
        """Whether the tool points straight down, by half a degree."""
        return abs(pose.lean) < 0.01 and abs(pose.tilt) < 0.01

    def site_at(
        self, site: int, joints: Mapping[int, float]
    ) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
        """Pose of a site [m, world] if the given qpos were so, and all else as it is."""
        data = self._scratch
        data.qpos[:] = self.scene.data.qpos
        data.mocap_pos[:], data.mocap_quat[:] = self.scene.data.mocap_pos, self.scene.data.mocap_quat
        for address, value in joints.items():
            data.qpos[address] = value
        mujoco.mj_kinematics(self.scene.model, data)
        return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy()

    def closing_angle(self) -> float:
        """World angle of the closing direction at yaw 0 [rad]."""
        return float(np.arctan2(self.down[1, 1], self.down[0, 1]))

    def samples(self, waypoints: Sequence[Pose], *, slow: float = 1.0) -> list[Pose]:
        """Poses at the control rate through the waypoints, at rest at each; the first waypoint itself is left out."""
        out = []
        for a, b in zip(waypoints, waypoints[1:], strict=False):
            travel = float(np.linalg.norm(b.pos - a.pos))
            turn = max(abs(x - y) for x, y in zip(a.angles, b.angles, strict=True))
            out += [a.towards(b, k) for k in self.rhythm(travel, turn, slow=slow)]
        return out

    def rhythm(self, travel: float, turn: float, *, slow: float = 1.0) -> list[float]:
        """Shares of a minimum-jerk move over ``travel`` [m] and ``turn`` [rad], one per control step; the last is 1."""
        # A minimum-jerk move peaks at 1.875 times its mean speed.
        seconds = 1.875 * max(travel / self._speed, turn / self._turn_speed) / 1.5 / slow
        n = max(2, int(np.ceil(seconds * self.scene.spec.robot.control_hz)))
        u = np.arange(1, n + 1) / n
        return (u**3 * (10 - 15 * u + 6 * u * u)).tolist()

    def plan(
        self,
        waypoints: Sequence[Pose],
        q0: Float[np.ndarray, " Nj"],
        opening: float,
        *,
        held: Held | None = None,
        touching: frozenset[str] = frozenset(),
        slow: float = 1.0,
    ) -> Path:
        """Samples of the path; raises PlanFailure when one is out of reach or in collision.

        Args:
            waypoints: from the current pose on.
            q0: joint positions at the first waypoint [rad].
            opening: gripper opening along the path, 0 to 1.
            held: the grasped object, carried along in collision checks.
            touching: what may be touched: entities, or ``<entity>.<joint>`` for the part that the joint moves.
            slow: factor on the speed.
        """
        poses = self.samples(waypoints, slow=slow)
        return self.track(poses, q0, lambda q, _: self.collision(q, opening, held, touching))

    def track(
        self,
        poses: Sequence[Pose],
        q0: Float[np.ndarray, " Nj"],
        hits: Callable[[Float[np.ndarray, " Nj"], int], str | None],
    ) -> Path:
        """Follow the poses with inverse kinematics from ``q0`` on; raises PlanFailure where that fails.

        ``hits(q, index)`` names what would collide at pose ``index``; it is asked every centimetre or so.
        """
        q, checked = q0, (-_CHECK_STEPS, poses[0], q0)
        for i, pose in enumerate(poses):
            result = self.scene.ik.solve(pose.pos, self.rotation(pose), q, iterations=20)
            if result.position_error > _MAX_POSITION_ERROR or result.rotation_error > self.scene.card.tilt_tolerance:
                raise PlanFailure(
                    "NO_IK",
                    f"tool misses {np.round(pose.pos, 3).tolist()} by {result.position_error * 1e3:.0f} mm,"
                    f" {np.rad2deg(result.rotation_error):.0f} deg",
                )
            if (np.abs(result.q - q) > self._leap).any():
                raise PlanFailure("NO_IK", f"the arm would have to swing round at {np.round(pose.pos, 3).tolist()}")
            q = result.q
            far = (
                np.abs(pose.pos - checked[1].pos).max() > _CHECK_M or np.abs(q - checked[2]).max() > _CHECK_RAD
            ) or i - checked[0] >= _CHECK_STEPS
            if far or i == len(poses) - 1:
                checked = (i, pose, q)
                hit = hits(q, i)
                if hit:
                    raise PlanFailure("COLLISION", f"{hit} at {np.round(pose.pos, 3).tolist()}")
        return Path(tuple(poses), q)

    def collision(
        self,
        q: Float[np.ndarray, " Nj"],
        opening: float,
        held: Held | None,
        touching: frozenset[str],
        joints: Mapping[int, float] = {},  # noqa: B006
    ) -> str | None:
        """Names of two things that would touch with the arm at ``q``, or None; ``joints``: other qpos to assume."""
        scene, data, model = self.scene, self._scratch, self.scene.model
        data.qpos[:] = scene.data.qpos
        data.mocap_pos[:], data.mocap_quat[:] = scene.data.mocap_pos, scene.data.mocap_quat
        data.qpos[scene.arm.qpos] = q
        gripper = scene.card.gripper
        data.qpos[self._gripper_qpos] = gripper.closed + opening * (gripper.open - gripper.closed)
        for address, value in joints.items():
            data.qpos[address] = value
        mujoco.mj_kinematics(model, data)
        if held is not None:
            site = scene.world.robot.ee_site
            rot = data.site_xmat[site].reshape(3, 3)
            quat = np.zeros(4)
            mujoco.mju_mat2Quat(quat, (rot @ held.rot).ravel())
            data.qpos[held.qpos : held.qpos + 7] = [*(data.site_xpos[site] + rot @ held.pos), *quat]
            mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        return self._offending_contact(data, held, touching)

    def pads_at(self, opening: float) -> tuple[float, float]:
        """Gap between the pads [m], and the position of its middle along the closing direction from the tool [m]."""
        gap = np.interp(opening, self._openings, self._gaps)
        return float(gap), float(np.interp(opening, self._openings, self._middles))

    def opening_for(self, gap: float) -> float:
        """Opening at which the pads are ``gap`` metres apart."""
        return float(np.interp(gap, self._gaps, self._openings))

    def _offending_contact(self, data: mujoco.MjData, held: Held | None, touching: frozenset[str]) -> str | None:
        if data.ncon == 0:
            return None
        world, model = self.scene.world, self.scene.model
        own = world.robot.geoms
        held_geoms = set(world.entities[held.entity].geoms) if held else set()
        free = {g for name in touching for g in self.geoms(name)}
        for (a, b), dist in zip(data.contact.geom.tolist(), data.contact.dist.tolist(), strict=True):
            moving = (a in own or a in held_geoms) + (b in own or b in held_geoms)
            if moving != 1 or a in free or b in free or dist > -2e-4:
                continue
            if self._is_base(a) or self._is_base(b):
                continue
            return " and ".join(model.body(model.geom_bodyid[g]).name for g in (a, b))
        return None

    def geoms(self, name: str) -> list[int]:
        """Collision geoms of an entity, or of the part that ``<entity>.<joint>`` moves."""
        entity, _, joint = name.partition(".")
        binding = self.scene.world.entities[entity]
        if not joint:
            return list(binding.geoms)
        body = binding.joints[joint].body
        return [g for g in binding.geoms if self.scene.model.geom_bodyid[g] == body]

    def _is_base(self, geom: int) -> bool:
        body = self.scene.model.geom_bodyid[geom]
        return geom in self.scene.world.robot.geoms and self.scene.model.body_weldid[body] == 0

    def _measure_pads(self) -> None:
        """Tabulate the gap between the pads against the opening, and how far the fingertips reach below the tool."""
        scene, model, data = self.scene, self.scene.model, self._scratch
        data.qpos[:] = model.qpos0
        data.qpos[scene.arm.qpos] = scene.ik.home
        site = scene.world.robot.ee_site
        gripper = scene.card.gripper
        self._openings, gaps, middles, tips, backs = np.linspace(0, 1, 41), [], [], [], []
        for opening in self._openings:
            data.qpos[self._gripper_qpos] = gripper.closed + opening * (gripper.open - gripper.closed)
            mujoco.mj_kinematics(model, data)
            rot, pos = data.site_xmat[site].reshape(3, 3), data.site_xpos[site]
            inner = []
            for pads in scene.world.robot.pads:
                corners = np.concatenate([_corners(model, data, g) for g in pads])
                local = (corners - pos) @ rot
                inner.append((local[:, 1].min(), local[:, 1].max()))
                tips.append(local[:, 2].max())
                backs.append(np.abs(local[:, 0]).max())
            low, high = sorted(inner, key=lambda span: span[0])
            gaps.append(high[0] - low[1])
            middles.append(0.5 * (high[0] + low[1]))
        order = np.argsort(gaps)
        self._gaps, self._middles = np.array(gaps)[order], np.array(middles)[order]
        self._openings = self._openings[order]
        self.tip_below, self.pad_half_width = float(max(tips)), float(max(backs))


def _corners(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return data.geom_xpos[geom] + (signs * model.geom_size[geom]) @ data.geom_xmat[geom].reshape(3, 3).T
