"""G6: the success predicate under attack. False where nothing was done, true where it should be, false beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from robostack.sim.rotation import rot6d
from robostack.task.evaluate import GoalMonitor, margin, text
from robostack.task.predicate import atoms_of
from simgen.gates.bench import Bench, Played
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.g4_settle import judge_resets
from simgen.gates.metamorphic import violations
from simgen.gates.mutants import mutants_of
from simgen.gates.record import Metric
from simgen.gates.registry import gate
from simgen.gates.witness import Witness, unsatisfied

NOOP_S = 5.0
ROLLOUTS, ROLLOUT_S = 16, 1.5
LUCK, LUCK_OF_JOINTS = 1, 4  # rollouts that may succeed by chance: a button is easily hit
KILL_RATE = 0.9


@dataclass(frozen=True)
class MutationScore:
    """Which mutants were killed; an operator none of whose mutants is killed is a check that the goal lacks."""

    mutants: tuple[Played, ...]
    survivors: tuple[Played, ...]

    @property
    def rate(self) -> float:
        """Share of the mutants that do not count as success."""
        return 1.0 - len(self.survivors) / max(1, len(self.mutants))

    @property
    def blind(self) -> tuple[str, ...]:
        """Operators whose mutants all survived."""
        made, alive = Counter(m.operator for m in self.mutants), Counter(m.operator for m in self.survivors)
        return tuple(sorted(op for op in alive if alive[op] == made[op]))

    @property
    def ok(self) -> bool:
        """Enough are killed, every exploit is, and no operator is overlooked entirely."""
        return self.rate >= KILL_RATE and not self.blind and not any(m.operator == "EXPLOIT" for m in self.survivors)


@gate("G6", limit_s=120.0)
def predicate(candidate: Candidate) -> dict[str, Metric]:
    """Reset, rest and random motion do not succeed; a witness does; its mutants do not; nothing else matters."""
    metrics: dict[str, Metric] = {}
    judge_resets(candidate, "G6")
    metrics["false_at_reset"] = _at_reset(candidate)
    metrics["noop"] = _noop(candidate)
    metrics["random"] = _random(candidate)
    witness = candidate.witness
    if witness is None:
        raise GateFailure(Code.UNSATISFIABLE, f"no state satisfies the goal: {unsatisfied(candidate)}", metrics)
    metrics["witness_tries"] = witness.tries
    score = mutation_score(candidate, witness)
    metrics |= {
        "mutants": len(score.mutants),
        "killed": len(score.mutants) - len(score.survivors),
        "survivors": tuple(m.name for m in score.survivors),
    }
    if not score.ok:
        names = ", ".join(m.name for m in score.survivors[:6])
        raise GateFailure(Code.MUTANT_SURVIVED, f"the goal also accepts {names}", metrics)
    changed = list(violations(candidate, Bench(candidate, witness), list(score.mutants)))
    if changed:
        raise GateFailure(Code.METAMORPHIC, f"{changed[0]} ({len(changed)} in all)", metrics)
    return metrics


def mutation_score(candidate: Candidate, witness: Witness) -> MutationScore:
    """Make all mutants of a witness and judge them."""
    mutants = mutants_of(candidate, witness)
    bench = Bench(candidate, witness)
    bench.stage.restart(witness.seed)
    alive = [
        m
        for m in mutants
        if (bench.stage.fires_once(m.stages, m.state) if m.passing else bench.stage.holds_frozen(m.stages, m.state))
    ]
    return MutationScore(tuple(mutants), tuple(alive))


def _at_reset(candidate: Candidate) -> int:
    spec, world = candidate.spec, candidate.scene.world
    for start in candidate.starts:
        candidate.env.reset_scene(start.seed)
        monitor = GoalMonitor(spec, world)
        monitor.update(candidate.env.dt_s)
        if monitor.goal_margin() >= 0.0:
            raise GateFailure(Code.TRIVIAL, f"the goal holds at reset of seed {start.seed}")
        for pred in spec.init:
            if margin(pred, world) < 0.0:
                raise GateFailure(Code.INIT_FALSE, f"{text(pred)} is false at reset of seed {start.seed}")
        for pred in spec.never:
            if margin(pred, world) >= 0.0:
                raise GateFailure(Code.NEVER_FIRES, f"{text(pred)} must never hold, but does at reset")
    return len(candidate.starts)


def _noop(candidate: Candidate) -> int:
    """The robot stays at rest for 5 s."""
    env, start = candidate.env, candidate.starts[0]
    env.reset_scene(start.seed)
    still = _rest_action(candidate)
    for _ in range(round(NOOP_S / env.dt_s)):
        env.apply(still)
    if env.monitor.violated:
        raise GateFailure(Code.NEVER_FIRES, f"{env.monitor.violation} came true although nothing was done")
    if not np.isnan(env.monitor.first_success_s):
        raise GateFailure(Code.NOOP_SUCCESS, f"the goal came true in {NOOP_S:g} s of doing nothing")
    return 0


def _random(candidate: Candidate) -> int:
    """Smooth random motions through the workspace, near the table where the objects are."""
    env, starts, fired = candidate.env, candidate.starts, 0
    joints_only = all(atom.name == "joint" for atom in atoms_of(candidate.spec.goal))
    allowed = LUCK_OF_JOINTS if joints_only else LUCK
    for number in range(ROLLOUTS):
        env.reset_scene(starts[number % len(starts)].seed)
        rng = candidate.rng("random", number)
        now = _rest_action(candidate)
        for _ in range(3):
            goal = _random_action(candidate, rng)
            steps = round(ROLLOUT_S / 3 / env.dt_s)
            for k in range(1, steps + 1):
                env.apply(((1 - k / steps) * now + k / steps * goal).astype(np.float32))
            now = goal
        fired += not np.isnan(env.monitor.first_success_s)
        if fired > allowed:
            raise GateFailure(
                Code.RANDOM_SUCCESS, f"random motion reached the goal {fired} times in {number + 1} rollouts"
            )
    return fired


def _rest_action(candidate: Candidate) -> np.ndarray:
    scene = candidate.scene
    if candidate.spec.robot.control_mode == "joint_pos":
        return np.append(scene.ik.home, 1.0).astype(np.float32)
    pos, rot = scene.ik.forward(scene.ik.home)
    return np.concatenate([pos, rot6d(rot), [1.0]]).astype(np.float32)


def _random_action(candidate: Candidate, rng: np.random.Generator) -> np.ndarray:
    scene = candidate.scene
    if candidate.spec.robot.control_mode == "joint_pos":
        q = np.clip(scene.ik.home + rng.uniform(-0.6, 0.6, len(scene.ik.home)), scene.ik.lower, scene.ik.upper)
        return np.append(q, rng.random())
    x0, y0, x1, y1 = scene.card.workspace
    pos = [rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(0.01, 0.5 * scene.card.lift)]
    return np.concatenate([pos, rot6d(scene.ik.forward(scene.ik.home)[1]), [rng.random()]])
