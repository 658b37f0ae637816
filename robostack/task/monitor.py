"""One episode, watched."""

from __future__ import annotations

import math
from collections.abc import Iterable

from robostack.task import geometry as geo
from robostack.task.compiled import compile_pred
from robostack.task.ground import grounded_atoms
from robostack.task.margins import Memory, diverged, evaluate
from robostack.task.predicate import Atom
from robostack.task.spec import TaskSpec
from robostack.task.wording import text
from robostack.task.world import ROBOT, World

MOVED_M = 0.005  # a manipuland that moved less was not reached
MOVED_FRACTION = 0.02  # the same for a joint, of its range
RAISED_M = 0.02  # bottom above its height at reset: carried
FALLING_M = 0.01  # above this, untouched by anything: dropped
JOINT_RATE = 0.05  # a joint that moves slower is at rest [fractions of its range per s]
EPS_S = 1e-9


class GoalMonitor:
    """Watches one episode; call ``update`` once per control step, after the simulator has refreshed its state.

    Attributes:
        holding: the goal, with rest and release, has held for ``hold.seconds`` up to now.
        first_success_s: the first time at which ``holding`` was true [s]; NaN if never.
        violated: a ``never`` predicate was true at some step.
        violation: the first such predicate, as text; empty if none.
        moved, raised, dropped: per manipuland, whether it ever moved, was carried, fell through the air; ``moved`` also
            per articulated entity that the goal names.
        memory: what ``initially``, ``once`` and ``seq`` of the task remember.

    At rest and released: every manipuland, and every articulated entity whose state the goal is about at the end (not
    one that it only mentions in ``once`` or in a part of ``seq`` before the last). Tools are to be released as well.
    """

    def __init__(self, spec: TaskSpec, world: World):
        self.spec, self.world = spec, world
        self.memory = Memory((spec.goal, *spec.never), world)
        self._goal = compile_pred(spec.goal, world, self.memory)
        self._never = [(compile_pred(p, world, self.memory), p) for p in spec.never]
        self._items = tuple(e.id for e in spec.manipulands())
        tools = tuple(e.id for e in spec.entities if e.role == "tool")
        final = tuple(grounded_atoms(spec.goal, spec.entities, final=True))
        turned = {str(atom.args[0]) for atom in final if atom.name == "joint"}
        self._codes = frozenset(world.index[i] for i in (*self._items, *tools, *sorted(turned)))
        dofs = [world.entities[i].dof for i in self._items]
        self._dofs = tuple(d for d in dofs if d >= 0)
        self._joints = tuple((e, j) for e in _articulated(final, world) for j in world.entities[e].joints)
        self._articulated = _articulated(grounded_atoms(spec.goal, spec.entities), world)
        self.reset()

    def reset(self) -> None:
        """Forget the episode, and start one: the world's state is the one at reset."""
        self._since_s: float | None = None
        self.holding = False
        self.first_success_s = math.nan
        self.violated, self.violation = False, ""
        self.moved = dict.fromkeys((*self._items, *self._articulated), False)
        self.raised = dict.fromkeys(self._items, False)
        self.dropped = dict.fromkeys(self._items, False)
        self.memory.reset()

    @property
    def success(self) -> bool:
        """Holding now and nothing violated: what counts at the end of an episode."""
        return self.holding and not self.violated

    def update(self, t_s: float) -> None:
        """Advance to time ``t_s`` since reset [s]; a diverged state ends the hold window and judges nothing."""
        if diverged(self.world):
            self._since_s, self.holding = None, False
            return
        self._note_motion()
        if self.memory.nodes:
            self.memory.update()
        if not self.violated:
            for never, pred in self._never:
                if never() >= 0.0:
                    self.violated, self.violation = True, text(pred)
                    break
        if not (self.is_still() and self.is_released() and self._goal() >= 0.0):
            self._since_s, self.holding = None, False
            return
        if self._since_s is None:
            self._since_s = t_s
        self.holding = t_s - self._since_s >= self.spec.hold.seconds - EPS_S
        if self.holding and math.isnan(self.first_success_s):
            self.first_success_s = t_s

    def goal_margin(self) -> float:
        """Margin of the goal now, with what it remembers as of the last update; NaN in a diverged state."""
        return math.nan if diverged(self.world) else evaluate(self.spec.goal, self.world, {}, self.memory)

    def is_still(self) -> bool:
        """Every manipuland is slower than the hold's bounds now, and the joints that the goal is about are at rest."""
        lin2, ang2 = self.spec.hold.max_lin**2, self.spec.hold.max_ang**2
        qvel = self.world.data.qvel
        for dof in self._dofs:
            a, b, c, d, e, f = qvel[dof : dof + 6].tolist()
            if not (a * a + b * b + c * c <= lin2 and d * d + e * e + f * f <= ang2):
                return False
        return not self._joints or all(self.world.joint_speed(*joint) <= JOINT_RATE for joint in self._joints)

    def is_released(self) -> bool:
        """The robot touches no manipuland, tool or joint of the goal now, or the task does not ask for it."""
        if not self.spec.hold.released:
            return True
        return not any(
            (p == ROBOT and q in self._codes) or (q == ROBOT and p in self._codes) for p, q in geo.owners(self.world)
        )

    def _note_motion(self) -> None:
        initial = self.world.initial
        if initial is None:
            return
        for entity in self._articulated:
            if not self.moved[entity]:
                self.moved[entity] = any(
                    abs(self.world.fraction(entity, joint) - initial.joints.get((entity, joint), 0.0)) > MOVED_FRACTION
                    for joint in self.world.entities[entity].joints
                )
        for item in self._items:
            if not self.moved[item]:
                x, y, z = self.world.data.xpos[self.world.entities[item].body].tolist()
                p, q, r = initial.pos[item].tolist()
                self.moved[item] = (x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2 > MOVED_M**2
                continue
            if self.dropped[item]:
                continue
            height = geo.bottom(self.world, item) - initial.bottom[item]
            if height > RAISED_M:
                self.raised[item] = True
            if self.raised[item] and height > FALLING_M:
                self.dropped[item] = next(geo.contacts(self.world, item), None) is None


def _articulated(atoms: Iterable[Atom], world: World) -> tuple[str, ...]:
    """The entities with joints that the atoms name."""
    named = {n for atom in atoms for arg in atom.args for n in (arg if isinstance(arg, tuple) else (arg,))}
    return tuple(name for name, binding in world.entities.items() if name in named and binding.joints)
