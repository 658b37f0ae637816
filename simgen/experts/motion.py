"""Tool paths: straight lines with minimum-jerk timing, proven reachable and collision-free before anything moves.

The tool always points straight down; a pose is its position [m, world] and its yaw [rad] relative to the rest pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.sim.rotation import yaw_rotation
from robostack.sim.scene import Scene

_MAX_POSITION_ERROR = 2e-3
_CHECK_EVERY = 2  # samples between collision checks: under 2 cm of travel


@dataclass(frozen=True)
class Pose:
    """A downward tool pose."""

    pos: Float[np.ndarray, "3"]
    yaw: float

    def lifted(self, z: float) -> Pose:
        """The same pose at another height."""
        return Pose(np.array([self.pos[0], self.pos[1], z]), self.yaw)


class PlanFailure(Exception):
    """A path that cannot be followed. ``code`` is NO_IK or COLLISION."""

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
        self._scratch = mujoco.MjData(scene.model)
        _, home = scene.ik.forward(scene.ik.home)
        x = np.array([home[0, 0], home[1, 0], 0.0])
        x /= np.linalg.norm(x)
        self.down = np.stack([x, np.cross([0.0, 0.0, -1.0], x), [0.0, 0.0, -1.0]], axis=1)
        self._gripper_qpos = [int(scene.model.joint(f"robot/{n}").qposadr[0]) for n in scene.card.gripper.joints]
        self._measure_pads()

    def rotation(self, yaw: float) -> Float[np.ndarray, "3 3"]:
        """Tool rotation of a downward pose."""
        return yaw_rotation(yaw) @ self.down

    def closing_angle(self) -> float:
        """World angle of the closing direction at yaw 0 [rad]."""
        return float(np.arctan2(self.down[1, 1], self.down[0, 1]))

    def samples(self, waypoints: Sequence[Pose], *, slow: float = 1.0) -> list[Pose]:
        """Poses at the control rate through the waypoints, at rest at each; the first waypoint itself is left out."""
        rate, out = self.scene.spec.robot.control_hz, []
        for a, b in zip(waypoints, waypoints[1:], strict=False):
            travel, turn = float(np.linalg.norm(b.pos - a.pos)), abs(b.yaw - a.yaw)
            # A minimum-jerk move peaks at 1.875 times its mean speed.
            seconds = 1.875 * max(travel / self._speed, turn / self._turn_speed) / 1.5 / slow
            n = max(2, int(np.ceil(seconds * rate)))
            u = np.arange(1, n + 1) / n
            s = u**3 * (10 - 15 * u + 6 * u * u)
            out += [Pose(a.pos + k * (b.pos - a.pos), float(a.yaw + k * (b.yaw - a.yaw))) for k in s]
        return out

    def plan(
        self,
        waypoints: Sequence[Pose],
        q0: Float[np.ndarray, " Nj"],
        opening: float,
        *,
        held: Held | None = None,
        touching: frozenset[str] = frozenset(),
        slow: float = 1.0,
    ) -> list[Pose]:
        """Samples of the path; raises PlanFailure when one is out of reach or in collision.

        Args:
            waypoints: from the current pose on.
            q0: joint positions at the first waypoint [rad].
            opening: gripper opening along the path, 0 to 1.
            held: the grasped object, carried along in collision checks.
            touching: entities that may be touched.
            slow: factor on the speed.
        """
        path = self.samples(waypoints, slow=slow)
        q = q0
        for i, pose in enumerate(path):
            result = self.scene.ik.solve(pose.pos, self.rotation(pose.yaw), q, iterations=20)
            if result.position_error > _MAX_POSITION_ERROR or result.rotation_error > self.scene.card.tilt_tolerance:
                raise PlanFailure(
                    "NO_IK",
                    f"tool misses {np.round(pose.pos, 3).tolist()} by {result.position_error * 1e3:.0f} mm,"
                    f" {np.rad2deg(result.rotation_error):.0f} deg",
                )
            q = result.q
            if i % _CHECK_EVERY == 0 or i == len(path) - 1:
                hit = self.collision(q, opening, held, touching)
                if hit:
                    raise PlanFailure("COLLISION", f"{hit} at {np.round(pose.pos, 3).tolist()}")
        return path

    def collision(
        self, q: Float[np.ndarray, " Nj"], opening: float, held: Held | None, touching: frozenset[str]
    ) -> str | None:
        """Names of two things that would touch with the arm at ``q``, or None."""
        scene, data, model = self.scene, self._scratch, self.scene.model
        data.qpos[:] = scene.data.qpos
        data.mocap_pos[:], data.mocap_quat[:] = scene.data.mocap_pos, scene.data.mocap_quat
        data.qpos[scene.arm.qpos] = q
        gripper = scene.card.gripper
        data.qpos[self._gripper_qpos] = gripper.closed + opening * (gripper.open - gripper.closed)
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
        free = {g for name in touching for g in world.entities[name].geoms}
        for (a, b), dist in zip(data.contact.geom.tolist(), data.contact.dist.tolist(), strict=True):
            moving = (a in own or a in held_geoms) + (b in own or b in held_geoms)
            if moving != 1 or a in free or b in free or dist > -2e-4:
                continue
            if self._is_base(a) or self._is_base(b):
                continue
            return " and ".join(model.body(model.geom_bodyid[g]).name for g in (a, b))
        return None

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
