"""The router: who is to blame when a task is refused, from evidence that tells the suspects apart.

Each suspect is taken out of the game in turn, as GRS does with its tests (arXiv 2410.15536). Things are put to their
places by hand: then the robot is out. The gripper becomes a magnet: then grasping is out. The clock is stopped: then
the budget is out. What still fails is to blame.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from robostack.errors import RobostackError, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import train_seed
from robostack.task.evaluate import FailureCode
from robostack.task.spec import Hold
from simgen.experts.expert import Expert
from simgen.experts.result import Code as Skill
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.g5_reach import probe
from simgen.gates.intents import PLACES, intents_of
from simgen.gates.magnet import MagnetEnv
from simgen.gates.metamorphic import with_predicates
from simgen.gates.record import GateRecord
from simgen.gates.stage import Stage
from simgen.gates.witness import states_of

_SEEDS = 4
_METHODS = (
    "skill",
)  # the cheapest expert tells as much about what is in its way as the others, in a tenth of the time
_MAJORITY = 0.5
_PATIENCE = 3.0  # times the horizon, when the clock is to be ruled out
_PLANNING = (Skill.NO_IK, Skill.NO_PATH, Skill.COLLISION, Skill.UNREACHABLE)
_LATE = (Skill.TIMEOUT, FailureCode.HOLD_UNFINISHED, FailureCode.NOT_STILL)
_GRASPING = (Skill.GRASP_MISS, Skill.DROPPED, Skill.SLIP)


class Blame(StrEnum):
    """What has to be repaired."""

    SPEC = "SPEC"  # fields, words against cards, time
    SCENE = "SCENE"  # objects, places, the robot's reach
    PREDICATE = "PREDICATE"  # goal, hold, never
    EXPERT = "EXPERT"  # skills, planner, grasps
    ALIGNMENT = "ALIGNMENT"  # text against goal
    NOBODY = "NOBODY"


@dataclass(frozen=True)
class Evidence:
    """What was found, as (question, answer) in the order in which it was asked."""

    blame: Blame
    found: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """One line."""
        return f"{self.blame}: " + "; ".join(f"{question}? {answer}" for question, answer in self.found)


# Gates whose codes already name the culprit.
_BY_CODE = {
    **dict.fromkeys(
        (Code.SCHEMA, Code.BUDGET, Code.UNUSED_OBJECT, Code.DUPLICATE_SUBGOAL, Code.LIMITS, Code.RANGE, Code.TEXT),
        Blame.SPEC,
    ),
    **dict.fromkeys((Code.PREDICATE, Code.CONTRADICTION), Blame.PREDICATE),
    **dict.fromkeys((Code.UNKNOWN_ASSET, Code.UNKNOWN_ROBOT, Code.UNKNOWN_COLOR, Code.UNKNOWN_JOINT), Blame.SPEC),
    **dict.fromkeys((Code.BINDING, Code.AMBIGUOUS, Code.UNGROUNDED, Code.SLOTS), Blame.SPEC),
    **dict.fromkeys((Code.COMPILE, Code.MASS, Code.DENSITY, Code.INERTIA, Code.FRICTION), Blame.SCENE),
    Code.WARNINGS: Blame.SCENE,
    **dict.fromkeys((Code.PLACEMENT_INFEASIBLE, Code.UNSTABLE, Code.FLOATING, Code.SEED_REUSE), Blame.SCENE),
    **dict.fromkeys((Code.NOT_DETERMINISTIC, Code.SEEDS_EQUAL, Code.REPLAY_DIFFERS), Blame.SCENE),
    **dict.fromkeys((Code.PENETRATION, Code.UNREACHABLE, Code.TOO_WIDE, Code.NO_GRASP, Code.NO_GOAL_IK), Blame.SCENE),
    **dict.fromkeys((Code.PAYLOAD, Code.HANDLE_UNREACHABLE), Blame.SCENE),
    **dict.fromkeys((Code.TRIVIAL, Code.NOOP_SUCCESS, Code.RANDOM_SUCCESS), Blame.PREDICATE),
    **dict.fromkeys((Code.MUTANT_SURVIVED, Code.METAMORPHIC, Code.NEVER_FIRES, Code.INIT_FALSE), Blame.PREDICATE),
    Code.MISALIGNED: Blame.ALIGNMENT,
    **dict.fromkeys((Code.ACTIONS_DIFFER, Code.STATE_DIFFERS, Code.VERSION), Blame.EXPERT),
}


def route(candidate: Candidate, failed: GateRecord | None) -> Evidence:
    """Who is to blame for a refused task; the evidence is gathered by simulation where the code does not tell."""
    if failed is None or failed.ok:
        return Evidence(Blame.NOBODY, (("refused", "no"),))
    found = [("refused by", f"{failed.gate} {failed.code}")]
    code = Code(failed.code)
    if code in _BY_CODE:
        return Evidence(_BY_CODE[code], tuple(found))
    return _by_simulation(candidate, found)


def _by_simulation(candidate: Candidate, found: list[tuple[str, str]]) -> Evidence:
    """Rule out one suspect after the other: goal, hold and never, the clock, the arm's way, the grasp."""

    def verdict(blame: Blame) -> Evidence:
        return Evidence(blame, tuple(found))

    try:
        witness = candidate.witness
    except RobostackError as error:
        found.append(("builds", str(error)))
        return verdict(Blame.SPEC)
    found.append(("witness", "yes" if witness else "no"))
    if witness is None:
        lenient = _with_lenient_goal(candidate)
        found.append(("witness with usual tolerances and hold, nothing forbidden", "yes" if lenient else "no"))
        return verdict(Blame.PREDICATE if lenient else Blame.SCENE)
    teleport = _teleported(candidate)
    found.append(("things put there by hand stay", f"{teleport:.0%} of seeds"))
    if teleport < _MAJORITY:
        return verdict(Blame.PREDICATE)
    real, codes = _certified(candidate) or _solved(candidate, TaskEnv)
    found.append(("the expert", f"{real:.0%} ({', '.join(f'{c} {n}' for c, n in codes.most_common(3))})"))
    if real >= _MAJORITY:
        return verdict(Blame.NOBODY)
    if any(code in _LATE for code in codes):
        patient, _ = _solved(candidate, TaskEnv, patience=_PATIENCE)
        found.append((f"with {_PATIENCE:g} times the time", f"{patient:.0%}"))
        if patient >= _MAJORITY:
            return verdict(Blame.SPEC)
    magnetic, magnet_codes = _solved(candidate, MagnetEnv)
    found.append(("with a magnet for a gripper", f"{magnetic:.0%}"))
    planning = sum(n for code, n in magnet_codes.items() if code in _PLANNING)
    found.append(("planning fails", f"{planning} of {_SEEDS}"))
    if any(code.startswith(FailureCode.NEVER_VIOLATED) for code in magnet_codes):
        return verdict(Blame.PREDICATE)  # the way there is forbidden
    if magnetic < _MAJORITY and planning >= _MAJORITY * _SEEDS:
        blocked = _blocked(candidate)
        found.append(("things, places and handles within reach", blocked or "yes"))
        if blocked:
            return verdict(Blame.SCENE)
    grasping = sum(n for code, n in codes.items() if code in _GRASPING)
    found.append(("grasping fails", f"{grasping} of {codes.total()}"))
    return verdict(Blame.EXPERT)


def _with_lenient_goal(candidate: Candidate) -> bool:
    """Whether the goal can be satisfied with the tolerances that atoms have by themselves, and nothing forbidden."""
    relaxed = with_predicates(candidate.spec, lambda atom: {**atom, "tol": {}})
    relaxed = relaxed.model_copy(update={"never": (), "hold": Hold(released=False)})
    try:
        return Candidate(relaxed, build=candidate.build).witness is not None
    except RobostackError:
        return False


def _blocked(candidate: Candidate) -> str:
    """What the tool cannot get at of what the witness brings about, whichever skill is used; empty when nothing."""
    witness = candidate.witness
    assert witness is not None, "asked after a witness was found"
    pushed = {str(s.args[-2]) for s in candidate.spec.subgoals if s.skill in ("push_to", "tool_push")}
    intents = intents_of(candidate.spec, witness)
    moved = {i.subject for i in intents if i.kind in (*PLACES, "pose", "held")} - pushed
    grasped = sorted(name for name in moved if candidate.scene.world.entities[name].dof >= 0)
    turned = sorted({(i.subject, str(i.wish.atom.args[1])) for i in intents if i.kind == "joint" and i.wish})
    try:
        probe(candidate, grasped, turned)
    except GateFailure as failure:
        return str(failure)
    return ""


def _teleported(candidate: Candidate) -> float:
    """Share of seeds in which the witness, put there by hand, counts as success with physics running."""
    stage, done, tried = Stage(candidate.env), 0, candidate.starts[:_SEEDS]
    for number, start in enumerate(tried):
        for attempt in range(12):
            states = states_of(candidate, stage, start.seed, candidate.rng("teleport", 100 * number + attempt))
            if states is not None and stage.holds_live(tuple(states[:-1]), states[-1]):
                done += 1
                break
    return done / max(1, len(tried))


def _certified(candidate: Candidate) -> tuple[float, Counter[str]] | None:
    """Success rate and failure codes that G7 has seen; None when it did not run."""
    certificate = candidate.certificate
    if certificate is None:
        return None
    return certificate.k / certificate.n, Counter(e.code for e in certificate.episodes if not e.ok)


def _solved(candidate: Candidate, kind: type[TaskEnv], patience: float = 1.0) -> tuple[float, Counter[str]]:
    """Success rate and failure codes of the expert in another environment, on the first seeds."""
    spec = candidate.spec.model_copy(update={"horizon_s": candidate.spec.horizon_s * patience})
    built = candidate.build(spec)
    env = built if kind is TaskEnv else kind(spec)
    expert, codes = Expert(env, methods=_METHODS), Counter[str]()
    for index in range(_SEEDS):
        try:
            codes[expert.solve(train_seed(index))[1]] += 1
        except SceneError as error:
            codes[error.code] += 1
    solved = codes.pop("", 0)
    return solved / _SEEDS, codes
