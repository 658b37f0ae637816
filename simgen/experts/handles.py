"""Skills for articulated things: take hold of a handle and lead it along its joint, or push it with closed fingers.

A handle's site has z out of it towards the gripper and x in the direction in which fingers close on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.task.world import JointBinding
from simgen.experts.arm import Arm
from simgen.experts.motion import Path, PlanFailure, Pose
from simgen.experts.result import PLANNING, Code, Result

_NEAR, _THERE = 0.05, 0.01  # from a joint's target after it was led; before it is moved at all [fraction]
_RUN_UP = 0.015  # free way before a push meets the handle, at object scale 1 [m]
_PRESS = 0.002  # how far a push goes on against a joint's stop, at object scale 1 [m]
_STEP = 0.35  # speed of a led handle, as share of the usual one
_SLACKS = (0.05, 0.036, 0.024, 0.014)  # room at both sides of a bar together while closing in on it [m]
_BACKS = (0.0, 0.008, 0.016, 0.024, 0.036, 0.048)  # how far the tool stays back, where its tips do not fit below [m]
_COVER = 0.006  # of the bar that the pads shall cover, at object scale 1 [m]
_MOST_HOLDS, _MOST_PLANS = 120, 6  # grasps of a handle that are looked at, and of these the ways that are planned
_ALONG = (0.0, 0.012, -0.012, 0.024, -0.024)  # where along the bar [m]


@dataclass(frozen=True)
class Handle:
    """A joint with the pose of its handle's site as a function of the joint's fraction."""

    arm: Arm
    entity: str
    joint: str

    @property
    def binding(self) -> JointBinding:
        """The joint in the model."""
        return self.arm.world.entities[self.entity].joints[self.joint]

    @property
    def part(self) -> str:
        """Name of the moving part, as collision checks know it."""
        return f"{self.entity}.{self.joint}"

    def fraction(self) -> float:
        """Where the joint is now."""
        return self.arm.world.fraction(self.entity, self.joint)

    def qpos(self, fraction: float) -> dict[int, float]:
        """The joint's position at a fraction, by address."""
        b = self.binding
        return {b.qpos: b.closed + fraction * (b.open - b.closed)}

    def at(self, fraction: float) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
        """Pose of the site at a fraction [m, world]."""
        return self.arm.planner.site_at(self.binding.handle, self.qpos(fraction))

    def travel(self, start: float, end: float) -> float:
        """Way of the site between two fractions, along its arc [m]."""
        points = np.stack([self.at(f)[0] for f in np.linspace(start, end, 5)])
        return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())

    def tips(self) -> bool:
        """Whether the joint tips the handle over, as a lever's does: fingers cannot keep hold of it from above."""
        return float(np.abs(self.at(0.0)[1][2] - self.at(1.0)[1][2]).max()) > 0.3

    def half_sizes(self) -> Float[np.ndarray, "3"]:
        """Half extents along the site's axes of the geom that the site sits in [m]."""
        model, data = self.arm.scene.model, self.arm.scene.data
        site = self.binding.handle
        geoms = [g for g in self.arm.planner.geoms(self.part) if model.geom_type[g] != mujoco.mjtGeom.mjGEOM_MESH]
        nearest = min(geoms, key=lambda g: float(np.linalg.norm(data.geom_xpos[g] - data.site_xpos[site])))
        size = model.geom_size[nearest].copy()
        if model.geom_type[nearest] == mujoco.mjtGeom.mjGEOM_SPHERE:
            return np.full(3, size[0])
        if model.geom_type[nearest] in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
            size = np.array([size[0], size[0], size[1]])
        turn = data.site_xmat[site].reshape(3, 3).T @ data.geom_xmat[nearest].reshape(3, 3)
        return np.abs(turn) @ size


def move(arm: Arm, entity: str, joint: str, target: float, *, pushing: bool) -> Result:
    """Bring a joint to ``target`` by its handle: pushed if ``pushing`` or if it tips over, else led; or the other way.

    Raises:
        EpisodeOver: the episode ended meanwhile.
    """
    handle = Handle(arm, entity, joint)
    if abs(handle.fraction() - target) < _THERE:
        return Result(Code.OK)
    ways = (push, lead) if pushing or handle.tips() else (lead, push)
    if handle.travel(0.0, 1.0) < 2 * _PRESS * arm.scale:  # it turns on the spot
        ways = (lead,)
    result = Result(Code.OK)
    for way in ways:
        result = way(arm, entity, joint, target)
        if result.code not in PLANNING:
            break
    return result


def lead(arm: Arm, entity: str, joint: str, target: float) -> Result:
    """Take hold of the handle, move the joint to ``target`` (a fraction), let go. Regrasps where the wrist ends."""
    handle = Handle(arm, entity, joint)
    result = Result(Code.OK)
    for _ in range(4):
        now = handle.fraction()
        if abs(now - target) <= _NEAR:
            return Result(Code.OK)
        result = _lead_once(arm, handle, target)
        if not result.ok or abs(handle.fraction() - now) < 0.02:
            break
    if abs(handle.fraction() - target) <= _NEAR:
        return Result(Code.OK)
    code = Code.SLIP if result.ok else result.code
    return Result(code, result.info or f"'{handle.part}' stopped at {handle.fraction():.2f}, not {target:.2f}")


def _lead_once(arm: Arm, handle: Handle, target: float) -> Result:
    """One grasp and the longest stretch of the way that the arm can follow."""
    saved, now = arm.opening, handle.fraction()
    result, ready = Result(Code.UNREACHABLE, f"no grasp of '{handle.part}' was tried"), []
    for grasp, opening in itertools.islice(_holds(arm, handle), _MOST_HOLDS):
        arm.opening = opening
        try:
            arm.check(grasp, opening)
            ready.append((grasp, opening, *_plan_reach(arm, grasp)))
            way = _plan_lead(arm, handle, grasp, ready[-1][-1], target)
        except PlanFailure as failure:
            arm.opening, result = saved, Result(Code(failure.code), str(failure))
            if len(ready) == _MOST_PLANS:
                break
            continue
        return _act(arm, handle, ready[-1][2], way)
    for share, (grasp, opening, reach, q) in itertools.product((0.75, 0.5, 0.3), ready):
        arm.opening = opening
        try:
            way = _plan_lead(arm, handle, grasp, q, now + share * (target - now))
        except PlanFailure:
            arm.opening = saved
            continue
        return _act(arm, handle, reach, way)
    return result


def _act(arm: Arm, handle: Handle, reach: list[Pose], way: Path) -> Result:
    opening = arm.opening
    arm.follow(reach)
    arm.settle()
    arm.close()
    arm.note("grasp", handle.part)
    arm.follow(way.poses)
    arm.settle()
    arm.grip(opening, arm.scene.card.gripper.release_s)
    arm.note("release", handle.part)
    return arm.withdraw(touching=[handle.part])


def _plan_reach(arm: Arm, grasp: Pose) -> tuple[list[Pose], np.ndarray]:
    """The way to the handle, and the joints there [rad]."""
    above = grasp.moved(arm.planner.rotation(grasp)[:, 2] * -0.05 * arm.scale)
    if arm.planner.is_downward(grasp):
        above = grasp.lifted(max(arm.transit_height(), above.pos[2]))
    reach = arm.reach(above)
    down = arm.plan([above, grasp], slow=0.7, q0=reach.q)
    return [*reach.poses, *down.poses], down.q


def _plan_lead(arm: Arm, handle: Handle, grasp: Pose, q0: Float[np.ndarray, " Nj"], end: float) -> Path:
    """The tool's way with the handle in the fingers, from the joint's place now to ``end``."""
    part, start = handle.part, handle.fraction()
    pos, rot = handle.at(start)
    tool = arm.planner.rotation(grasp)
    offset, turn = rot.T @ (grasp.pos - pos), rot.T @ tool
    poses, fractions, last = [], [], grasp
    angle = float(np.arccos(np.clip((np.trace(rot.T @ handle.at(end)[1]) - 1) / 2, -1.0, 1.0)))
    for share in arm.planner.rhythm(handle.travel(start, end), angle, slow=_STEP):
        fraction = start + share * (end - start)
        at, frame = handle.at(fraction)
        last = arm.planner.pose_of(at + frame @ offset, frame @ turn, like=last)
        poses.append(last)
        fractions.append(fraction)

    def hits(q: np.ndarray, i: int) -> str | None:
        return arm.planner.collision(q, 0.3 * arm.opening, None, frozenset((part,)), handle.qpos(fractions[i]))

    return arm.planner.track(poses, q0, hits)


def _holds(arm: Arm, handle: Handle) -> Iterator[tuple[Pose, float]]:
    """Tool poses around the handle with the opening to come with, the least wrist turn first.

    An upright bar is taken from above by its upper end, any other one against the site's z.
    """
    pos, rot = handle.at(handle.fraction())
    half = handle.half_sizes()
    upright = abs(rot[2, 1]) > 0.95
    approach = np.array([0.0, 0.0, -1.0]) if upright else -rot[:, 2]
    over = float(half[1 if upright else 2]) - _COVER * arm.scale  # how far the fingertips may stay above the middle
    backs = [back * arm.scale for back in _BACKS if back * arm.scale <= max(0.0, over + arm.planner.tip_below)]
    for slack, back in itertools.product(_SLACKS, backs):
        for along in (0.0,) if upright else _ALONG:
            spot, found = pos + rot[:, 1] * along * arm.scale - approach * back, []
            for closing in (rot[:, 0], -rot[:, 0]):
                tool = np.stack([np.cross(closing, approach), closing, approach], axis=1)
                gap = 2 * float(half[0]) + 0.5 * slack * arm.scale
                found.append(arm.centered(arm.planner.pose_of(spot, tool), gap))
            for pose in sorted(found, key=lambda p: abs(p.yaw)):
                yield pose, arm.opening_around(2 * float(half[0]), slack)


def push(arm: Arm, entity: str, joint: str, target: float) -> Result:
    """Push the handle with closed fingers until the joint is at ``target`` (a fraction), and withdraw."""
    handle = Handle(arm, entity, joint)
    beyond = _PRESS * arm.scale if target in (0.0, 1.0) else 0.0
    saved, result = arm.opening, Result(Code.UNREACHABLE, f"no way to push '{handle.part}' was tried")
    for yaw in _push_yaws(arm, handle, target):
        arm.opening = 0.0
        try:
            reach, way = _plan_push(arm, handle, target, yaw, beyond)
        except PlanFailure as failure:
            arm.opening, result = saved, Result(Code(failure.code), str(failure))
            continue
        arm.follow(reach)
        arm.grip(0.0, 0.1)
        arm.note("grasp", handle.part)
        arm.follow(way.poses)
        arm.wait(0.2)
        arm.note("release", handle.part)
        arm.follow(way.poses[: -max(3, len(way.poses) // 4) : -1])
        return arm.withdraw(touching=[handle.part])
    return result


def _push_yaws(arm: Arm, handle: Handle, target: float) -> list[float]:
    """Wrist turns for pushing: the broad side of the closed fingers first."""
    ahead = handle.at(target)[0] - handle.at(handle.fraction())[0]
    if float(np.hypot(*ahead[:2])) < 1e-3:
        return [0.0, *(k * np.pi / 6 for k in (1, -1, 2, -2, 3))]
    across = float(np.arctan2(ahead[0], -ahead[1])) - arm.planner.closing_angle()
    return sorted((arm.nearest_turn(across + k * np.pi / 2) for k in range(4)), key=abs)


def _plan_push(arm: Arm, handle: Handle, target: float, yaw: float, beyond: float) -> tuple[list[Pose], Path]:
    start = handle.fraction()
    here, ahead = handle.at(start)[0], handle.at(start + 0.02 * np.sign(target - start))[0] - handle.at(start)[0]
    ahead = ahead / np.linalg.norm(ahead)
    free = arm.centered(Pose(here, yaw), 0.0)
    clear = _clearance(arm, handle, free, ahead)
    begin = free.moved(-ahead * (clear + _RUN_UP * arm.scale))
    above = begin.lifted(max(arm.transit_height(), begin.pos[2] + 0.03 * arm.scale))
    reach = arm.reach(above)
    down = arm.plan([above, begin], q0=reach.q, slow=0.8)
    way = handle.travel(start, target) + _RUN_UP * arm.scale
    poses, fractions = [], []
    for share in arm.planner.rhythm(way, 0.0, slow=_STEP):
        fraction = start + share * (target - start)
        last = (1.0 - share) * _RUN_UP * arm.scale - share * beyond
        at = handle.at(fraction)[0] - here
        step = handle.at(min(max(fraction + 0.01, 0.01), 1.0))[0] - handle.at(min(max(fraction - 0.01, 0.0), 0.99))[0]
        heading = np.sign(target - start) * step / np.linalg.norm(step)
        poses.append(free.moved(at - heading * (clear + last)))
        fractions.append(fraction)

    def hits(q: np.ndarray, i: int) -> str | None:
        return arm.planner.collision(q, 0.0, None, frozenset((handle.part,)), handle.qpos(fractions[i]))

    return [*reach.poses, *down.poses], arm.planner.track(poses, down.q, hits)


def _clearance(arm: Arm, handle: Handle, tool: Pose, ahead: Float[np.ndarray, "3"]) -> float:
    """How far behind the handle's site the closed tool just touches it [m]."""
    q = arm.q_at(tool)
    for back in np.arange(0.0, 0.08, 0.002):
        pose = tool.moved(-ahead * back * arm.scale)
        q = arm.scene.ik.solve(pose.pos, arm.planner.rotation(pose), q, iterations=20).q
        if arm.planner.collision(q, 0.0, None, frozenset()) is None:
            return float(back) * arm.scale
    raise PlanFailure("COLLISION", f"no free place behind '{handle.part}'")
