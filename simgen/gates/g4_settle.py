"""G4: eight seeds give eight different start states in which everything stands, the same ones every time."""

from __future__ import annotations

from collections import Counter

import mujoco
import numpy as np

from robostack.sim.scene import Scene
from robostack.task import geometry as geo
from simgen.gates.candidate import MAY_FAIL, RESETS, Candidate, GateFailure
from simgen.gates.codes import GATE_OF, Code
from simgen.gates.record import Metric
from simgen.gates.registry import gate

_WATCH_S, _CREEP_M = 0.25, 0.002
_SPEED = (0.005, 0.05)  # at rest [m/s, rad/s]
# What a failed reset says, and the gate that judges it.
OF_RESET = {
    "PLACEMENT_INFEASIBLE": Code.PLACEMENT_INFEASIBLE,
    "UNSTABLE": Code.UNSTABLE,
    "PENETRATION": Code.PENETRATION,
    "UNREACHABLE": Code.UNREACHABLE,
    "TRIVIAL": Code.TRIVIAL,
    "INIT_FALSE": Code.INIT_FALSE,
}


def judge_resets(candidate: Candidate, gate_name: str) -> int:
    """Raise GateFailure when too many resets failed, with reasons of this gate among them; returns how many did."""
    codes = Counter(reset.code for reset in candidate.resets if reset.state is None)
    mine = {text: n for text, n in codes.items() if GATE_OF.get(OF_RESET.get(text, Code.UNSTABLE)) == gate_name}
    failed = sum(mine.values())
    if failed > MAY_FAIL or (failed and len(candidate.resets) < RESETS):
        worst = max(mine, key=lambda text: mine[text])
        example = next(reset.message for reset in candidate.resets if reset.code == worst)
        raise GateFailure(
            OF_RESET.get(worst, Code.UNSTABLE),
            f"{failed} of {len(candidate.resets)} seeds: {example}",
            {"tried": len(candidate.resets), "ok": len(candidate.starts)},
        )
    return failed


@gate("G4", limit_s=60.0)
def settle(candidate: Candidate) -> dict[str, Metric]:
    """At least 7 of 8 seeds place and settle; states differ where placements have extent, and repeat bit for bit."""
    failed = judge_resets(candidate, "G4")
    starts, scene = candidate.starts, candidate.scene
    if len(starts) >= 2:
        _seeds_matter(candidate)
    for number, start in enumerate(starts):
        scene.reset(start.seed)
        if start.state is None or not np.array_equal(scene.get_state(), start.state):
            raise GateFailure(Code.NOT_DETERMINISTIC, f"seed {start.seed} gives another state the second time")
        _supported(scene, start.seed)
        if number < 3:
            _at_rest(scene, start.seed)
    return {"ok": RESETS - failed, "states": len(starts)}


def _seeds_matter(candidate: Candidate) -> None:
    boxes = [(e.placement.box, e.placement.yaw) for e in candidate.spec.entities]
    extent = any(b[2] - b[0] > 1e-6 or b[3] - b[1] > 1e-6 or y[1] - y[0] > 1e-6 for b, y in boxes)
    states = {start.state.tobytes() for start in candidate.starts if start.state is not None}
    if extent and len(states) < len(candidate.starts):
        raise GateFailure(
            Code.SEED_REUSE,
            f"{len(candidate.starts)} seeds give {len(states)} start states although placements have room",
        )


def _supported(scene: Scene, seed: int) -> None:
    """Whatever is free to fall touches something."""
    for name, binding in scene.world.entities.items():
        if binding.dof >= 0 and next(geo.contacts(scene.world, name), None) is None:
            raise GateFailure(Code.FLOATING, f"'{name}' touches nothing at reset of seed {seed}")


def _at_rest(scene: Scene, seed: int) -> None:
    """A quarter of a second later everything is where it was."""
    before = scene.snapshot()
    for _ in range(round(_WATCH_S / scene.model.opt.timestep)):
        mujoco.mj_step(scene.model, scene.data)
    after = scene.snapshot()
    for name, binding in scene.world.entities.items():
        if binding.dof < 0:
            continue
        crept = float(np.linalg.norm(after.pos[name] - before.pos[name]))
        speed = scene.world.velocity(name)
        if crept > _CREEP_M or speed[0] > _SPEED[0] or speed[1] > _SPEED[1]:
            raise GateFailure(
                Code.UNSTABLE, f"'{name}' creeps {crept * 1e3:.1f} mm in {_WATCH_S} s after reset of seed {seed}"
            )
