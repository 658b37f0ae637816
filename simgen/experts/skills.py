"""Manipulation skills: pick, place, push. Each acts through ``TaskEnv.apply`` and returns a result code."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from robostack.sim.cards import load_asset
from robostack.sim.env import TaskEnv
from robostack.sim.rotation import rot6d
from robostack.task.atoms import ATOMS
from robostack.task.geometry import bottom
from simgen.experts.motion import Held, PlanFailure, Planner, Pose
from simgen.experts.result import Code, EpisodeOver, Result

_GRIP_S = 0.35
_CLEARANCE = 0.012  # between a carried object and what it passes over, at object scale 1 [m]
_ARRIVED = 0.002  # tracking error at which the gripper may act, at object scale 1 [m]
_FLOOR = 0.004  # between fingertips and table, for arms that cannot point exactly down [m]
_MIN_GRIP = 0.008  # height over which the pads must face the object [m]


class Skills:
    """The skills of one environment. The commanded pose and opening are the only state between calls."""

    def __init__(self, env: TaskEnv):
        self.env, self.scene, self.world = env, env.scene, env.scene.world
        self.planner = Planner(env.scene)
        self.scale = env.scene.card.object_scale
        self.actions: list[np.ndarray] = []
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; the arm stands at its rest pose with the gripper open."""
        pos, _ = self.scene.ik.forward(self.scene.ik.home)
        self.pose, self.opening = Pose(pos, 0.0), 1.0
        self.held: Held | None = None
        self._picked = self.pose
        self._ik_q = self.scene.ik.home.copy()
        self.home_pose = self.pose

    # Motion.

    def follow(self, path: Iterable[Pose]) -> None:
        """Command one pose per control step."""
        for pose in path:
            self._send(pose, self.opening)

    def wait(self, seconds: float) -> None:
        """Stay where commanded."""
        for _ in range(max(1, round(seconds / self.env.dt_s))):
            self._send(self.pose, self.opening)

    def grip(self, opening: float, seconds: float) -> None:
        """Move the gripper evenly to ``opening``; an abrupt release flings light objects off the pads."""
        start, n = self.opening, max(1, round(seconds / self.env.dt_s))
        for k in range(1, n + 1):
            self.opening = start + (opening - start) * k / n
            self._send(self.pose, self.opening)

    def settle(self) -> None:
        """Stay until the tool has caught up with its command, at most 0.4 s."""
        for _ in range(round(0.4 / self.env.dt_s)):
            if float(np.linalg.norm(self.scene.tcp()[0] - self.pose.pos)) < _ARRIVED * self.scale:
                return
            self._send(self.pose, self.opening)

    def home(self) -> Result:
        """Back to the rest pose, over everything."""
        top = max(self.pose.pos[2], self.home_pose.pos[2])
        return self._go([self.pose.lifted(top), self.home_pose])

    def _send(self, pose: Pose, opening: float) -> None:
        if self.env.over:
            raise EpisodeOver
        rot = self.planner.rotation(pose.yaw)
        if self.env.task.robot.control_mode == "ee_pose":
            action = np.concatenate([pose.pos, rot6d(rot), [opening]])
        else:
            self._ik_q = self.scene.ik.solve(pose.pos, rot, self._ik_q, iterations=8).q
            action = np.append(self._ik_q, opening)
        # What is recorded is float32; the demonstration must be the action that was really sent.
        self.on_action(action.astype(np.float32))
        self.pose = pose

    def on_action(self, action: np.ndarray) -> None:
        """Send one action; a recorder replaces this."""
        self.env.apply(action)

    def _go(self, waypoints: list[Pose], *, touching: Iterable[str] = (), slow: float = 1.0) -> Result:
        try:
            path = self._plan([self.pose, *waypoints], touching=touching, slow=slow)
        except PlanFailure as failure:
            return Result(Code(failure.code), str(failure))
        self.follow(path)
        return Result(Code.OK)

    def _plan(self, waypoints: list[Pose], *, touching: Iterable[str] = (), slow: float = 1.0, q0=None) -> list[Pose]:
        start = self.env.controller.q if q0 is None else q0
        return self.planner.plan(
            waypoints, start, self.opening, held=self.held, touching=frozenset(touching), slow=slow
        )

    # Pick.

    def pick(self, obj: str) -> Result:
        """Grasp ``obj`` from above and lift it to transport height."""
        result = Result(Code.NO_IK, f"no grasp of '{obj}' was tried")
        height, failures = self._transit_height(carried=None), 0
        for grasp in self._grasps(obj):
            above = grasp.lifted(max(height, grasp.pos[2] + 0.04 * self.scale))
            saved, self.opening = self.opening, 1.0  # fully open is the most tolerant, and the easiest to imitate
            try:
                reach = self._plan(
                    [self.pose, self.pose.lifted(above.pos[2]), above] if self._low() else [self.pose, above]
                )
                down = self._plan([above, grasp], touching=[obj], slow=0.8, q0=self._q_at(above))
                self._check_closing(grasp, obj)
            except PlanFailure as failure:
                self.opening = saved
                result = result if failures else Result(Code(failure.code), str(failure))
                failures += 1
                continue
            self.follow(reach + down)
            self.settle()
            self.grip(0.0, _GRIP_S)
            if not self._grasped(obj):
                self.grip(1.0, self.scene.card.gripper.release_s)
                self._go([self.pose.lifted(above.pos[2])], touching=[obj])
                result = Result(Code.GRASP_MISS, f"fingers closed beside '{obj}'")
                failures += 1
                continue
            self._attach(obj)
            self._picked = self.pose
            lift = self._go([self.pose.lifted(self._transit_height(carried=obj))], touching=[obj])
            if not lift.ok:
                return lift
            return Result(Code.OK) if self._grasped(obj) else Result(Code.DROPPED, f"'{obj}' slipped while lifting")
        return result

    def _check_closing(self, grasp: Pose, obj: str) -> None:
        """A finger on its way to the object must not sweep up its neighbours."""
        q = self._q_at(grasp)
        for opening in (0.75, 0.5, 0.25):
            hit = self.planner.collision(q, opening, None, frozenset((obj,)))
            if hit:
                raise PlanFailure("COLLISION", f"{hit} on closing at {np.round(grasp.pos, 3).tolist()}")

    def _grasps(self, obj: str) -> list[Pose]:
        """Downward grasps from the asset card, the least wrist turn first."""
        center, rot = self.world.pos(obj).copy(), self.world.rot(obj)
        half_height = self.world.entities[obj].half[2]
        floor = bottom(self.world, obj) + self.planner.tip_below + _FLOOR
        z = max(center[2], floor)
        if center[2] + half_height - (z - self.planner.tip_below) < _MIN_GRIP:
            return []
        axis = load_asset(self.world.entities[obj].card).grasp_axis
        if axis == "faces":
            edge = int(np.argmin(np.abs(rot[2])))  # a horizontal edge of the block, whichever face is up
            facing = float(np.arctan2(rot[1, edge], rot[0, edge])) - self.planner.closing_angle()
            turns = [facing + k * np.pi / 2 for k in range(4)]
        elif axis == "axial":
            turns = [k * np.pi / 8 for k in range(-6, 7)]
        else:
            return []
        wrapped = sorted(((t + np.pi) % (2 * np.pi) - np.pi for t in turns), key=abs)
        return [Pose(np.array([center[0], center[1], z]), yaw) for yaw in wrapped]

    def _width(self, obj: str) -> float:
        return 2 * min(self.world.entities[obj].half[:2])

    def _grasped(self, obj: str) -> bool:
        return ATOMS["grasped"].fn(self.world, obj) >= 0

    def _attach(self, obj: str) -> None:
        binding = self.world.entities[obj]
        pos, rot = self.scene.tcp()
        adr = int(self.scene.model.jnt_qposadr[self.scene.model.body_jntadr[binding.body]])
        self.held = Held(obj, adr, rot.T @ self.world.rot(obj), rot.T @ (self.world.pos(obj) - pos))

    # Place.

    def place(
        self, obj: str, target: Float[np.ndarray, "3"], *, touching: Iterable[str], yaw_hint: float | None
    ) -> Result:
        """Set the held ``obj`` down with its body origin at ``target`` [m, world] and let go.

        Args:
            obj: the held object.
            target: where its origin shall be.
            touching: entities that the object may touch on the way down.
            yaw_hint: world yaw that the object should take modulo a quarter turn; None leaves the wrist at rest.
        """
        if self.held is None or not self._grasped(obj):
            self._release(obj)
            return Result(Code.DROPPED, f"'{obj}' is not in the gripper")
        self._attach(obj)  # it may have settled in the fingers
        result = Result(Code.NO_IK, "no placement was tried")
        for yaw in self._place_yaws(obj, yaw_hint):
            rot = self.planner.rotation(yaw)
            goal = Pose(target - rot @ self.held.pos, yaw)
            above = goal.lifted(max(self.pose.pos[2], goal.pos[2] + 0.01 * self.scale))
            try:
                path = self._plan([self.pose, above], touching=[obj])
                path += self._plan([above, goal], touching=[obj, *touching], slow=0.7, q0=self._q_at(above))
                self._check_release(goal, obj)
            except PlanFailure as failure:
                result = Result(Code(failure.code), str(failure))
                continue
            self.follow(path)
            self.settle()
            return self._release(obj)
        return result

    def put_back(self, obj: str) -> Result:
        """Set a held object down where it was picked up."""
        if self.held is None:
            return Result(Code.OK)
        down = self._go(
            [self._picked.lifted(self.pose.pos[2]), self._picked.lifted(self._picked.pos[2] + 0.002)], touching=[obj]
        )
        return self._release(obj) if down.ok else down

    def _release(self, obj: str) -> Result:
        held, self.held = self.held, None
        self.grip(self._release_opening(obj), self.scene.card.gripper.release_s)
        if held is not None:
            self._center_on(obj, held)
        up = self.pose.lifted(max(self._transit_height(carried=None), self.pose.pos[2] + 0.03 * self.scale))
        return self._go([up], touching=[obj])

    def _center_on(self, obj: str, held: Held) -> None:
        """Take a finger that does not open off the object, so that it is not dragged up."""
        _, middle = self.planner.pads_at(self.opening)
        shift = float(held.pos[1]) - middle
        if abs(shift) > 1e-3:
            side = self.planner.rotation(self.pose.yaw)[:, 1] * shift
            self._go([Pose(self.pose.pos + side, self.pose.yaw)], touching=[obj], slow=0.5)

    def _check_release(self, goal: Pose, obj: str) -> None:
        hit = self.planner.collision(self._q_at(goal), self._release_opening(obj), None, frozenset((obj,)))
        if hit:
            raise PlanFailure("COLLISION", f"{hit} on opening at {np.round(goal.pos, 3).tolist()}")

    def _release_opening(self, obj: str) -> float:
        """Wide enough to let go, narrow enough for the inside of a container."""
        return min(1.0, self.planner.opening_for(self._width(obj) + 0.025 * self.scale))

    def _place_yaws(self, obj: str, yaw_hint: float | None) -> list[float]:
        if yaw_hint is None:
            return [0.0, self.pose.yaw, *(k * np.pi / 6 for k in (-1, 1, -2, 2, -3, 3))]
        rot = self.world.rot(obj)
        edge = int(np.argmin(np.abs(rot[2])))
        now = float(np.arctan2(rot[1, edge], rot[0, edge]))
        turns = [self.pose.yaw + yaw_hint - now + k * np.pi / 2 for k in range(4)]
        return sorted(((t + np.pi) % (2 * np.pi) - np.pi for t in turns), key=abs)

    # Push.

    def push(self, obj: str, goal: Float[np.ndarray, "2"]) -> Result:
        """Push ``obj`` over the table until its origin is near ``goal`` [m, world xy], with a two-finger cage."""
        center = self.world.pos(obj).copy()
        way = goal - center[:2]
        distance = float(np.linalg.norm(way))
        ahead = way / max(distance, 1e-9)
        half = self._width(obj) / 2
        gap = 1.1 * half
        opening = self.planner.opening_for(gap)
        gap, middle = self.planner.pads_at(opening)
        contact = self.planner.pad_half_width + np.sqrt(max(half**2 - (0.5 * gap) ** 2, 0.0))
        z = self.planner.tip_below + 0.006 + (bottom(self.world, obj))
        result = Result(Code.NO_IK, "no push was tried")
        height = self._transit_height(carried=None)
        self.opening = opening
        for yaw in self._push_yaws(ahead):
            side = self.planner.rotation(yaw)[:2, 1] * middle
            start = Pose(np.array([*(center[:2] - ahead * (contact + 0.03) - side), z]), yaw)
            end = Pose(np.array([*(goal - ahead * contact - side), z]), yaw)
            back = Pose(np.array([*(goal - ahead * (contact + 0.03) - side), z]), yaw)
            try:
                path = self._plan([self.pose, self.pose.lifted(height), start.lifted(height)])
                path += self._plan([start.lifted(height), start], q0=self._q_at(start.lifted(height)))
                push = self._plan([start, end], touching=[obj], slow=0.45, q0=self._q_at(start))
            except PlanFailure as failure:
                result = Result(Code(failure.code), str(failure))
                continue
            self.follow(path)
            self.follow(push)
            return self._go([back, back.lifted(height)], touching=[obj])
        return result

    def _push_yaws(self, ahead: np.ndarray) -> list[float]:
        across = float(np.arctan2(ahead[0], -ahead[1])) - self.planner.closing_angle()
        turns = [across, across + np.pi]
        return sorted(((t + np.pi) % (2 * np.pi) - np.pi for t in turns), key=abs)

    # Geometry.

    def _q_at(self, pose: Pose) -> np.ndarray:
        return self.scene.ik.solve(pose.pos, self.planner.rotation(pose.yaw), self.env.controller.q, iterations=60).q

    def _low(self) -> bool:
        return bool(self.pose.pos[2] < self._transit_height(carried=None) - 0.005)

    def _transit_height(self, carried: str | None) -> float:
        """Tool height at which everything on the table is passed over [m]."""
        below = self.planner.tip_below
        if carried is not None and self.held is not None:
            low = bottom(self.world, carried)
            below = max(below, float(self.scene.tcp()[0][2]) - low)
        tops = [self._top(name) for name in self.world.entities if name != carried]
        return max(max(tops) + below + _CLEARANCE * self.scale, 0.6 * self.scene.card.lift)

    def _top(self, name: str) -> float:
        binding = self.world.entities[name]
        rot = self.world.rot(name)
        if not binding.geoms:
            return 0.0
        up = float(np.abs(rot[2]) @ np.asarray(binding.half))
        return float(self.world.pos(name)[2]) + up
