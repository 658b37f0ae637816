"""One subgoal of a task as a small learning problem: move the tool a little, many times, and look each time.

The observation is relative to the tool. The reward is the progress made, the undiscounted difference of a potential,
plus a prize when the subgoal holds with the gripper withdrawn. (Discounting the difference, as Ng, Harada and Russell
1999 do, leaves every policy the same return but for the prize, which early episodes of a long task never see.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.rotation import canonical_rotation, rot6d
from robostack.sim.scene import train_seed
from robostack.task.evaluate import ground
from robostack.task.predicate import And, AnyPred
from robostack.task.spec import TaskSpec
from simgen.experts.motion import Pose
from simgen.experts.skills import Skills
from simgen.experts.trajopt_cost import Objective, anchors, dense, destination, movables
from simgen.experts.trajopt_rollout import Actions, ToolPath

Send = Callable[[Float[np.ndarray, " Da"]], Any]  # takes one action for one control step

_POTENTIAL, _REACH, _WIN = 10.0, 3.0, 5.0
_SCALE, _LEAST = 0.1, 0.01  # of margins that begin satisfied, or nearly so [m]
_PREPARE_TRIES = 20
_DESCENT = 0.04  # in a decision's time [m]
_PAST, _JITTER = 0.7, 0.6  # share of the scout's episodes that go past things; largest noise, in decisions
_FEW = 3  # entities that are all seen; of more, as many of the nearest


@dataclass(frozen=True)
class Moves:
    """What one decision may do.

    Attributes:
        repeat: control steps per decision.
        step: farthest move of the tool per decision along x, y, z [m], its turn [rad], the change of the opening; what
            is 0 is not part of the action.
        window: decisions for which the subgoal must hold.
        grip: opening of the gripper to begin with, 0 closed, 1 open.
        height: of the tool over the table to begin with [m]; 0 stays where it is.
    """

    repeat: int = 4
    step: tuple[float, float, float, float, float] = (0.04, 0.04, 0.04, 0.0, 0.0)
    window: int = 2
    grip: float = 0.0
    height: float = 0.0

    def __post_init__(self):
        counts, steps = min(self.repeat, self.window) >= 1, min(self.step) >= 0 and any(self.step)
        if not (counts and steps and 0 <= self.grip <= 1 and 0 <= self.height < 1):
            raise ConfigError(
                f"rl: repeat={self.repeat} and window={self.window} must be at least 1, some step of {self.step} > 0,"
                f" grip={self.grip} within 0 to 1, height={self.height} below 1"
            )


class Limb:
    """The tool under incremental commands: a decision -> a path -> float32 actions."""

    def __init__(self, env: TaskEnv, skills: Skills, moves: Moves):
        self.env, self.skills, self.moves = env, skills, moves
        self.active = np.flatnonzero(moves.step)
        self.actions = Actions(env, skills.planner)
        x0, y0, x1, y1 = env.scene.card.workspace
        floor = skills.planner.tip_below + 0.004
        self._low = np.array([x0 - 0.1, y0 - 0.1, floor, -np.pi / 2, 0.0])
        self._high = np.array([x1 + 0.1, y1 + 0.1, 0.35, np.pi / 2, 1.0])

    def begin(self, send: Send) -> None:
        """Bring gripper and tool to where the first decision starts; ``send`` takes one action after the other."""
        self.skills.opening = self.moves.grip
        height = np.clip(self.moves.height or self.where()[2], self._low[2], self._high[2])
        while abs(up := height - self.where()[2]) > 1e-6:
            self.follow(np.array([0.0, 0.0, np.clip(up, -_DESCENT, _DESCENT), 0.0, 0.0]), send)

    def where(self) -> Float[np.ndarray, "5"]:
        """The commanded pose and opening."""
        return np.array([*self.skills.pose.pos, self.skills.pose.yaw, self.skills.opening])

    def decide(self, decision: Float[np.ndarray, " A"], send: Send) -> None:
        """Carry out a decision in [-1, 1] per active axis, evenly over its control steps."""
        move = np.zeros(5)
        move[self.active] = np.clip(np.asarray(decision, float), -1.0, 1.0)
        self.follow(move * self.moves.step, send)

    def follow(self, move: Float[np.ndarray, "5"], send: Send) -> None:
        """Move the tool and the opening by so much in one decision's time, as far as the limits allow."""
        start = self.where()
        end = np.clip(start + move, self._low, self._high)
        share = np.arange(1, self.moves.repeat + 1)[:, None] / self.moves.repeat
        rows = start + share * (end - start)
        path = ToolPath(rows[:, :3], rows[:, 3], rows[:, 4])
        for (pose, opening), action in zip(path.poses(), self.actions.of(path, self.env.controller.q), strict=True):
            send(action)
            self.skills.pose, self.skills.opening = Pose(pose.pos.copy(), pose.yaw), opening


class Progress:
    """How far each part of a goal has come since ``begin``, and what to see to next."""

    def __init__(self, env: TaskEnv, goal: AnyPred):
        world = env.scene.world
        goal = ground(goal, env.task)
        self.env, self.parts = env, goal.parts if isinstance(goal, And) else (goal,)
        self._things = [movables(part, world) for part in self.parts]
        self._initial = [0.0] * len(self.parts)

    def begin(self) -> None:
        """Take the present state as the start."""
        self._initial = self._margins()

    def shares(self) -> list[float]:
        """Per part: 1 when it holds, 0 where it began, less where it has got worse."""
        return [_share(m, m0) for m, m0 in zip(self._margins(), self._initial, strict=True)]

    def focus(self, shares: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """From the tool to the nearest thing of a part that is not done, and from there to where it shall be [m]."""
        world, tool, best = self.env.scene.world, self.env.scene.tcp()[0], None
        for part, things, share in zip(self.parts, self._things, shares, strict=True):
            for name in things if share < 1.0 else ():
                for anchor in anchors(world, (name,)):
                    if best is None or np.linalg.norm(anchor - tool) < np.linalg.norm(best[0]):
                        aim = destination(part, name, world)
                        best = anchor - tool, np.zeros(3) if aim is None else aim - anchor
        return best or (np.zeros(3), np.zeros(3))

    def potential(self) -> float:
        """Share of the goal that is done, less the way to the nearest thing still to do."""
        shares = self.shares()
        return _POTENTIAL * sum(shares) / len(shares) - _REACH * float(np.linalg.norm(self.focus(shares)[0]))

    def _margins(self) -> list[float]:
        return [dense(part, self.env.scene.world) for part in self.parts]


def _share(now: float, initial: float) -> float:
    if now >= 0.0:
        return 1.0
    return max(-1.0, now / _SCALE if initial >= 0.0 else 1.0 - now / min(initial, -_LEAST))


class Eye:
    """The observation: the tool, what to see to next, the goal's parts, then the entities relative to the tool."""

    def __init__(self, env: TaskEnv, goal: AnyPred):
        self.env, self.progress = env, Progress(env, goal)
        self.width = len(self.look(np.zeros(5)))

    def look(self, commanded: Float[np.ndarray, "5"]) -> Float[np.ndarray, " Do"]:
        """Metres, metres per second, fractions; float32."""
        scene, world = self.env.scene, self.env.scene.world
        tool, shares = scene.tcp()[0], self.progress.shares()
        parts = [commanded[:3], tool - commanded[:3], commanded[3:], *self.progress.focus(shares), np.asarray(shares)]
        for name in self._nearest(tool):
            binding = world.entities[name]
            free = binding.dof >= 0
            fractions = [world.fraction(name, joint) for joint in binding.joints]
            parts.append(world.pos(name) - tool)
            parts.append(rot6d(canonical_rotation(world.rot(name), binding.symmetry)))
            parts.append(world.data.qvel[binding.dof : binding.dof + 3] if free else np.zeros(3))
            parts.append(np.array(fractions[:1] or [0.0]))
        return np.concatenate(parts).astype(np.float32)

    def _nearest(self, tool: np.ndarray) -> list[str]:
        """All entities in their order where they are few, else those nearest to the tool."""
        names, world = list(self.env.scene.world.entities), self.env.scene.world
        if len(names) <= _FEW:
            return names
        return sorted(names, key=lambda name: float(np.linalg.norm(world.pos(name) - tool)))[:_FEW]


class SubgoalEnv(gymnasium.Env):
    """Gymnasium's view of one subgoal, from the reset state, or from where ``prepare`` leaves the scene."""

    def __init__(self, spec: TaskSpec, index: int, moves: Moves, *, first_seed: int = 0):
        self.env = TaskEnv(spec)
        self.skills = Skills(self.env)
        self.goal = spec.subgoals[index].goal
        self.limb, self.eye = Limb(self.env, self.skills, moves), Eye(self.env, self.goal)
        self.objective = Objective(self.env, self.goal, window=moves.window)
        self.next_seed = first_seed
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(self.limb.active),), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.eye.width,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start on the next seed of the training namespace whose scene can be built; all arguments are ignored."""
        del seed, options  # the sequence of scenes is part of the training's determinism
        for _ in range(_PREPARE_TRIES):
            index, self.next_seed = self.next_seed, self.next_seed + 1
            try:
                self.env.reset_scene(train_seed(index))
                break
            except SceneError:
                continue
        else:
            raise SceneError(
                "PLACEMENT_INFEASIBLE", f"{_PREPARE_TRIES} seeds in a row failed: see  robostack gen verify"
            )
        self.skills.reset()
        self.limb.begin(self.env.apply)
        self._held = 0
        self.eye.progress.begin()
        self._phi = self.eye.progress.potential()
        return self._look(), {}

    def step(self, action: np.ndarray):
        """One decision."""
        self.limb.decide(action, self.env.apply)
        self._held = self._held + 1 if self.objective.reached(self.env) else 0
        won, lost = self._held >= self.objective.window, self.env.monitor.violated
        phi = self.eye.progress.potential()
        reward = phi - self._phi + _WIN * won - _WIN * lost
        self._phi = phi
        late = self.env.t_s >= self.env.task.horizon_s - 1.0
        return self._look(), float(reward), won or lost, bool(late and not (won or lost)), {"success": won}

    def _look(self) -> np.ndarray:
        return self.eye.look(self.limb.where())


class Scout:
    """Exploration to begin with: noisily straight for what is to be seen to next, or down beside it and then past it.

    Every episode draws one of the two and an offset. Demonstrations in the replay buffer are what lets learning from
    rare success begin (Vecerik et al. 2017, arXiv 1707.08817).
    """

    def __init__(self, env: SubgoalEnv, rng: np.random.Generator):
        self.env, self.rng = env, rng
        self._steps = np.asarray(env.limb.moves.step)

    def begin(self) -> None:
        """Draw how the next episode goes."""
        scale = self.env.env.scene.card.object_scale
        self._past, self._noise = self.rng.random() < _PAST, _JITTER * self.rng.random()
        self._offset = 0.02 * scale * self.rng.standard_normal(3) + [0.0, 0.0, 0.025 * scale * self._past]
        self._over, self._beside = 0.08 * scale, 0.12 * scale

    def decide(self) -> Float[np.ndarray, " A"]:
        """The decision in the present state."""
        progress, active = self.env.eye.progress, self.env.limb.active
        ahead = np.zeros(5)
        ahead[:3] = progress.focus(progress.shares())[0] + self._offset
        if self._past:
            far = float(np.linalg.norm(ahead[:2]))
            along = ahead[:2] / max(far, 1e-6)
            low = ahead[2] > -0.3 * self._beside
            ahead[:2] = along * (far + self._over if low or far > 1.2 * self._beside else min(0.0, far - self._beside))
        decision = ahead[active] / self._steps[active] + self._noise * self.rng.standard_normal(len(active))
        return np.clip(decision, -1.0, 1.0).astype(np.float32)
