"""What the gates say of a task, as data: a record per gate, and the certificate of a task that passed them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from robostack.task.spec import Frozen

Gate = Literal["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10"]

GATES: Mapping[Gate, str] = {
    "G1": "static spec",
    "G2": "grounding",
    "G3": "physics of the compiled model",
    "G4": "placement and settling",
    "G5": "penetration, reach, grasp",
    "G6": "the predicate under attack",
    "G7": "solved through the actuators",
    "G8": "text and goal agree",
    "G9": "bit-exact replay",
    "G10": "novelty",
}

Metric = int | float | str | bool | tuple[int | float | str, ...]


class GateRecord(Frozen):
    """Outcome of one gate for one task.

    Attributes:
        code: "OK", or what is wrong in capitals, e.g. "PENETRATION"; counted in the funnel.
        detail: one line for a person: the culprit and the fix.
        metrics: figures behind the verdict.
        cost_s: processor time that the gate took [s].
    """

    task: str
    gate: Gate
    ok: bool
    code: str = "OK"
    detail: str = ""
    metrics: dict[str, Metric] = Field(default_factory=dict)
    cost_s: float = 0.0


class CertifiedEpisode(Frozen):
    """One attempt of the expert; hashes are SHA-256 of bits, None where the attempt did not start.

    Attributes:
        ok: the goal was held at the end, nothing was violated, and the replay was bit-exact.
        code: why not; empty when ok.
        methods: per subgoal the method that achieved it: "skill", "motion", "trajopt", "rl".
        seconds: simulated duration [s].
        min_margin: least margin of the goal over the last hold window.
    """

    seed: int
    ok: bool
    code: str = ""
    state0_sha: str | None = None
    ctrl_sha: str | None = None
    final_sha: str | None = None
    methods: tuple[str, ...] = ()
    seconds: float = 0.0
    min_margin: float | None = None


class Certificate(Frozen):
    """Proof that a task can be solved, by whom, how often, and on which physics.

    Attributes:
        model_sha: SHA-256 of the compiled model's text (MJCF).
        n, k: attempts and successes, on distinct seeds of the training namespace.
        wilson95: bounds of the success rate.
        methods: per subgoal the method that solved it in most episodes.
        weights: name of a file beside the task -> SHA-256, for every learned actor that an episode used.
        demos: seeds whose actions lie in ``demos.npz``.
        versions: what bit-exact replay depends on.
    """

    task: str
    model_sha: str
    n: int
    k: int
    wilson95: tuple[float, float]
    episodes: tuple[CertifiedEpisode, ...]
    methods: tuple[str, ...] = ()
    weights: dict[str, str] = Field(default_factory=dict)
    demos: tuple[int, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
