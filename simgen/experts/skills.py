"""Manipulation skills: pick, place, push. Each acts through ``TaskEnv.apply`` and returns a result code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from robostack.sim.env import TaskEnv
from robostack.task.atoms import ATOMS
from robostack.task.geometry import bottom
from simgen.experts.arm import Arm
from simgen.experts.grasps import HOVER, Grasp, grasps
from simgen.experts.motion import Held, Path, PlanFailure, Pose
from simgen.experts.result import Code, Result

_MOST_MISSES = 2  # in one attempt to pick: the object lies elsewhere by then


class Skills(Arm):
    """The skills that move free objects."""

    def __init__(self, env: TaskEnv):
        super().__init__(env)
        self._picked = self.pose

    # Pick.

    def pick(self, obj: str, *, above: float = 0.0) -> Result:
        """Grasp ``obj`` and lift it to transport height; its lowest ``above`` [m] stay free of the fingers."""
        if self.held is not None and self.held.entity == obj and self.grasped(obj):
            return Result(Code.OK)
        result, refused, misses = Result(Code.UNREACHABLE, f"'{obj}' has no part that the gripper can take"), False, 0
        for grasp in grasps(self, obj, above=above):
            saved = self.opening
            try:
                path = self._approach(grasp, obj)
            except PlanFailure as failure:
                self.opening = saved
                result = result if refused or misses else Result(Code(failure.code), str(failure))
                refused = True
                continue
            self.follow(path)
            self.settle()
            self.close()
            if not self.grasped(obj):
                self.grip(grasp.opening, self.scene.card.gripper.release_s)
                self.go([grasp.before], touching=[obj])
                result, misses = Result(Code.GRASP_MISS, f"fingers closed beside '{obj}'"), misses + 1
                if misses == _MOST_MISSES:
                    return result
                continue
            self.attach(obj)
            self._picked = self.pose
            self.note("grasp", obj)
            return self._lift(obj, grasp)
        return result

    def _approach(self, grasp: Grasp, obj: str) -> list[Pose]:
        self.opening = grasp.opening
        self.check(grasp.pose, grasp.opening, [obj])
        reach = self.reach(grasp.before)
        down = self.plan([grasp.before, grasp.pose], touching=[obj], slow=0.8, q0=reach.q)
        self._check_closing(down, obj)
        return [*reach.poses, *down.poses]

    def _lift(self, obj: str, grasp: Grasp) -> Result:
        ways = [grasp.before]
        if self.planner.is_downward(grasp.pose):
            ways.insert(0, self.pose.lifted(self.transit_height()))
        lift = Result(Code.OK)
        for way in ways:
            lift = self.go([way], touching=[obj])
            if lift.ok:
                break
        if not lift.ok:
            return lift
        return Result(Code.OK) if self.grasped(obj) else Result(Code.DROPPED, f"'{obj}' slipped while lifting")

    def _check_closing(self, down: Path, obj: str) -> None:
        """A finger on its way to the object must not sweep up its neighbours."""
        for share in (0.75, 0.5, 0.25):
            hit = self.planner.collision(down.q, share * self.opening, None, frozenset((obj,)))
            if hit:
                raise PlanFailure("COLLISION", f"{hit} on closing at {np.round(down.poses[-1].pos, 3).tolist()}")

    def _width(self, obj: str) -> float:
        binding = self.world.entities[obj]
        return 2 * min((binding.grip or binding).half[:2])

    def grasped(self, obj: str) -> bool:
        """Whether both pads press on it now."""
        return ATOMS["grasped"].fn(self.world, obj) >= 0

    def attach(self, obj: str) -> None:
        """Note where the object sits in the gripper."""
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
        if self.held is None or not self.grasped(obj):
            self.release(obj)
            return Result(Code.DROPPED, f"'{obj}' is not in the gripper")
        self.attach(obj)  # it may have settled in the fingers
        result = Result(Code.NO_IK, "no placement was tried")
        for yaw in self.place_yaws(obj, yaw_hint):
            try:
                reach, down = self.plan_place(obj, target, touching, yaw)
            except PlanFailure as failure:
                result = Result(Code(failure.code), str(failure))
                continue
            self.follow([*reach.poses, *down.poses])
            self.settle()
            return self.release(obj)
        return result

    def plan_place(
        self, obj: str, target: Float[np.ndarray, "3"], touching: Iterable[str], yaw: float
    ) -> tuple[Path, Path]:
        """Ways over the place for the held object and down to it; raises PlanFailure."""
        assert self.held is not None, obj
        turned = replace(self.pose, yaw=yaw)
        goal = replace(turned, pos=target - self.planner.rotation(turned) @ self.held.pos)
        above = goal.lifted(max(self.pose.pos[2], goal.pos[2] + 0.01 * self.scale))
        try:
            reach = self.reach(above, touching=[obj])
        except PlanFailure:
            if not self.thorough:
                raise
            above = goal.lifted(goal.pos[2] + HOVER * self.scale)
            reach = self.reach(above, touching=[obj])
        down = self.plan([above, goal], touching=[obj, *touching], slow=0.7, q0=reach.q)
        self._check_release(down, obj)
        return reach, down

    def put_back(self, obj: str) -> Result:
        """Set a held object down where it was picked up."""
        if self.held is None:
            return Result(Code.OK)
        down = self.go(
            [self._picked.lifted(self.pose.pos[2]), self._picked.lifted(self._picked.pos[2] + 0.002)], touching=[obj]
        )
        return self.release(obj) if down.ok else down

    def release(self, obj: str) -> Result:
        """Open the gripper and withdraw."""
        held, self.held = self.held, None
        _, closed = self.planner.pads_at(self.scene.gripper_opening())
        self.grip(self._release_opening(obj), self.scene.card.gripper.release_s)
        if held is not None:
            self._center_on(obj, closed)
        self.note("release", obj)
        return self.withdraw(touching=[obj])

    def _center_on(self, obj: str, closed: float) -> None:
        """Take a finger that does not open off the object, so that it is not dragged up.

        ``closed``: where the middle of the pads was along the closing direction when they held it [m].
        """
        _, middle = self.planner.pads_at(self.opening)
        shift = closed - middle
        if abs(shift) > 1e-3:
            self.go([self.pose.moved(self.planner.rotation(self.pose)[:, 1] * shift)], touching=[obj], slow=0.5)

    def _check_release(self, down: Path, obj: str) -> None:
        hit = self.planner.collision(down.q, self._release_opening(obj), None, frozenset((obj,)))
        if hit:
            raise PlanFailure("COLLISION", f"{hit} on opening at {np.round(down.poses[-1].pos, 3).tolist()}")

    def _release_opening(self, obj: str) -> float:
        """Wide enough to let go, narrow enough for the inside of a container."""
        gap, _ = self.planner.pads_at(min(self.opening, self.scene.gripper_opening()))
        return self.opening_around(max(gap, self._width(obj)) if self.grasped(obj) else self._width(obj), 0.025)

    def place_yaws(self, obj: str, yaw_hint: float | None) -> list[float]:
        """Wrist turns for setting it down, the least one first; with a hint those that align its edges."""
        if yaw_hint is None:
            return [0.0, self.pose.yaw, *(k * np.pi / 6 for k in (-1, 1, -2, 2, -3, 3))]
        rot = self.world.rot(obj)
        edge = int(np.argmin(np.abs(rot[2])))
        now = float(np.arctan2(rot[1, edge], rot[0, edge]))
        turns = [self.pose.yaw + yaw_hint - now + k * np.pi / 2 for k in range(4)]
        return sorted((self.nearest_turn(t) for t in turns), key=abs)

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
        height = self.transit_height()
        self.opening = opening
        for yaw in self._push_yaws(ahead):
            side = self.planner.rotation(Pose(center, yaw))[:2, 1] * middle
            start = Pose(np.array([*(center[:2] - ahead * (contact + 0.03) - side), z]), yaw)
            end = Pose(np.array([*(goal - ahead * contact - side), z]), yaw)
            back = Pose(np.array([*(goal - ahead * (contact + 0.03) - side), z]), yaw)
            try:
                reach = self.reach(start.lifted(height))
                down = self.plan([start.lifted(height), start], q0=reach.q)
                push = self.plan([start, end], touching=[obj], slow=0.45, q0=down.q)
            except PlanFailure as failure:
                result = Result(Code(failure.code), str(failure))
                continue
            self.follow([*reach.poses, *down.poses, *push.poses])
            return self.go([back, back.lifted(height)], touching=[obj])
        return result

    def _push_yaws(self, ahead: np.ndarray) -> list[float]:
        across = float(np.arctan2(ahead[0], -ahead[1])) - self.planner.closing_angle()
        turns = [across, across + np.pi]
        return sorted((self.nearest_turn(t) for t in turns), key=abs)
