"""The arm of one environment: commanded tool poses, planned moves, the gripper. Skills are built on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float

from robostack.sim.env import TaskEnv
from robostack.sim.rotation import rot6d
from robostack.task.geometry import bottom, extent_z
from simgen.experts.motion import Held, Path, PlanFailure, Planner, Pose
from simgen.experts.result import Code, EpisodeOver, Result
from simgen.experts.rrt import JointPlanner

CLEARANCE = 0.012  # between a carried object and what it passes over, at object scale 1 [m]
_GRIP_S, _SLOWEST_GRIP_S = 0.35, 0.6  # for closing on something thick, and in addition on something thin [s]
_OUT_OF_REACH = 0.01  # error of inverse kinematics that a better start would not repair [m]
_ARRIVED = 0.002  # tracking error at which the gripper may act, at object scale 1 [m]


class Arm:
    """Moves the tool. The commanded pose and opening are the only state between calls.

    Attributes:
        pose, opening: what is commanded now.
        held: what the gripper carries.
        thorough: also take unusual grasps and ways.
        detours: searches for ways round, as often as its ``budget`` allows.
        note: called with ``grasp`` or ``release`` and what it was done to, when the gripper has acted.
    """

    def __init__(self, env: TaskEnv):
        self.env, self.scene, self.world = env, env.scene, env.scene.world
        self.planner = Planner(env.scene)
        self.detours = JointPlanner(self.planner)
        self.scale = env.scene.card.object_scale
        self.thorough = False
        self.note: Callable[[str, str], None] = lambda event, subject: None
        self.reset()

    def reset(self) -> None:
        """Forget the last episode; the arm stands at its rest pose with the gripper open."""
        pos, _ = self.scene.ik.forward(self.scene.ik.home)
        self.pose, self.opening = Pose(pos, 0.0), 1.0
        self.held: Held | None = None
        self._ik_q = self.scene.ik.home.copy()
        self.home_pose = self.pose

    def resume(self, opening: float) -> None:
        """Take over from somebody else's actions: the commanded pose is where the controller's joints are."""
        pos, rot = self.scene.ik.forward(self.env.controller.q)
        self.pose, self.opening, self.held = self.planner.pose_of(pos, rot), opening, None
        self._ik_q = self.env.controller.q.copy()

    # Acting.

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

    def close(self) -> None:
        """Close the gripper until something stops it."""
        self.grip(0.0, _GRIP_S)
        for _ in range(round(_SLOWEST_GRIP_S / self.env.dt_s)):
            before = self.scene.gripper_opening()
            if before < 0.01:
                return
            self._send(self.pose, self.opening)
            if abs(self.scene.gripper_opening() - before) < 0.01:
                return

    def settle(self) -> None:
        """Stay until the tool has caught up with its command, at most 0.4 s."""
        for _ in range(round(0.4 / self.env.dt_s)):
            if float(np.linalg.norm(self.scene.tcp()[0] - self.pose.pos)) < _ARRIVED * self.scale:
                return
            self._send(self.pose, self.opening)

    def home(self) -> Result:
        """Back to the rest pose, or above it where something has been built that is higher."""
        result = Result(Code.OK)
        for pose in (self.home_pose.lifted(max(self.transit_height(), self.home_pose.pos[2])), self.home_pose):
            try:
                self.follow(self.reach(pose).poses)
            except PlanFailure as failure:
                result = Result(Code(failure.code), str(failure))
            else:
                return Result(Code.OK)
        return result

    def _send(self, pose: Pose, opening: float) -> None:
        if self.env.over:
            raise EpisodeOver
        rot = self.planner.rotation(pose)
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

    # Planning.

    def go(self, waypoints: Sequence[Pose], *, touching: Iterable[str] = (), slow: float = 1.0) -> Result:
        """Plan straight lines from here through the waypoints, and follow them."""
        try:
            path = self.plan([self.pose, *waypoints], touching=touching, slow=slow)
        except PlanFailure as failure:
            return Result(Code(failure.code), str(failure))
        self.follow(path.poses)
        return Result(Code.OK)

    def withdraw(self, *, touching: Iterable[str]) -> Result:
        """Take the empty gripper away: up over everything, or back along a tilted tool."""
        if not self.planner.is_downward(self.pose):
            back = self.planner.rotation(self.pose)[:, 2] * -0.08 * self.scale
            return self.go([self.pose.moved(back)], touching=touching)
        up = self.pose.lifted(max(self.transit_height(), self.pose.pos[2] + 0.03 * self.scale))
        return self.go([up], touching=touching)

    def plan(
        self,
        waypoints: Sequence[Pose],
        *,
        touching: Iterable[str] = (),
        slow: float = 1.0,
        q0: Float[np.ndarray, " Nj"] | None = None,
    ) -> Path:
        """Straight lines through the waypoints from joints ``q0`` (where commanded) on; raises PlanFailure."""
        start = self.env.controller.q if q0 is None else q0
        return self.planner.plan(
            waypoints, start, self.opening, held=self.held, touching=frozenset(touching), slow=slow
        )

    def reach(self, goal: Pose, *, touching: Iterable[str] = ()) -> Path:
        """A transit to ``goal``: straight over everything, or when thorough a detour that was searched for."""
        top = max(self.pose.pos[2], goal.pos[2])
        low = self.pose.pos[2] < self.transit_height() - 0.005
        try:
            return self.plan([self.pose, self.pose.lifted(top), goal] if low else [self.pose, goal], touching=touching)
        except PlanFailure:
            if self.detours.budget <= 0:
                raise
        return self.detours.plan(self.pose, goal, self.env.controller.q, self.opening, self.held, frozenset(touching))

    def q_at(self, pose: Pose) -> Float[np.ndarray, " Nj"]:
        """Joints at a tool pose near the commanded ones [rad]."""
        rot = self.planner.rotation(pose)
        return self.scene.ik.solve(pose.pos, rot, self.env.controller.q, iterations=60).q

    def check(self, pose: Pose, opening: float, touching: Iterable[str] = ()) -> None:
        """Raise PlanFailure for a tool pose that is impossible in itself: the cheapest question, to be asked first."""
        result = self.scene.ik.solve(pose.pos, self.planner.rotation(pose), self.env.controller.q, iterations=60)
        where = np.round(pose.pos, 3).tolist()
        if result.position_error > _OUT_OF_REACH:
            raise PlanFailure("NO_IK", f"out of reach at {where}")
        hit = self.planner.collision(result.q, opening, None, frozenset(touching))
        if hit:
            raise PlanFailure("COLLISION", f"{hit} at {where}")

    def transit_height(self) -> float:
        """Tool height at which everything on the table is passed over [m]."""
        below, carried = self.planner.tip_below, self.held.entity if self.held else None
        if carried is not None:
            low = bottom(self.world, carried)
            below = max(below, float(self.scene.tcp()[0][2]) - low)
        tops = [self._top(name) for name in self.world.entities if name != carried]
        return max(max(tops, default=0.0) + below + CLEARANCE * self.scale, 0.6 * self.scene.card.lift)

    def _top(self, name: str) -> float:
        return extent_z(self.world, name)[1] if self.world.entities[name].geoms else 0.0

    def nearest_turn(self, yaw: float) -> float:
        """The same wrist turn between -pi and pi."""
        return (yaw + np.pi) % (2 * np.pi) - np.pi

    def opening_around(self, width: float, slack: float) -> float:
        """Opening that leaves ``slack`` [m at object scale 1] to something ``width`` wide [m]."""
        return min(1.0, self.planner.opening_for(width + slack * self.scale))

    def centered(self, pose: Pose, gap: float) -> Pose:
        """``pose`` shifted so that the middle between pads ``gap`` apart, not the tool's centre, is there."""
        _, middle = self.planner.pads_at(self.planner.opening_for(gap))
        return pose.moved(-self.planner.rotation(pose)[:, 1] * middle)
