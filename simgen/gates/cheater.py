"""The cheater: looks for states and actions that count as success although the task was not performed.

Two searches: edits of the start state by hand (nudge, slam a joint, hold in the gripper, throw, topple, pile up), after
which physics runs with the robot at rest; and trajectory optimisation of the bare goal through the actuators. Whatever
counts as done is then judged by what the task's skills promise. A finding is minimised, and its state is a mutant: one
that a repaired goal must call false.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robostack.errors import ConfigError, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import train_seed
from robostack.task.evaluate import GoalMonitor, margin
from robostack.task.spec import Subgoal, TaskSpec
from simgen.experts.method import Context
from simgen.experts.result import EpisodeOver
from simgen.experts.skills import Skills
from simgen.experts.trajopt import Budget, TrajOpt
from simgen.gates.cheater_evidence import Evidence, Track, fleeting, judge
from simgen.gates.cheater_moves import Cheat, cheats
from simgen.gates.stage import Stage

_AFTER_S = 1.0  # physics goes on this long after success, to see whether it lasts
_CARRIES = ("place_on", "place_in", "stack", "place_beside", "place_at", "insert")
_SETTLE_S = 0.5  # of an edited state before it must begin to hold


@dataclass(frozen=True)
class CheatBudget:
    """How hard to look.

    Attributes:
        seeds: scenes to look in.
        edits: edited states per scene.
        plans: plans of the search through the actuators, in the first scene; 0 leaves that search out.
        population: candidates per iteration of that search.
    """

    seeds: int = 3
    edits: int = 400
    plans: int = 3
    population: int = 24

    def __post_init__(self):
        if self.seeds < 1 or min(self.edits, self.plans) < 0 or self.population < 8:
            raise ConfigError(
                f"cheater: needs seeds >= 1, edits and plans >= 0, population >= 8, not seeds={self.seeds},"
                f" edits={self.edits}, plans={self.plans}, population={self.population}"
            )


@dataclass(frozen=True)
class Exploit:
    """A success that is none.

    Attributes:
        cheat: how: nudge, joint, beside, lean, rim, hand, topple, throw, pile, deal, or actions.
        seed: of the scene.
        evidence: why it is none.
        explanation: one line for a person.
        state: MuJoCo's integration state in which the task counts as done; a mutant for the goal.
        margin: of the goal in that state.
        actions: what leads there through the actuators; None for an edited state.
    """

    cheat: str
    seed: int
    evidence: tuple[Evidence, ...]
    explanation: str
    state: np.ndarray
    margin: float
    actions: np.ndarray | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of the evidence."""
        return frozenset(e.kind for e in self.evidence)


def search_exploits(spec: TaskSpec, *, budget: CheatBudget | None = None, seed: int = 0) -> tuple[Exploit, ...]:
    """Exploits of a task's goal, at most one for each kind of evidence; none when the goal withstood the search.

    Deterministic in (spec, budget, seed); ``seed`` is the index of the first scene.
    """
    budget = budget or CheatBudget()
    found: dict[str, Exploit] = {}
    nudged: list[Exploit] = []
    env = TaskEnv(spec)
    stage, scenes = Stage(env), 0
    for index in range(seed, seed + budget.seeds):
        try:
            stage.restart(train_seed(index))
        except SceneError:
            continue
        scenes += 1
        near = None
        for exploit in _edited(spec, stage, train_seed(index), budget.edits):
            near = near or (exploit if exploit.kinds == {"NUDGED"} else None)
            for kind in exploit.kinds - {"NUDGED"}:
                found.setdefault(kind, exploit)
        nudged += [near] if near is not None else []
        if scenes == 1 and budget.plans:
            for exploit in _acted(spec, train_seed(index), budget):
                for kind in exploit.kinds:
                    found.setdefault(kind, exploit)
    if nudged and 2 * len(nudged) > scenes:  # in one scene a thing may happen to start close to its place
        found.setdefault("NUDGED", nudged[0])
    return tuple({id(e): e for e in found.values()}.values())


# States that are put up by hand.


def _edited(spec: TaskSpec, stage: Stage, seed: int, limit: int):
    start = stage.save()
    seen: set[frozenset[str]] = set()
    for cheat in list(cheats(spec, stage))[:limit]:
        exploit = _played(spec, stage, start, cheat, seed)
        if exploit is None or exploit.kinds in seen:
            continue
        seen.add(exploit.kinds)
        yield _minimal(spec, stage, start, cheat, exploit)


def _minimal(spec: TaskSpec, stage: Stage, start: np.ndarray, cheat: Cheat, exploit: Exploit) -> Exploit:
    """Drop edits as long as the same evidence remains."""
    index = 0
    while len(cheat.edits) > 1 and index < len(cheat.edits):
        smaller = cheat.without(index)
        again = _played(spec, stage, start, smaller, exploit.seed)
        if again is not None and again.kinds == exploit.kinds:
            cheat, exploit = smaller, again
        else:
            index += 1
    return exploit


def _played(spec: TaskSpec, stage: Stage, start: np.ndarray, cheat: Cheat, seed: int) -> Exploit | None:
    """Let physics run from the edited state with the robot at rest; an exploit if it counts as done and is not."""
    stage.load(start)
    if not cheat.apply(stage):
        return None
    env, ctrl = stage.env, stage.data.ctrl.copy()
    monitor = GoalMonitor(spec, stage.world)
    state, value, evidence, time_s = None, 0.0, (), 0.0
    for _ in range(round((_SETTLE_S + spec.hold.seconds + _AFTER_S) / env.dt_s)):
        monitor.update(time_s)
        if monitor.success:
            state, value = stage.save(), margin(spec.goal, stage.world)
            evidence = judge(spec, stage.world, track=None)
            break
        stage.scene.step(ctrl)
        time_s += env.dt_s
    if state is None or not np.isfinite(value):
        return None
    if not evidence:
        for _ in range(round(_AFTER_S / env.dt_s)):
            stage.scene.step(ctrl)
        evidence = fleeting(spec, stage.world)
    if not evidence and cheat.name == "nudge" and any(s.skill in _CARRIES for s in spec.subgoals):
        evidence = (_nudged(stage, cheat),)
    if not evidence:
        return None
    return Exploit(cheat.name, seed, evidence, _explain(cheat.name, evidence), state, value)


def _nudged(stage: Stage, cheat: Cheat) -> Evidence:
    edit, initial = cheat.edits[0], stage.world.initial
    assert edit.pos is not None
    assert initial is not None
    length = float(np.linalg.norm(np.asarray(edit.pos) - initial.pos[edit.entity]))
    why = f"'{edit.entity}' was moved by {1e2 * length:.0f} cm only"
    return Evidence("NUDGED", why, "tighten the distance that the goal allows, or place things farther apart")


def _explain(cheat: str, evidence: tuple[Evidence, ...]) -> str:
    return f"{cheat}: the task counts as done although {'; '.join(e.why for e in evidence)}. {evidence[0].fix}"


# Through the actuators.


def _acted(spec: TaskSpec, scene_seed: int, budget: CheatBudget):
    """Optimise the bare goal, then judge the episode if it is a success."""
    env = TaskEnv(spec)
    env.reset_scene(scene_seed)
    skills, track, sent = Skills(env), Track.fresh(), []

    def send(action: np.ndarray) -> None:
        if env.over:
            raise EpisodeOver
        env.apply(action)
        sent.append(np.asarray(action, np.float32))
        track.note(spec, env.scene.world)

    skills.on_action = send
    bare = Subgoal(skill="achieve", args=(), goal=spec.goal)
    method = TrajOpt(Budget(population=budget.population, elites=4, iterations=2, plans=budget.plans, threads=1))
    try:
        method.attempt(Context(env, skills, send, 0, scene_seed), bare)
        for _ in range(round((spec.hold.seconds + 0.2) / env.dt_s)):
            skills.wait(env.dt_s)
    except EpisodeOver:
        pass
    if not env.success:
        return
    evidence = judge(spec, env.scene.world, track=track)
    if evidence:
        state, value = env.scene.get_state(), margin(spec.goal, env.scene.world)
        yield Exploit("actions", scene_seed, evidence, _explain("actions", evidence), state, value, np.stack(sent))
