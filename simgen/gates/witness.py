"""The witness: a state, put up by hand and settled by physics, in which the goal holds.

No witness is the strongest single sign of a wrong predicate. The nearest published relative is the validated goal
snapshot of RoboPlayground (arXiv 2604.05226).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robostack.errors import RobostackError
from robostack.task.evaluate import margin, text
from robostack.task.predicate import atoms_of, remembers
from simgen.gates.candidate import Candidate
from simgen.gates.constructors import construct
from simgen.gates.stage import Stage
from simgen.gates.wishes import Plan, Wish, plan

MAX_TRIES = 200
SETTLE_S, _GLANCE_S, _RESTING = 1.0, 0.3, 0.01
_BEFORE_SETTLING = (
    *("left_of", "right_of", "front_of", "behind", "near", "far"),
    *("aligned", "sorted", "spread", "pose_at", "joint", "upright", "moved"),
)


@dataclass(frozen=True)
class Witness:
    """A state in which the goal holds.

    Attributes:
        seed: of the start state that it was made from, whose snapshot it is judged against.
        plan: the choices that it satisfies.
        stages: states that have to pass by first, of goals with a memory.
        state: the state itself.
        tries: attempts that it took.
    """

    seed: int
    plan: Plan
    stages: tuple[np.ndarray, ...]
    state: np.ndarray
    tries: int


def find_witness(candidate: Candidate) -> Witness | None:
    """The first of at most 200 constructed states in which the goal holds through its hold window."""
    starts = candidate.starts
    if not starts:
        return None
    stage = Stage(candidate.env)
    for tries in range(1, MAX_TRIES + 1):
        rng = candidate.rng("witness", tries)
        seed = starts[(tries - 1) // 5 % len(starts)].seed
        wishes = plan(candidate.spec, candidate.spec.goal, rng)
        states = _states(stage, seed, wishes, rng)
        if states is None:
            continue
        *earlier, final = states
        if stage.holds_live(tuple(earlier), final) and stage.holds_frozen(tuple(earlier), final):
            return Witness(seed, wishes, tuple(earlier), final, tries)
    return None


def states_of(candidate: Candidate, stage: Stage, seed: int, rng: np.random.Generator) -> list[np.ndarray] | None:
    """One attempt to put up the stages of the goal and its end, from the start state of a seed."""
    return _states(stage, seed, plan(candidate.spec, candidate.spec.goal, rng), rng)


def _states(stage: Stage, seed: int, wishes: Plan, rng: np.random.Generator) -> list[np.ndarray] | None:
    stage.restart(seed)
    states = []
    before = {name: stage.pose(name) for name in stage.world.entities if stage.free(name)}
    held: set[str] = set()
    for number, part in enumerate((*wishes.stages, wishes.final)):
        for name in held:
            stage.park()
            stage.put(name, *before[name])
        stage.refresh()
        held = {str(w.atom.args[0]) for w in part if w.positive and w.atom.name in ("grasped", "lifted")}
        if not construct(stage, part, rng) or not plausible(stage, part):
            return None
        if number == len(wishes.stages) and not _settled(stage):
            return None
        if any(w.number for w in stage.data.warning):
            return None
        states.append(stage.save())
        if number < len(wishes.stages):
            stage.settle(_GLANCE_S)  # what springs back does so before the next part
    return states


def _settled(stage: Stage) -> bool:
    """Let physics run; False as soon as everything rests and the goal does not hold."""
    goal = stage.env.task.goal
    stage.settle(_GLANCE_S)
    resting = all(max(stage.world.velocity(name)) < _RESTING for name in stage.world.entities)
    if resting and not remembers(goal) and margin(goal, stage.world) < 0.0:
        return False
    stage.settle(SETTLE_S - _GLANCE_S)
    return True


def plausible(stage: Stage, wishes: tuple[Wish, ...]) -> bool:
    """Whether the wishes hold that settling will not bring about: saves the time of settling."""
    stage.refresh()
    return all(holds(stage, wish) for wish in wishes if wish.atom.name in _BEFORE_SETTLING)


def unsatisfied(candidate: Candidate) -> str:
    """The atoms of the goal that never held in any construction tried: what to look at when there is no witness."""
    stage, seen = Stage(candidate.env), set()
    names: set[str] = set()
    for number in range(20):
        rng = candidate.rng("unsatisfied", number)
        wishes = plan(candidate.spec, candidate.spec.goal, rng)
        names.update(text(w.atom) for w in wishes.final if w.positive)
        try:
            stage.restart(candidate.starts[0].seed)
            if construct(stage, wishes.final, rng):
                stage.settle(SETTLE_S)
        except RobostackError:
            continue
        seen.update(text(w.atom) for w in wishes.final if w.positive and holds(stage, w))
    never = sorted(names - seen)
    if never:
        return f"never seen true: {', '.join(never[:4])}"
    atoms = sorted({atom.name for atom in atoms_of(candidate.spec.goal)})
    return f"its parts hold one by one, but never together: {', '.join(atoms)}"


def holds(stage: Stage, wish: Wish) -> bool:
    """Whether the state on the stage grants a wish."""
    value = margin(wish.atom, stage.world)
    return value >= 0.0 if wish.positive else value < 0.0
