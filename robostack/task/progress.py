"""How far a task is: a progress in [0, 1] that is derived from its predicates alone.

Progress phi: stages (the subgoals in order, then the goal) are gated one after another; a stage adds how near the
gripper is to what it moves, whether that is grasped, and how far the margins of its predicate have come since reset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.contradiction import contradiction, held_at_end
from robostack.task.gauge import Gauge, gauge
from robostack.task.ground import ground, grounded_atoms
from robostack.task.margins import Memory, diverged
from robostack.task.predicate import AnyPred, all_of, memoryless
from robostack.task.spec import Subgoal, TaskSpec
from robostack.task.world import World

SUBGOALS = 0.9  # share of all subgoals; the rest is the goal's
REACH, GRASP = 0.25, 0.1  # shares within a stage
REACHED_M = 0.06  # a tool this close to the centre of an object has reached it
KEEP = 0.8  # a subgoal that was achieved stays so while its own progress is above this
_PREHENSILE = ("pick", "place_on", "place_in", "stack", "place_beside", "place_at", "insert", "tool_push")


@dataclass(frozen=True)
class _Stage:
    """A subgoal, or the goal.

    Attributes:
        pred: what it is to bring about, grounded.
        subject: the entity that the gripper goes to; empty if none is known.
        joint: the joint of that entity whose handle it goes to; empty for the entity itself.
        grasps: whether it is picked up.
        passing: true only for a while on the way, as an open drawer that is closed again in the end.
        share: weight in the whole.
    """

    pred: AnyPred
    subject: str
    joint: str
    grasps: bool
    passing: bool
    share: float


class Progress:
    """Progress of one episode; ``update`` once per control step, after the simulator has refreshed its state.

    Stages that hold are ticked off in order. One that is lost again, by more than a fifth of its own progress, has to
    be done again, unless it is incompatible with a later one. The scale is affine such that the value is 0 at reset and
    1 when the goal holds.

    Attributes:
        names: of the components: ``<stage>.reach``, ``<stage>.grasp``, ``<stage>.goal``; the last stage is the goal.
        weights: of each component's stage, increasing along the task to 1.
        value: phi as of the last update.
        components: each in [0, 1], whether or not its turn has come.
    """

    value: float
    components: Float[np.ndarray, " K"]

    def __init__(self, spec: TaskSpec, world: World):
        self.world = world
        self._stages = _stages(spec, world)
        self._memory = Memory([stage.pred for stage in self._stages], world)
        names = [_component_names(number, stage) for number, stage in enumerate(self._stages)]
        self.names = tuple(name for group in names for name in group)
        shares = [(k + 1) / len(names) for k, group in enumerate(names) for _ in group]
        self.weights = tuple(shares)
        self.reset()

    def reset(self) -> None:
        """Start an episode: the world's state is the one at reset, and the reference from now on."""
        self._memory.reset()
        self._done = [False] * len(self._stages)
        self._distances = [max(self._distance(stage), REACHED_M + 1e-3) for stage in self._stages]
        self._gauges: list[Gauge] = [gauge(stage.pred, self.world, self._memory) for stage in self._stages]
        self._base = 0.0
        self._base = self._look()
        self.value = 0.0

    def update(self) -> float:
        """Look at the state; a diverged one leaves everything as it was. Returns ``value``."""
        if not diverged(self.world):
            self._memory.update()
            raw = self._look()
            self.value = 1.0 if raw >= 1.0 else min(max((raw - self._base) / (1.0 - self._base), 0.0), 1.0)
        return self.value

    def _look(self) -> float:
        """Refresh the components; phi before it is scaled."""
        total, turn, components = 0.0, True, []
        for number, (stage, measure) in enumerate(zip(self._stages, self._gauges, strict=True)):
            reach, grasp, far = self._reach(number), float(stage.grasps and self._grasped(stage)), measure()
            components += [value for value, has in ((reach, stage.subject), (grasp, stage.grasps)) if has] + [far]
            if not turn:
                continue
            is_goal = number == len(self._stages) - 1
            if self._done[number] and not is_goal and (stage.passing or far >= KEEP):
                total += stage.share
                continue
            self._done[number] = far >= 1.0
            turn = far >= 1.0
            total += stage.share * (1.0 if turn else _blend(stage, max(reach, grasp), grasp, far))
        self.components = np.array(components)
        return 1.0 if self._gauges[-1]() >= 1.0 else min(total, 1.0 - 1e-9)

    def _reach(self, number: int) -> float:
        distance, start = self._distance(self._stages[number]), self._distances[number]
        return min(max((start - distance) / (start - REACHED_M), 0.0), 1.0)

    def _distance(self, stage: _Stage) -> float:
        """From the tool to the stage's subject [m]."""
        if not stage.subject:
            return 0.0
        x, y, z = self.world.data.site_xpos[self.world.robot.ee_site].tolist()
        if stage.joint:
            handle = self.world.entities[stage.subject].joints[stage.joint].handle
            p, q, r = self.world.data.site_xpos[handle].tolist()
        else:
            p, q, r = geo.com(self.world, stage.subject)
        return math.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2)

    def _grasped(self, stage: _Stage) -> bool:
        return ATOMS["grasped"].fn(self.world, stage.subject) >= 0.0


def _blend(stage: _Stage, reach: float, grasp: float, far: float) -> float:
    if not stage.subject:
        return far
    grasp_share = GRASP if stage.grasps else 0.0
    return REACH * reach + grasp_share * grasp + (1.0 - REACH - grasp_share) * far


def _component_names(number: int, stage: _Stage) -> list[str]:
    return [
        f"{number}.{part}" for part, has in (("reach", stage.subject), ("grasp", stage.grasps), ("goal", True)) if has
    ]


def _stages(spec: TaskSpec, world: World) -> list[_Stage]:
    preds = [ground(s.goal, spec) for s in spec.subgoals]
    goal = ground(spec.goal, spec)
    stages = []
    for number, (subgoal, pred) in enumerate(zip(spec.subgoals, preds, strict=True)):
        subject, joint = _subject(subgoal, world)
        passing = _is_passing(spec, pred, (*preds[number + 1 :], memoryless(goal)))
        stages.append(_Stage(pred, subject, joint, _grasps(subgoal, subject, world), passing, SUBGOALS / len(preds)))
    subject, joint = ("", "") if stages else _first_subject(spec, world)
    return [*stages, _Stage(goal, subject, joint, False, False, 1.0 - SUBGOALS if stages else 1.0)]


def _subject(subgoal: Subgoal, world: World) -> tuple[str, str]:
    """Entity, and joint if any, that the skill takes hold of."""
    entity = subgoal.args[0] if subgoal.args else ""
    if not isinstance(entity, str) or entity not in world.entities:
        return "", ""
    joint = subgoal.args[1] if len(subgoal.args) > 1 else ""
    return entity, joint if isinstance(joint, str) and joint in world.entities[entity].joints else ""


def _first_subject(spec: TaskSpec, world: World) -> tuple[str, str]:
    """The same for a task without subgoals: what its goal names first of all that can be moved."""
    for atom in grounded_atoms(spec.goal, spec.entities):
        if atom.name == "joint":
            return str(atom.args[0]), str(atom.args[1])
        for arg in atom.args:
            for name in arg if isinstance(arg, tuple) else (arg,):
                if name in world.entities and world.entities[str(name)].dof >= 0:
                    return str(name), ""
    return "", ""


def _grasps(subgoal: Subgoal, subject: str, world: World) -> bool:
    return subgoal.skill in _PREHENSILE and bool(subject) and bool(world.entities[subject].geoms)


def _is_passing(spec: TaskSpec, pred: AnyPred, later: tuple[AnyPred, ...]) -> bool:
    """Whether the predicate cannot, or need not, hold any more at the end."""
    if held_at_end(spec, pred) or any(contradiction(all_of(pred, other)) for other in later):
        return True
    final = list(grounded_atoms(spec.goal, spec.entities, final=True))
    passing = [atom for atom in grounded_atoms(spec.goal, spec.entities) if atom not in final]
    return any(atom in passing for atom in grounded_atoms(pred, spec.entities))
