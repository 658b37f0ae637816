"""Collision-free detours in joint space: RRT-Connect (Kuffner and LaValle 2000) by OMPL, shortened and timed.

A detour is executed as tool poses, which the controller turns back into joints on its own. It is therefore accepted
only after inverse kinematics has followed it pose by pose without a collision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from simgen.experts.motion import Held, Path, PlanFailure, Planner, Pose

_RANGE, _CHECK_EVERY = 0.4, 0.05  # longest extension, distance between collision checks [rad]
_ITERATIONS, _TRIES, _GOALS = 2000, 2, 3
_SHORTCUTS = 60
_SPEED = 0.45  # share of the card's joint speeds
_SMOOTHING_S = (0.3, 0.15, 0.0)  # windows of the moving average that rounds corners off, widest first [s]


class JointPlanner:
    """Plans detours for one scene. The same question gives the same path, in every process.

    Attributes:
        budget: how many searches may still be made; each takes up to seconds.
    """

    def __init__(self, planner: Planner):
        self.planner, self.scene = planner, planner.scene
        self.budget = 0

    def plan(
        self,
        start: Pose,
        goal: Pose,
        q0: Float[np.ndarray, " Nj"],
        opening: float,
        held: Held | None,
        touching: frozenset[str],
    ) -> Path:
        """A path from the commanded pose ``start`` at joints ``q0`` to ``goal``; raises PlanFailure without one."""
        q0 = np.clip(q0, self.scene.ik.lower, self.scene.ik.upper)

        def hits(q: np.ndarray, _: int = 0) -> str | None:
            return self.planner.collision(q, opening, held, touching)

        hit = hits(q0)
        if hit:
            raise PlanFailure("COLLISION", f"{hit} where the detour starts")
        goals = self._goals(goal, q0, hits)
        failure = PlanFailure("NO_PATH", f"no way round to {np.round(goal.pos, 3).tolist()} was found")
        for attempt in range(min(_TRIES, self.budget)):
            self.budget -= 1
            corners = _rrt_connect(q0, goals, self._bounds(), hits, seed=1 + attempt)
            if corners is None:
                continue
            for window_s in _SMOOTHING_S:
                try:
                    return self.planner.track(self._poses(corners, start, goal, window_s), q0, hits)
                except PlanFailure as error:
                    failure = error
        raise failure

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.scene.ik.lower, self.scene.ik.upper

    def _goals(self, goal: Pose, q0: np.ndarray, hits) -> list[np.ndarray]:
        """Joint positions that put the tool at ``goal`` without a collision, nearest first."""
        rng = np.random.Generator(np.random.Philox(key=[11, 0]))
        rot, ik, found, why = self.planner.rotation(goal), self.scene.ik, [], "out of reach"
        for guess in (q0, ik.home, *(ik.home + rng.normal(0.0, 0.5, len(q0)) for _ in range(6))):
            result = ik.solve(goal.pos, rot, guess, iterations=60)
            if result.position_error > 2e-3 or result.rotation_error > self.scene.card.tilt_tolerance:
                continue
            hit = hits(result.q)
            why = hit or why
            if not hit and all(np.abs(result.q - q).max() > 0.05 for q in found):
                found.append(result.q)
            if len(found) == _GOALS:
                break
        if not found:
            code = "NO_IK" if why == "out of reach" else "COLLISION"
            raise PlanFailure(code, f"{why} at {np.round(goal.pos, 3).tolist()}")
        return sorted(found, key=lambda q: float(np.abs(q - q0).max()))

    def _poses(self, corners: np.ndarray, start: Pose, goal: Pose, window_s: float) -> list[Pose]:
        """Tool poses at the control rate along the corners: minimum-jerk over the whole way, corners rounded off."""
        rate = self.scene.spec.robot.control_hz
        limit = _SPEED * np.asarray(self.scene.card.arm.velocity)
        seconds = np.cumsum(
            [0.0, *(float((np.abs(b - a) / limit).max()) for a, b in zip(corners, corners[1:], strict=False))]
        )
        n = max(4, int(np.ceil(1.5 * seconds[-1] * rate)))
        u = np.arange(n + 1) / n
        at = seconds[-1] * u**3 * (10 - 15 * u + 6 * u * u)
        q = np.stack([np.interp(at, seconds, column) for column in corners.T], axis=1)
        window = max(1, round(window_s * rate)) | 1
        pad = window // 2
        padded = np.concatenate([np.repeat(q[:1], window, axis=0), q, np.repeat(q[-1:], window, axis=0)])
        kernel = np.full(window, 1.0 / window)
        smooth = np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], axis=1)[pad + 1 : -(pad + 1)]
        poses, last = [], start
        for row in smooth:
            pos, rot = self.scene.ik.forward(row)
            last = self.planner.pose_of(pos, rot, like=last)
            poses.append(last)
        return [*poses, goal]


def _rrt_connect(
    q0: np.ndarray, goals: Sequence[np.ndarray], bounds: tuple[np.ndarray, np.ndarray], hits, *, seed: int
) -> np.ndarray | None:
    """Corners of a shortened path from ``q0`` to the one of the goals that was reached; None after too many samples."""
    from ompl import base, geometric, util

    # OMPL warns that re-seeding is not deterministic. It is: every generator of this call is made after it.
    util.setLogLevel(util.LogLevel.LOG_NONE)
    util.RNG.setSeed(seed)
    space = base.RealVectorStateSpace(len(q0))
    box = base.RealVectorBounds(len(q0))
    for i, (low, high) in enumerate(zip(*bounds, strict=True)):
        box.setLow(i, float(low) - 1e-9)
        box.setHigh(i, float(high) + 1e-9)
    space.setBounds(box)
    space.setLongestValidSegmentFraction(_CHECK_EVERY / space.getMaximumExtent())
    info = base.SpaceInformation(space)
    joints = range(len(q0))
    info.setStateValidityChecker(lambda state: hits(_joints(state, len(q0))) is None)
    info.setup()

    def state_of(q: np.ndarray):
        state: Any = space.allocState()
        for i in joints:
            state[i] = float(q[i])
        return state

    problem = base.ProblemDefinition(info)
    problem.addStartState(state_of(q0))
    ends = base.GoalStates(info)
    for q in goals:
        ends.addState(state_of(q))
    problem.setGoal(ends)
    planner = geometric.RRTConnect(info)
    planner.setRange(_RANGE)
    planner.setProblemDefinition(problem)
    planner.setup()
    asked = iter(range(_ITERATIONS))
    planner.solve(base.PlannerTerminationCondition(lambda: next(asked, None) is None))
    if not problem.hasExactSolution():
        return None
    path: Any = problem.getSolutionPath()
    simplifier = geometric.PathSimplifier(info)
    simplifier.reduceVertices(path, _SHORTCUTS, _SHORTCUTS)
    simplifier.partialShortcutPath(path, _SHORTCUTS, _SHORTCUTS)
    return np.array([_joints(state, len(q0)) for state in path.getStates()])


def _joints(state: Any, n: int) -> np.ndarray:
    return np.array([state[i] for i in range(n)])
