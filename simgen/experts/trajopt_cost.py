"""What a simulated candidate is worth: the goal's margin made dense, reach, effort, stillness, forbidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from robostack.sim.env import TaskEnv
from robostack.task.atoms import ATOMS
from robostack.task.evaluate import compile_pred, ground, margin
from robostack.task.predicate import And, AnyPred, Atom, Or, atoms_of
from robostack.task.world import World
from simgen.experts.trajopt_rollout import Rollouts, ToolPath

_METRES = {"m": 1.0, "m/s": 0.1, "rad": 0.1, "m or rad": 0.3, "1": 0.05, "N": 0.01, "frac": 0.2}
_MEAN = 0.3  # share of the mean over a conjunction's parts: a part that is not the worst one pulls too
_REACH, _SPEED, _EFFORT, _NEVER, _TOUCH = 0.15, 0.05, 0.02, 5.0, 0.02
_SAMPLES = 6  # instants of the moving part that are judged


def dense(pred: AnyPred, world: World) -> float:
    """A margin in metres that every part of a conjunction pulls up; its sign need not be that of ``margin``."""
    if isinstance(pred, And):
        parts = [dense(part, world) for part in pred.parts]
        return (1.0 - _MEAN) * min(parts) + _MEAN * sum(parts) / len(parts)
    if isinstance(pred, Or):
        return max(dense(part, world) for part in pred.parts)
    scale = min((_METRES.get(ATOMS[a.name].unit, 0.1) for a in atoms_of(pred)), default=1.0)
    return scale * float(np.clip(margin(pred, world), -5.0, 5.0))


def movables(pred: AnyPred, world: World) -> tuple[str, ...]:
    """Entities of a predicate that can move, in order of appearance; all that can when it names none."""

    def moves(name: object) -> bool:
        binding = world.entities.get(name) if isinstance(name, str) else None
        return binding is not None and (binding.dof >= 0 or bool(binding.joints))

    found = dict.fromkeys(n for n in _names(pred) if moves(n))
    return tuple(found) or tuple(n for n in world.entities if moves(n))


def _names(pred: AnyPred) -> Iterator[str]:
    for found in atoms_of(pred):
        for arg in found.args:
            yield from (str(a) for a in arg) if isinstance(arg, tuple) else (str(arg),)


def destination(pred: AnyPred, entity: str, world: World) -> np.ndarray | None:
    """Where the predicate wants the entity [m, world]: the place of the other one of its first two-place atom."""
    for found in atoms_of(pred):
        if not _mentions(found, entity):
            continue
        for arg in found.args:
            if isinstance(arg, tuple) and len(arg) == 7:
                return np.asarray([float(v) for v in arg[:3]])
            if isinstance(arg, str) and arg != entity and arg in world.entities:
                return world.pos(arg).copy()
    return None


def _mentions(found: Atom, entity: str) -> bool:
    return any(arg == entity or (isinstance(arg, tuple) and entity in arg) for arg in found.args)


@dataclass(frozen=True)
class Judgement:
    """What a candidate is worth.

    Attributes:
        cost: less is better.
        margin: least margin of the goal over the final window.
        held: the goal is satisfied throughout that window.
        violated: something forbidden happened on the way.
    """

    cost: float
    margin: float
    held: bool
    violated: bool


class Objective:
    """Judges simulated candidates of one subgoal; ``window`` control steps at the end must all satisfy it.

    Satisfied means: the goal holds, what it names is at rest, nothing forbidden happened and, unless the goal is about
    a grasp or the task does not ask for it, the robot has let go.
    """

    def __init__(self, env: TaskEnv, goal: AnyPred, *, window: int):
        self.env, self.goal, self.window = env, ground(goal, env.task), window
        self._released = not any(a.name in ("grasped", "lifted") for a in atoms_of(goal))
        self.entities = movables(goal, env.scene.world)
        dofs = [env.scene.world.entities[e].dof for e in self.entities]
        self._dofs = [d for d in dofs if d >= 0]
        self._never: tuple[World, list[Callable[[], float]]] | None = None

    def judge(self, rollouts: Rollouts, states: np.ndarray, path: ToolPath) -> Judgement:
        """Cost of one candidate from its states (T, S) at the ends of the control steps."""
        steps = len(states)
        moving = range(steps - self.window)
        reach, violated = np.inf, False
        # Every step is checked for what must never happen; without that a few instants tell how near the tool came.
        for k in moving if self.env.task.never else moving[:: max(1, len(moving) // _SAMPLES)]:
            world = rollouts.world_at(states[k])
            reach = min(reach, self._distance(world))
            violated = violated or self._forbidden(world)
        values, least, fast, touched = [], np.inf, 0.0, 0.0
        for k in range(steps - self.window, steps):
            world = rollouts.world_at(states[k])
            if not np.isfinite(world.data.qpos).all():
                return Judgement(np.inf, -np.inf, False, True)
            values.append(dense(self.goal, world))
            least = min(least, margin(self.goal, world))
            fast = max(fast, self._excess_speed(world))
            touched += self._released and not rollouts.monitor.is_released()
            violated = violated or self._forbidden(world)
        cost = (
            -float(np.mean(values))
            + _REACH * reach
            + _SPEED * fast
            + _NEVER * violated
            + _TOUCH * touched / self.window
        )
        cost += _EFFORT * float(np.abs(np.diff(path.pos, axis=0)).sum())
        held = least >= 0 and fast <= 0 and not touched and not violated
        return Judgement(cost, float(least), bool(held), violated)

    def reached(self, env: TaskEnv) -> bool:
        """The same judgement on an environment that was really stepped, at its present state."""
        world = env.scene.world
        if env.monitor.violated or self._excess_speed(world) > 0 or margin(self.goal, world) < 0:
            return False
        return not self._released or env.monitor.is_released()

    def _forbidden(self, world: World) -> bool:
        if self._never is None or self._never[0] is not world:
            self._never = world, [compile_pred(p, world) for p in self.env.task.never]
        return any(never() >= 0 for never in self._never[1])

    def _excess_speed(self, world: World) -> float:
        hold, qvel = self.env.task.hold, world.data.qvel
        lin = max((float(np.linalg.norm(qvel[d : d + 3])) for d in self._dofs), default=0.0)
        ang = max((float(np.linalg.norm(qvel[d + 3 : d + 6])) for d in self._dofs), default=0.0)
        return max(0.0, lin - hold.max_lin) + max(0.0, ang - hold.max_ang) * hold.max_lin / hold.max_ang

    def _distance(self, world: World) -> float:
        tool = world.data.site_xpos[world.robot.ee_site]
        return min(float(np.linalg.norm(p - tool)) for p in anchors(world, self.entities))


def anchors(world: World, entities: Sequence[str]) -> list[np.ndarray]:
    """Where each entity is taken hold of [m, world]: the handles of an articulated one, else its centre of mass."""
    out = []
    for name in entities:
        joints = world.entities[name].joints.values()
        out += [world.data.site_xpos[j.handle].copy() for j in joints] or [world.com(name).copy()]
    return out
