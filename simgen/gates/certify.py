"""``certify``: a task through the gates, cheapest first, until one says no."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robostack.errors import DeviceUnavailable
from robostack.sim.env import TaskEnv
from robostack.sim.render import SceneRenderer
from robostack.task.spec import TaskSpec
from simgen.gates.candidate import Build, Candidate, Mutant
from simgen.gates.record import Certificate, Gate, GateRecord
from simgen.gates.registry import ORDER, gates

_PICTURE = (360, 480)  # height, width
_LEAVES_BEHIND = ("G7", "G9")  # gates that are run for what they record as well


@dataclass(frozen=True)
class Verdict:
    """What the gates say of a task, and what proves it.

    Attributes:
        records: of the gates that ran, in their order; the last one may be a failure.
        demos: seed -> actions (T, Da) float32 of the stored demonstrations.
        keyframes: seed -> the moments of that demonstration that matter, as plain JSON values.
        witness_png: a picture of a state in which the goal holds; None where nothing can be rendered.
        rl: subgoal index -> weights, where a learned actor solved it.
    """

    spec: TaskSpec
    records: tuple[GateRecord, ...]
    certificate: Certificate | None
    demos: dict[int, np.ndarray]
    keyframes: dict[int, tuple]
    witness_png: bytes | None
    rl: dict[int, bytes]

    @property
    def certified(self) -> bool:
        """Every gate up to the replay passed."""
        passed = {record.gate for record in self.records if record.ok}
        return self.failed is None and set(ORDER) <= passed and self.certificate is not None

    @property
    def failed(self) -> GateRecord | None:
        """The record of the gate that refused the task."""
        return next((record for record in self.records if not record.ok), None)


def certify(
    spec: TaskSpec,
    *,
    seeds: int = 16,
    extend_to: int | None = None,
    demos: int = 4,
    through: Gate = "G9",
    given: Sequence[GateRecord] = (),
    exploits: Sequence[Mutant] = (),
    build: Build = TaskEnv,
    folder: Path | None = None,
) -> Verdict:
    """Run the gates up to ``through``; never raises for what is wrong with the task.

    The verdict is a function of the arguments, whatever the process or the machine's load.

    Args:
        spec: the task.
        seeds: attempts of the expert, of which half must succeed.
        extend_to: attempts in all once they do; None leaves it at ``seeds``.
        demos: demonstrations to keep.
        through: the last gate to run.
        given: records of this task from before; what passed is not judged again, except where demonstrations come from.
        exploits: states that an attack found, which must not count as success.
        build: makes the environment.
        folder: of the task, with ``rl_<subgoal>.npz`` where an actor was learned for a subgoal.
    """
    candidate = Candidate(
        spec, build=build, seeds=seeds, extend_to=extend_to, demos=demos, exploits=exploits, folder=folder
    )
    return judge(candidate, through=through, given=given)


def judge(candidate: Candidate, *, through: Gate = "G9", given: Sequence[GateRecord] = ()) -> Verdict:
    """``certify`` for a candidate that exists."""
    spec, records = candidate.spec, []
    passed = {r.gate: r for r in given if r.ok and r.task == candidate.id and r.gate not in _LEAVES_BEHIND}
    for run in gates(through):
        record = passed.get(run.name) or run(candidate)
        records.append(record)
        if not record.ok:
            break
    reached = records[-1].gate if records else "G1"
    return Verdict(
        spec=spec,
        records=tuple(records),
        certificate=candidate.certificate,
        demos={episode.seed: episode.action for episode in candidate.episodes},
        keyframes={episode.seed: candidate.keyframes.get(episode.seed, ()) for episode in candidate.episodes},
        witness_png=picture(candidate) if ORDER.index(reached) >= ORDER.index("G6") else None,
        rl=dict(candidate.rl),
    )


def picture(candidate: Candidate) -> bytes | None:
    """PNG of the witness with shadows and 256 colours; None without a witness or without OpenGL.

    An octree keeps the colours of small objects, which a median cut gives up for shades of the table.
    Furniture turns its front to the robot: it is seen from the side.
    """
    witness = candidate.witness
    if witness is None:
        return None
    from PIL import Image

    scene = candidate.scene
    scene.set_state(witness.state)
    try:
        renderer = SceneRenderer(scene.model, *_PICTURE, quality="high")
    except DeviceUnavailable:
        return None
    try:
        furnished = any(binding.joints for binding in scene.world.entities.values())
        frame = renderer.frame(scene.data, "side" if furnished else "front")
    finally:
        renderer.close()
    buffer = io.BytesIO()
    Image.fromarray(frame).quantize(256, method=Image.Quantize.FASTOCTREE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
