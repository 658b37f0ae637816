"""The router blames the part that is broken."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from faults import FAULTS, put_in, stack, tampered
from gate_specs import BLUE, BOWL, GREEN, RED, atom, beside, opened, spec, sub, thing

from robostack.sim.env import TaskEnv
from robostack.task.spec import TaskSpec
from simgen.gates.candidate import Candidate
from simgen.gates.codes import ANY_GATE, GATE_OF, Code
from simgen.gates.magnet import MagnetEnv
from simgen.gates.record import GateRecord
from simgen.gates.router import _BY_CODE, Blame, route


@dataclass(frozen=True)
class Case:
    """A task whose expert fails, and what is broken."""

    blame: Blame
    make: Callable[[], TaskSpec]
    build: Callable[[TaskSpec], TaskEnv] = TaskEnv


def at(x, y, side=0.0):
    return {"placement": {"box": [x - side, y - side, x + side, y + side], "yaw": [0.0, 0.0], "clearance": 0.0}}


def wrong_skill(skill):
    goal = atom("on", "red_block", "blue_block")
    args = ("red_block", "blue_block") if skill in ("push_to", "place_in") else ("red_block",)
    return stack(subgoals=[sub(skill, *args, goal=goal)])


def walled_in():
    """The block at the bottom of a bin that is narrower than the hand."""
    bin_ = thing("pit", "bin", "gray", "receptacle", size=[0.075, 0.075, 0.16], **at(0.5, 0.0))
    red = {**RED, "placement": {"box": [0, 0, 0, 0], "yaw": [0, 0], "on": "pit", "inside": True, "clearance": 0.0}}
    return stack(entities=[bin_, red, {**BLUE, **at(0.5, 0.2)}])


def out_of_the_way(x):
    region = thing("far_region", "zone", "green", "distractor", **at(x, 0.0))
    goal = atom("on", "red_block", "far_region")
    return stack(entities=[RED, region], goal=goal, subgoals=[sub("place_on", "red_block", "far_region", goal=goal)])


def far_drawer():
    base = opened("drawer", "slide")
    entity = base.entities[0]
    placement = entity.placement.model_copy(update={"box": (1.2, 0.0, 1.2, 0.0)})
    return base.model_copy(
        update={"entities": (entity.model_copy(update={"role": "distractor", "placement": placement}),)}
    )


def slippery(scene):
    for name in ("red_block", "blue_block"):
        geoms = list(scene.world.entities[name].geoms)
        scene.model.geom_friction[geoms, 0] = 0.0
        scene.model.geom_priority[geoms] = 2


CASES = {
    "no_time_for_two": Case(Blame.SPEC, lambda: stack(horizon_s=3.0)),
    "no_time_to_place": Case(Blame.SPEC, lambda: put_in(horizon_s=3.0)),
    "no_time_to_hold": Case(Blame.SPEC, lambda: stack(hold={"seconds": 4.0}, horizon_s=7.0)),
    "pit": Case(Blame.SCENE, walled_in),
    "beyond_reach": Case(Blame.SCENE, lambda: out_of_the_way(1.15)),
    "far_beyond_reach": Case(Blame.SCENE, lambda: out_of_the_way(1.4)),
    "drawer_beyond_reach": Case(Blame.SCENE, far_drawer),
    "bowl_too_small": Case(
        Blame.SCENE,
        lambda: put_in(entities=[{**RED, "size": [0.06, 0.06, 0.12]}, {**BOWL, "size": [0.045, 0.03]}]),
    ),
    "zero_tolerance": Case(
        Blame.PREDICATE, lambda: stack(goal=atom("on", "red_block", "blue_block", z=0.0, contact=0.0))
    ),
    "half_way_in_the_wall": Case(Blame.PREDICATE, lambda: put_in(goal=atom("in", "red_block", "bowl", frac=1.0))),
    "may_not_be_lifted": Case(Blame.PREDICATE, lambda: stack(never=[atom("lifted", "red_block", 0.01)])),
    "may_not_be_touched": Case(Blame.PREDICATE, lambda: put_in(never=[atom("moved", "red_block", 0.002)])),
    "stiller_than_physics": Case(Blame.PREDICATE, lambda: stack(hold={"max_lin": 1e-12, "max_ang": 1e-12})),
    "picks_and_stops": Case(Blame.EXPERT, lambda: wrong_skill("pick")),
    "pushes_what_is_to_be_stacked": Case(Blame.EXPERT, lambda: wrong_skill("push_to")),
    "knows_nothing": Case(
        Blame.EXPERT, lambda: stack(subgoals=[sub("achieve", goal=atom("on", "red_block", "blue_block"))])
    ),
    "no_friction": Case(Blame.EXPERT, stack, tampered(slippery)),
    "wrong_target": Case(
        Blame.EXPERT,
        lambda: stack(
            entities=[RED, BLUE, {**GREEN, "role": "distractor"}],
            subgoals=[sub("stack", "red_block", "green_block", goal=atom("on", "red_block", "blue_block"))],
        ),
    ),
    "beside_by_the_wrong_side": Case(
        Blame.EXPERT,
        lambda: beside().model_copy(
            update={
                "subgoals": spec(
                    "put the red block to the left of the blue block",
                    [RED, BLUE],
                    atom("left_of", "red_block", "blue_block"),
                    [
                        sub(
                            "place_beside",
                            "red_block",
                            "blue_block",
                            0.0,
                            -0.1,
                            goal=atom("left_of", "red_block", "blue_block"),
                        )
                    ],
                ).subgoals
            }
        ),
    ),
}
QUICK = ("zero_tolerance", "no_time_to_place")


def refused(task):
    return GateRecord(task=task.id, gate="G7", ok=False, code=Code.EXPERT_FAILS)


def blamed(case):
    candidate = Candidate(case.make(), build=case.build)
    return route(candidate, refused(candidate.spec))


@pytest.mark.parametrize("name", QUICK)
def test_the_broken_part_is_blamed(name):
    evidence = blamed(CASES[name])
    assert evidence.blame == CASES[name].blame, evidence.text()


@pytest.mark.slow
def test_most_planted_faults_are_attributed_rightly():
    wrong = {}
    for name, case in CASES.items():
        evidence = blamed(case)
        if evidence.blame != case.blame:
            wrong[name] = evidence.text()
    assert len(wrong) <= 0.15 * len(CASES), wrong


def test_every_code_has_someone_to_blame_or_is_settled_by_simulation():
    simulated = {Code.EXPERT_FAILS, Code.UNSATISFIABLE}
    assert set(_BY_CODE) | simulated == set(GATE_OF)
    assert not set(_BY_CODE) & ANY_GATE


def test_nobody_is_blamed_for_a_task_that_passed():
    candidate = Candidate(stack())
    assert route(candidate, None).blame == Blame.NOBODY


def test_misaligned_text_is_blamed_on_the_alignment():
    task = next(iter(FAULTS["G8"].values())).make()
    record = GateRecord(task=task.id, gate="G8", ok=False, code=Code.MISALIGNED)
    assert route(Candidate(task), record).blame == Blame.ALIGNMENT


def test_a_magnet_carries_what_it_closed_on():
    env = MagnetEnv(stack())
    env.reset_scene(0)
    name = "red_block"
    env.scene.data.joint(f"{name}_free").qpos[:3] = env.scene.tcp()[0]
    pos, rot = env.scene.tcp()
    from robostack.sim.rotation import rot6d

    for opening in np.linspace(1.0, 0.0, 3):
        env.scene.data.joint(f"{name}_free").qpos[:3] = env.scene.tcp()[0]
        env.apply(np.concatenate([pos, rot6d(rot), [opening]]))
    for _ in range(10):
        env.apply(np.concatenate([pos, rot6d(rot), [0.0]]))
    assert np.linalg.norm(env.scene.world.pos(name) - env.scene.tcp()[0]) < 0.03
    for _ in range(20):
        env.apply(np.concatenate([pos, rot6d(rot), [1.0]]))
    assert np.linalg.norm(env.scene.world.pos(name) - env.scene.tcp()[0]) > 0.05
