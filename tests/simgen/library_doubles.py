"""Stand-ins for the sampler, the gates and the signature: real tasks, a real expert, few checks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from robostack.evaluation.stats import wilson
from robostack.sim.env import TaskEnv
from robostack.sim.scene import state_sha, train_seed, versions
from robostack.task.spec import TaskSpec
from simgen.experts.expert import Expert
from simgen.gates.record import Certificate, CertifiedEpisode, GateRecord
from simgen.propose import propose

TEXTS = (
    "put the red cube in the bowl",
    "stack the green block on the blue block",
    "line up the red, green and blue blocks",
)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


@dataclass(frozen=True)
class Verdict:
    spec: TaskSpec
    records: tuple[GateRecord, ...]
    certificate: Certificate | None = None
    demos: dict[int, np.ndarray] = field(default_factory=dict)
    keyframes: dict = field(default_factory=dict)
    witness_png: bytes | None = None
    rl: dict[int, bytes] = field(default_factory=dict)

    @property
    def certified(self):
        return self.certificate is not None and all(record.ok for record in self.records)


def sample(n, seed, *, robots=("panda",), families=None):
    specs = [propose(text, robot) for text in TEXTS for robot in robots]
    start = seed % len(specs)
    return iter((specs[start:] + specs[:start])[:n])


def signature(spec: TaskSpec) -> str:
    return hashlib.sha256(json.dumps([spec.family, spec.robot.name]).encode()).hexdigest()


def cells(spec: TaskSpec) -> tuple[str, ...]:
    return tuple(f"{s.skill}|{s.args[0]}|{spec.robot.name}" for s in spec.subgoals)


def certify(spec: TaskSpec, *, seeds: int = 2, demos: int = 1, **_) -> Verdict:
    """Solves the first scenes; refuses every task with three blocks at G6."""
    good = GateRecord(task=spec.id, gate="G1", ok=True, metrics={"nodes": 3}, cost_s=0.01)
    if spec.family == "line_up":
        bad = GateRecord(task=spec.id, gate="G6", ok=False, code="NO_WITNESS", detail="no state", cost_s=0.5)
        return Verdict(spec, (good, bad))
    expert, episodes, actions = Expert(TaskEnv(spec)), [], {}
    for seed in map(train_seed, range(seeds)):
        episode, code = expert.solve(seed)
        end = {"final_sha": episode.final_sha, "state0_sha": state_sha(episode.state0)}
        episodes.append(CertifiedEpisode(seed=seed, ok=not code, code=code, methods=("skill",), seconds=4.0, **end))
        if not code and len(actions) < demos:
            actions[seed] = episode.action.astype(np.float32)
    k = sum(e.ok for e in episodes)
    certificate = Certificate(
        task=spec.id,
        model_sha="m" * 64,
        n=seeds,
        k=k,
        wilson95=tuple(wilson(k, seeds)),
        episodes=tuple(episodes),
        methods=("skill",),
        demos=tuple(actions),
        versions=versions(),
    )
    solved = GateRecord(task=spec.id, gate="G7", ok=True, metrics={"n": seeds, "k": k}, cost_s=2.0)
    return Verdict(spec, (good, solved), certificate, actions, {s: [] for s in actions}, PNG)
