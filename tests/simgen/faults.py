"""Planted faults: tasks that are broken in one way each, with the gate that is there for it and the code it must give.

The numbers in brackets are kinds of bugs that published generators of tasks shipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from gate_specs import (
    BLUE,
    BOWL,
    GREEN,
    RED,
    atom,
    beside,
    counted,
    in_order,
    lifted,
    opened,
    shared_out,
    spec,
    sub,
    thing,
)

from robostack.sim.env import TaskEnv
from robostack.sim.scene import Scene
from robostack.task.atoms import ATOMS
from robostack.task.predicate import Atom, Not
from robostack.task.spec import Hold, Instruction, RobotRef, TaskSpec
from simgen.gates import g8_alignment
from simgen.gates.candidate import Candidate, Mutant
from simgen.gates.codes import Code

Prepare = Callable[[Candidate], None]


@dataclass(frozen=True)
class Fault:
    """A broken task.

    Attributes:
        make: the spec.
        build: makes its environment, where the fault is not in the spec.
        before: run on the candidate just before the gate that must catch it.
        patched: a context in which the gate runs.
        needs_robot: whether an expert has to act, which takes seconds.
    """

    code: Code
    make: Callable[[], TaskSpec]
    build: Callable[[TaskSpec], TaskEnv] = TaskEnv
    before: Prepare | None = None
    patched: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def stack(**more) -> TaskSpec:
    """A sound task: one block on another."""
    goal = more.pop("goal", atom("on", "red_block", "blue_block"))
    entities = more.pop("entities", [RED, BLUE])
    text = more.pop("text", "stack the red block on the blue block")
    rest = atom("on", "red_block", "blue_block")
    subgoals = more.pop("subgoals", [sub("stack", "red_block", "blue_block", goal=rest)])
    return spec(text, entities, goal, subgoals, **more)


def put_in(**more) -> TaskSpec:
    """A sound task: a block into a bowl."""
    goal = more.pop("goal", atom("in", "red_block", "bowl"))
    subgoals = [sub("place_in", "red_block", "bowl", goal=atom("in", "red_block", "bowl"))]
    text = more.pop("text", "put the red block in the blue bowl")
    return spec(text, more.pop("entities", [RED, BOWL]), goal, more.pop("subgoals", subgoals), **more)


def changed(**values) -> TaskSpec:
    """The stack with fields replaced unseen by the validator, as a careless program would."""
    return stack().model_copy(update=values)


def _red(**values) -> dict:
    return {**RED, **values}


def _at(box: list[float]) -> dict:
    return {"box": box, "yaw": [0.0, 0.0], "clearance": 0.01}


def _nested(levels: int) -> dict:
    goal = atom("on", "red_block", "blue_block")
    for _ in range(levels):
        goal = {"and": [goal]}
    return goal


def _zones() -> list[dict]:
    return [
        thing(f"{c}_region", "zone", c, "zone", placement=_at([x, -0.05, x, 0.05]))
        for c, x in (("red", 0.38), ("green", 0.6))
    ]


def _crowd() -> list[dict]:
    return [RED, BLUE, *({**GREEN, "id": f"block_{k}", "role": "distractor"} for k in range(15))]


# Environments that lie.


def tampered(edit: Callable[[Scene], None]) -> Callable[[TaskSpec], TaskEnv]:
    """An environment whose model or placement is edited after it was compiled."""

    def build(task: TaskSpec) -> TaskEnv:
        env = TaskEnv(task)
        edit(env.scene)
        env.scene._nominal = {name: getattr(env.scene.model, name).copy() for name in env.scene._nominal}
        return env

    return build


def _inertia(value: float) -> Callable[[Scene], None]:
    def edit(scene: Scene) -> None:
        scene.model.body_inertia[scene.model.body("red_block").id] = value

    return edit


def _float(scene: Scene) -> None:
    scene.model.body_gravcomp[scene.model.body("red_block").id] = 1.0
    scene.shapes["red_block"] = replace(scene.shapes["red_block"], rest_z=0.15)


def _lying_footprint(scene: Scene) -> None:
    for name in ("red_block", "blue_block"):
        scene.shapes[name] = replace(scene.shapes[name], footprint=(1e-4, 1e-4))


def _one_seed(scene: Scene) -> None:
    real = scene.reset
    scene.reset = lambda seed: real(123)  # pyright: ignore[reportAttributeAccessIssue]


def _clock_seed(scene: Scene) -> None:
    real, calls = scene.reset, iter(range(10_000))
    scene.reset = lambda seed: real(seed + 2 * next(calls))  # pyright: ignore[reportAttributeAccessIssue]


def _tipsy(scene: Scene) -> None:
    scene.model.opt.gravity[:] = [9.0, 0.0, -6.0]


def _restless(task: TaskSpec) -> TaskEnv:
    env = TaskEnv(task)
    real = env.reset_scene

    def reset(seed: int) -> None:
        real(seed)
        dof = env.scene.world.entities["red_block"].dof
        env.scene.data.qvel[dof : dof + 3] = [0.0, 0.5, 1.0]

    env.reset_scene = reset  # pyright: ignore[reportAttributeAccessIssue]
    return env


def _shaky(task: TaskSpec) -> TaskEnv:
    env, noise = TaskEnv(task), np.random.default_rng(0)
    real = env.scene.step

    def step(ctrl: np.ndarray) -> None:
        env.scene.data.qvel += noise.normal(0.0, 1e-6, env.scene.model.nv)
        real(ctrl)

    env.scene.step = step  # pyright: ignore[reportAttributeAccessIssue]
    return env


@contextlib.contextmanager
def atom_replaced(name: str, fn: Callable[..., float]) -> Iterator[None]:
    """An atom that means something else."""
    before = ATOMS._records[name]
    ATOMS._records[name] = replace(before, fn=fn)
    try:
        yield
    finally:
        ATOMS._records[name] = before


def _on_a_grid(world, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """A direction that holds in every other stripe of the table only."""
    del lateral  # Unused.
    (_, y, _), (_, q, _) = world.pos(a).tolist(), world.pos(b).tolist()
    return min(y - q - gap, 0.05 - y % 0.1)


def _by_the_alphabet(world, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """A direction that depends on what the things are called."""
    del lateral  # Unused.
    return float(world.pos(a)[1] - world.pos(b)[1]) - gap if a > b else -1.0


@contextlib.contextmanager
def judge_replaced(fn: Callable) -> Iterator[None]:
    """Another comparison of text and goal."""
    before = g8_alignment.compare
    g8_alignment.compare = fn
    try:
        yield
    finally:
        g8_alignment.compare = before


def _outage(text: str, task: TaskSpec) -> None:
    raise ConnectionError(f"no answer about '{text}' of {task.name}")


def _exploit(candidate: Candidate) -> None:
    witness = candidate.witness
    assert witness is not None
    candidate.exploits = (Mutant("wedged", witness.state),)


# Demonstrations that are not what they say.


def _edit_demo(edit: Callable[[np.ndarray], np.ndarray]) -> Prepare:
    def prepare(candidate: Candidate) -> None:
        first = candidate.episodes[0]
        candidate.episodes[0] = replace(first, action=edit(first.action.copy()))

    return prepare


def _nudged(action: np.ndarray) -> np.ndarray:
    action[len(action) // 2, 0] += 1e-3
    return action


def _kinematic(action: np.ndarray) -> np.ndarray:
    """A path of the object that no actuator followed: the robot stays at rest."""
    return np.repeat(action[:1], len(action), axis=0)


def _other_version(candidate: Candidate) -> None:
    assert candidate.certificate is not None
    candidate.certificate = candidate.certificate.model_copy(update={"versions": {"mujoco": "2.0.0"}})


def _other_start(candidate: Candidate) -> None:
    candidate.episodes[0] = replace(candidate.episodes[0], seed=candidate.episodes[1].seed)


FAULTS: dict[str, dict[str, Fault]] = {
    "G1": {
        "unknown_relation_18": Fault(
            Code.PREDICATE, lambda: changed(goal=Atom(name="leftof", args=("red_block", "blue_block")))
        ),
        "reward_in_predicate_1": Fault(Code.PREDICATE, lambda: changed(goal=Atom(name="reward", args=(-3.0,)))),
        "undefined_entity_7": Fault(Code.SCHEMA, lambda: changed(goal=Atom(name="on", args=("red_block", "moon")))),
        "wrong_arity_4": Fault(Code.PREDICATE, lambda: changed(goal=Atom(name="on", args=("red_block",)))),
        "dead_term_6": Fault(
            Code.PREDICATE, lambda: changed(goal=Atom(name="near", args=("red_block", "red_block", 0.1)))
        ),
        "negative_tolerance_20": Fault(
            Code.PREDICATE, lambda: stack(goal=atom("on", "red_block", "blue_block", z=-0.01))
        ),
        "two_targets_at_once_4": Fault(
            Code.CONTRADICTION,
            lambda: stack(
                entities=[RED, *_zones()],
                subgoals=[],
                goal={"and": [atom("on", "red_block", "red_region"), atom("on", "red_block", "green_region")]},
            ),
        ),
        "goal_is_forbidden": Fault(Code.CONTRADICTION, lambda: stack(never=[atom("on", "red_block", "blue_block")])),
        "goal_and_its_negation": Fault(
            Code.CONTRADICTION,
            lambda: stack(
                goal={"and": [atom("on", "red_block", "blue_block"), {"not": atom("on", "red_block", "blue_block")}]}
            ),
        ),
        "circle": Fault(
            Code.CONTRADICTION,
            lambda: stack(
                entities=[RED, GREEN, BLUE],
                goal={
                    "and": [
                        atom("on", "red_block", "blue_block"),
                        atom("on", "blue_block", "green_block"),
                        atom("on", "green_block", "red_block"),
                    ]
                },
            ),
        ),
        "near_and_far": Fault(
            Code.CONTRADICTION,
            lambda: stack(
                goal={
                    "and": [atom("near", "red_block", "blue_block", 0.02), atom("far", "red_block", "blue_block", 0.1)]
                }
            ),
        ),
        "count_beyond_the_set": Fault(
            Code.CONTRADICTION,
            lambda: put_in(
                goal={
                    "count": {
                        "var": "x",
                        "among": {"card": "block"},
                        "pred": atom("in", "$x", "bowl"),
                        "cmp": ">=",
                        "n": 3,
                    }
                }
            ),
        ),
        "more_choosers_than_choices": Fault(
            Code.CONTRADICTION,
            lambda: shared_out().model_copy(
                update={
                    "entities": tuple(e for e in shared_out().entities if e.id != "blue_plate"),
                }
            ),
        ),
        "lifted_yet_released": Fault(Code.CONTRADICTION, lambda: lifted().model_copy(update={"hold": Hold()})),
        "no_time": Fault(Code.BUDGET, lambda: stack(horizon_s=1.0)),
        "forgotten_object": Fault(Code.UNUSED_OBJECT, lambda: stack(entities=[RED, BLUE, GREEN])),
        "subgoal_twice": Fault(Code.DUPLICATE_SUBGOAL, lambda: changed(subgoals=stack().subgoals * 2)),
        "crowd": Fault(Code.LIMITS, lambda: stack(entities=_crowd())),
        "deep_nesting": Fault(Code.LIMITS, lambda: stack(goal=_nested(12))),
        "absurd_mass": Fault(Code.RANGE, lambda: stack(entities=[_red(mass=500.0), BLUE])),
        "size_in_millimetres": Fault(Code.RANGE, lambda: stack(entities=[_red(size=[40.0, 40.0, 40.0]), BLUE])),
        "yaw_in_degrees": Fault(
            Code.RANGE, lambda: stack(entities=[_red(placement={**RED["placement"], "yaw": [-180.0, 180.0]}), BLUE])
        ),
        "duplicate_entity": Fault(Code.SCHEMA, lambda: changed(entities=stack().entities * 2)),
        "not_a_number": Fault(Code.SCHEMA, lambda: changed(horizon_s=float("nan"))),
        "not_a_sentence": Fault(Code.TEXT, lambda: changed(instruction=Instruction(text="stack\nthe red block"))),
    },
    "G2": {
        "asset_that_does_not_exist": Fault(
            Code.UNKNOWN_ASSET, lambda: stack(entities=[RED, _unsized(BLUE, card="anvil")])
        ),
        "wrong_robot": Fault(Code.UNKNOWN_ROBOT, lambda: changed(robot=RobotRef(name="tars"))),
        "colour_that_does_not_exist": Fault(Code.UNKNOWN_COLOR, lambda: stack(entities=[_red(color="octarine"), BLUE])),
        "missing_joint_9": Fault(
            Code.UNKNOWN_JOINT, lambda: opened("drawer", "slide").model_copy(update={"goal": _hinge()})
        ),
        "hollow_in_a_solid": Fault(
            Code.BINDING,
            lambda: stack(goal=atom("in", "red_block", "blue_block"), text="put the red block in the blue block"),
        ),
        "painted_manipuland": Fault(
            Code.BINDING, lambda: stack(entities=[RED, BLUE, {**_zones()[0], "role": "manipuland"}], goal=_zone_too())
        ),
        "ambiguous_referent": Fault(
            Code.AMBIGUOUS, lambda: stack(entities=[RED, BLUE, {**RED, "id": "twin", "role": "distractor"}])
        ),
        "nothing_of_that_name": Fault(Code.UNGROUNDED, lambda: stack(text="stack the red block on the yellow plate")),
        "slots_say_something_else": Fault(
            Code.SLOTS,
            lambda: changed(
                instruction=Instruction(
                    text="stack the red block on the blue block",
                    template="stack {obj} on {dst}",
                    slots={"obj": "the blue block", "dst": "the red block"},
                )
            ),
        ),
    },
    "G3": {
        "heavy_feather": Fault(Code.DENSITY, lambda: stack(entities=[_red(mass=5.0), BLUE])),
        "balloon": Fault(Code.DENSITY, lambda: stack(entities=[_red(mass=4e-4), BLUE])),
        "ice": Fault(Code.FRICTION, lambda: stack(entities=[_red(friction=0.001), BLUE])),
        "glue": Fault(Code.FRICTION, lambda: stack(entities=[_red(friction=20.0), BLUE])),
        "huge_inertia_8": Fault(Code.INERTIA, stack, tampered(_inertia(1.0))),
        "tiny_inertia_8": Fault(Code.INERTIA, stack, tampered(_inertia(1e-9))),
        "impossible_inertia": Fault(
            Code.INERTIA,
            stack,
            tampered(lambda s: s.model.body_inertia.__setitem__(s.model.body("red_block").id, [1e-5, 1e-6, 1e-6])),
        ),
    },
    "G4": {
        "no_room_12": Fault(
            Code.PLACEMENT_INFEASIBLE,
            lambda: stack(
                entities=[
                    _red(placement=_at([0.45, 0.0, 0.46, 0.01])),
                    {**BLUE, "placement": _at([0.45, 0.0, 0.46, 0.01])},
                ]
            ),
        ),
        "everything_slides": Fault(Code.UNSTABLE, stack, tampered(_tipsy)),
        "floating_object": Fault(Code.FLOATING, stack, tampered(_float)),
        "seed_reuse_3": Fault(Code.SEED_REUSE, stack, tampered(_one_seed)),
        "seeded_by_the_clock": Fault(Code.NOT_DETERMINISTIC, stack, tampered(_clock_seed)),
    },
    "G5": {
        "interpenetrating_objects": Fault(
            Code.PENETRATION,
            lambda: stack(
                entities=[
                    _red(placement=_at([0.45, 0.0, 0.46, 0.02])),
                    {**BLUE, "placement": _at([0.45, 0.0, 0.46, 0.02])},
                ]
            ),
            tampered(_lying_footprint),
        ),
        "unreachable_object": Fault(
            Code.UNREACHABLE, lambda: stack(entities=[_red(placement=_at([1.3, -0.1, 1.4, 0.1])), BLUE])
        ),
        "too_wide": Fault(Code.TOO_WIDE, lambda: stack(entities=[_red(size=[0.12, 0.12, 0.06], mass=0.3), BLUE])),
        "too_flat": Fault(Code.NO_GRASP, lambda: stack(entities=[_red(size=[0.04, 0.04, 0.004], mass=0.01), BLUE])),
        "beyond_the_payload": Fault(
            Code.PAYLOAD,
            lambda: stack(robot="so101", entities=[_near(_red(size=[0.04, 0.04, 0.1], mass=3.0)), _near(BLUE)]),
        ),
        "unreachable_goal": Fault(
            Code.NO_GOAL_IK,
            lambda: stack(
                entities=[RED, thing("far_region", "zone", "green", "distractor", placement=_at([1.1, 0.0, 1.1, 0.0]))],
                goal=atom("on", "red_block", "far_region"),
                subgoals=[sub("place_on", "red_block", "far_region", goal=atom("on", "red_block", "far_region"))],
                text="put the red block on the green region",
            ),
        ),
        "handle_out_of_reach": Fault(Code.HANDLE_UNREACHABLE, lambda: _far_drawer()),
    },
    "G6": {
        "true_at_reset_1": Fault(Code.TRIVIAL, lambda: _red_alone(atom("on", "red_block", "table"))),
        "vacuous": Fault(Code.TRIVIAL, lambda: changed(goal=Not(part=stack().goal))),  # pyright: ignore[reportCallIssue]
        "initially_not_so": Fault(Code.INIT_FALSE, lambda: stack(init=[atom("on", "red_block", "blue_block")])),
        "violated_before_it_begins": Fault(Code.NEVER_FIRES, lambda: stack(never=[atom("on", "red_block", "table")])),
        "moves_by_itself": Fault(Code.NOOP_SUCCESS, lambda: _red_alone(atom("moved", "red_block", 0.03)), _restless),
        "any_bump_will_do": Fault(Code.RANDOM_SUCCESS, lambda: _bumped()),
        "zero_tolerance_19": Fault(
            Code.UNSATISFIABLE, lambda: stack(goal=atom("on", "red_block", "blue_block", z=0.0, contact=0.0))
        ),
        "does_not_fit": Fault(
            Code.UNSATISFIABLE,
            lambda: put_in(entities=[_red(size=[0.06, 0.06, 0.12]), {**BOWL, "size": [0.045, 0.03]}]),
        ),
        "z_blind_2": Fault(
            Code.MUTANT_SURVIVED, lambda: stack(goal=atom("on", "red_block", "blue_block", z=10.0, contact=10.0))
        ),
        "touching_is_not_on": Fault(
            Code.MUTANT_SURVIVED, lambda: stack(goal=atom("near", "red_block", "blue_block", 0.01))
        ),
        "beside_is_not_in_21": Fault(
            Code.MUTANT_SURVIVED, lambda: put_in(goal=atom("near", "red_block", "bowl", 0.01))
        ),
        "slack_of_a_metre_20": Fault(
            Code.MUTANT_SURVIVED,
            lambda: put_in(
                entities=[RED, _bin()],
                goal=atom("in", "red_block", "bowl", contact=1.0, frac=0.0),
                text="put the red block in the gray bin",
            ),
        ),
        "momentary_16": Fault(Code.MUTANT_SURVIVED, lambda: stack(hold={"seconds": 0.0})),
        "passing_through_16": Fault(Code.MUTANT_SURVIVED, lambda: stack(hold={"max_lin": 5.0, "max_ang": 50.0})),
        "never_let_go": Fault(Code.MUTANT_SURVIVED, lambda: stack(hold={"released": False})),
        "latched_17": Fault(Code.MUTANT_SURVIVED, lambda: stack(goal={"once": atom("on", "red_block", "blue_block")})),
        "barely_open": Fault(Code.MUTANT_SURVIVED, lambda: opened("drawer", "slide", ">=", 0.2)),
        "any_order": Fault(
            Code.MUTANT_SURVIVED,
            lambda: in_order().model_copy(update={"goal": _loose_sequence()}),
        ),
        "depends_on_the_grid": Fault(Code.METAMORPHIC, beside, patched=lambda: atom_replaced("left_of", _on_a_grid)),
        "depends_on_names": Fault(Code.METAMORPHIC, beside, patched=lambda: atom_replaced("left_of", _by_the_alphabet)),
        "known_exploit": Fault(Code.MUTANT_SURVIVED, stack, before=_exploit),
    },
    "G8": {
        "left_is_right": Fault(
            Code.MISALIGNED,
            lambda: beside().model_copy(
                update={"instruction": Instruction(text="put the red block to the right of the blue block")}
            ),
        ),
        "build_a_wheel": Fault(Code.MISALIGNED, lambda: stack(text="build a wheel")),
        "wrong_object": Fault(
            Code.MISALIGNED,
            lambda: stack(
                entities=[RED, BLUE, {**GREEN, "role": "distractor"}], text="stack the green block on the blue block"
            ),
        ),
        "wrong_way_round": Fault(Code.MISALIGNED, lambda: stack(text="stack the blue block on the red block")),
        "open_is_closed": Fault(Code.MISALIGNED, lambda: opened("drawer", "slide", text="close the drawer")),
        "three_are_two": Fault(
            Code.MISALIGNED,
            lambda: counted().model_copy(update={"instruction": Instruction(text="put three blocks in the gray tray")}),
        ),
        "in_is_beside": Fault(Code.MISALIGNED, lambda: put_in(text="push the red block against the blue bowl")),
        "judge_is_out_11": Fault(Code.ERROR, stack, patched=lambda: judge_replaced(_outage)),
    },
    "G7": {
        "nobody_knows_how": Fault(
            Code.EXPERT_FAILS,
            lambda: stack(subgoals=[sub("pick", "red_block", goal=atom("on", "red_block", "blue_block"))]),
        ),
        "not_repeatable_27": Fault(Code.REPLAY_DIFFERS, stack, _shaky),
    },
    "G9": {
        "tampered_demo_27": Fault(Code.ACTIONS_DIFFER, stack, before=_edit_demo(_nudged)),
        "kinematic_demo_13": Fault(Code.ACTIONS_DIFFER, stack, before=_edit_demo(_kinematic)),
        "truncated_demo_26": Fault(Code.ACTIONS_DIFFER, stack, before=_edit_demo(lambda a: a[: len(a) // 2])),
        "other_version_27": Fault(Code.VERSION, stack, before=_other_version),
        "other_start": Fault(Code.STATE_DIFFERS, stack, before=_other_start),
    },
}


def _red_alone(goal: dict) -> TaskSpec:
    return spec("move the red block", [RED], goal)


def _bin() -> dict:
    return thing("bowl", "bin", "gray", "receptacle")


def _unsized(entity: dict, **values) -> dict:
    return {**entity, "size": None, **values}


def _near(entity: dict) -> dict:
    return {**entity, "placement": {**entity["placement"], "box": [0.2, -0.1, 0.27, 0.1]}}


def _hinge() -> Atom:
    return Atom(name="joint", args=("drawer", "hinge", ">=", 0.8))


def _zone_too() -> dict:
    return {"and": [atom("on", "red_block", "blue_block"), atom("on", "red_block", "red_region")]}


def _far_drawer() -> TaskSpec:
    base = opened("drawer", "slide")
    entity = base.entities[0]
    placement = entity.placement.model_copy(update={"box": (1.25, 0.0, 1.25, 0.0)})
    return base.model_copy(
        update={"entities": (entity.model_copy(update={"role": "distractor", "placement": placement}),)}
    )


def _bumped() -> TaskSpec:
    blocks = [{**GREEN, "id": f"block_{k}", "size": [0.06, 0.06, 0.16], "mass": 0.2} for k in range(7)]
    body = {"var": "x", "among": {"card": "block"}, "pred": atom("moved", "$x", 0.002)}
    return spec("move one of the green blocks", blocks, {"exists": body}, hold={"seconds": 0.1})


def _loose_sequence():
    from robostack.task.predicate import And, Seq

    first, second = (Atom(name="in", args=(f"{c}_block", "bowl")) for c in ("red", "green"))
    return Seq(parts=(first, And(parts=(first, second))))  # pyright: ignore[reportCallIssue]
