"""Which subgoals are still to be done: their truth now, what is undone on purpose, and what cannot last."""

from __future__ import annotations

import math

from robostack.sim.env import TaskEnv
from robostack.task.margins import Memory, diverged, evaluate
from robostack.task.predicate import Seq, walk

_CONTRARY = ("open", "close", "turn", "press")


class Agenda:
    """The subgoals of one task through one episode.

    Attributes:
        in_order: the goal is a sequence: a subgoal comes after all those before it, and counts for good.
    """

    def __init__(self, env: TaskEnv):
        self._world, self._subgoals = env.scene.world, env.task.subgoals
        self.in_order = any(isinstance(node, Seq) for node in walk(env.task.goal))
        self._springs = frozenset(i for i, s in enumerate(self._subgoals) if _springs_back(env, s.args))
        self._memory = Memory([s.goal for s in self._subgoals], self._world)
        self.reset()

    def reset(self) -> None:
        """Start an episode; the world's state is the one at reset."""
        self._memory.reset()
        self._done: set[int] = set()
        self._active, self._peak = -1, -math.inf

    def start(self, index: int) -> None:
        """A subgoal is going to be attempted."""
        self._active, self._peak = index, -math.inf

    def update(self) -> None:
        """Look at the state once per control step."""
        if diverged(self._world):
            return
        self._memory.update()
        if self._active in self._springs:
            self._peak = max(self._peak, self._margin(self._active))

    def achieved(self, index: int) -> bool:
        """Whether the attempt that was started brought it about; what springs back need not be true any more."""
        if self._margin(index) >= 0 or (index in self._springs and self._peak >= 0):
            self._done.add(index)
            return True
        return False

    def met(self, index: int) -> bool:
        """Holds now; or was achieved, and then counts for good."""
        lasting = self.in_order or index in self._springs
        return (lasting and index in self._done) or (not self.in_order and self._margin(index) >= 0)

    def needed(self, index: int) -> bool:
        """Not met, and not undone on purpose by a later subgoal, as a drawer that was opened, filled and closed."""
        if self.met(index):
            return False
        if self.in_order:
            return True
        subgoals = self._subgoals
        for later in range(index + 1, len(subgoals)):
            if _contrary(subgoals[index], subgoals[later]):
                return not all(self.met(k) for k in range(index + 1, later + 1))
        return True

    def _margin(self, index: int) -> float:
        if diverged(self._world):
            return -math.inf
        return evaluate(self._subgoals[index].goal, self._world, memory=self._memory)


def _contrary(first, second) -> bool:
    return first.skill in _CONTRARY and second.skill in _CONTRARY and first.args[:2] == second.args[:2]


def _springs_back(env: TaskEnv, args: tuple[str | float, ...]) -> bool:
    names = [str(arg) for arg in args[:2]]
    binding = env.scene.world.entities.get(names[0]) if len(names) == 2 else None
    joint = binding.joints.get(names[1]) if binding else None
    model = env.scene.model
    return joint is not None and bool(model.jnt_stiffness[model.dof_jntid[joint.dof]] > 0)
