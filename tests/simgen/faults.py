"""Planted faults: tasks that are broken in one way each, with the gate that is there for it and the code it must give.

A number at the end of a name is the kind of bug, as published generators of tasks have shipped it.
"""

from __future__ import annotations

from faults_make import (
    Fault,
    a_bin,
    at,
    atom_replaced,
    bumped,
    by_the_alphabet,
    changed,
    clock_seed,
    crowd,
    edit_demo,
    exploit,
    far_drawer,
    few_starts,
    floats,
    frozen,
    hinge,
    inertia,
    judge_replaced,
    kinematic,
    log_aside,
    loose_sequence,
    lying_footprint,
    near,
    nested,
    nine_seeds,
    nudged,
    on_a_grid,
    one_seed,
    opened_first,
    other_start,
    other_version,
    outage,
    put_in,
    red,
    red_alone,
    restless,
    shaky,
    stack,
    stiff_spring,
    tampered,
    tipsy,
    unsized,
    zone_too,
    zones,
)
from gate_specs import BLUE, BOWL, GREEN, RED, atom, beside, counted, in_order, lifted, opened, shared_out, sub, thing

from robostack.task.predicate import Atom, Not
from robostack.task.spec import Hold, Instruction, RobotRef
from simgen.gates.codes import Code
from simgen.gates.record import Gate

FAULTS: dict[Gate, dict[str, Fault]] = {
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
                entities=[RED, *zones()],
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
        "crowd": Fault(Code.LIMITS, lambda: stack(entities=crowd())),
        "deep_nesting": Fault(Code.LIMITS, lambda: stack(goal=nested(12))),
        "absurd_mass": Fault(Code.RANGE, lambda: stack(entities=[red(mass=500.0), BLUE])),
        "size_in_millimetres": Fault(Code.RANGE, lambda: stack(entities=[red(size=[40.0, 40.0, 40.0]), BLUE])),
        "yaw_in_degrees": Fault(
            Code.RANGE, lambda: stack(entities=[red(placement={**RED["placement"], "yaw": [-180.0, 180.0]}), BLUE])
        ),
        "duplicate_entity": Fault(Code.SCHEMA, lambda: changed(entities=stack().entities * 2)),
        "not_a_number": Fault(Code.SCHEMA, lambda: changed(horizon_s=float("nan"))),
        "not_a_sentence": Fault(Code.TEXT, lambda: changed(instruction=Instruction(text="stack\nthe red block"))),
    },
    "G2": {
        "asset_that_does_not_exist": Fault(
            Code.UNKNOWN_ASSET, lambda: stack(entities=[RED, unsized(BLUE, card="anvil")])
        ),
        "wrong_robot": Fault(Code.UNKNOWN_ROBOT, lambda: changed(robot=RobotRef(name="tars"))),
        "colour_that_does_not_exist": Fault(Code.UNKNOWN_COLOR, lambda: stack(entities=[red(color="octarine"), BLUE])),
        "missing_joint_9": Fault(
            Code.UNKNOWN_JOINT, lambda: opened("drawer", "slide").model_copy(update={"goal": hinge()})
        ),
        "hollow_in_a_solid": Fault(
            Code.BINDING,
            lambda: stack(goal=atom("in", "red_block", "blue_block"), text="put the red block in the blue block"),
        ),
        "painted_manipuland": Fault(
            Code.BINDING, lambda: stack(entities=[RED, BLUE, {**zones()[0], "role": "manipuland"}], goal=zone_too())
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
        "name_of_the_world": Fault(
            Code.COMPILE,
            lambda: stack(
                entities=[RED, {**BLUE, "id": "world"}],
                goal=atom("on", "red_block", "world"),
                subgoals=[sub("stack", "red_block", "world", goal=atom("on", "red_block", "world"))],
            ),
        ),
        "crate_of_two_tons": Fault(Code.MASS, lambda: stack(entities=[red(size=[1.4, 1.4, 1.4]), BLUE])),
        "grain_of_dust": Fault(Code.MASS, lambda: stack(entities=[red(size=[0.001, 0.001, 0.001]), BLUE])),
        "spring_too_stiff": Fault(
            Code.WARNINGS, lambda: opened("button", "press"), tampered(stiff_spring), patched=log_aside
        ),
        "heavy_feather": Fault(Code.DENSITY, lambda: stack(entities=[red(mass=5.0), BLUE])),
        "balloon": Fault(Code.DENSITY, lambda: stack(entities=[red(mass=4e-4), BLUE])),
        "ice": Fault(Code.FRICTION, lambda: stack(entities=[red(friction=0.001), BLUE])),
        "glue": Fault(Code.FRICTION, lambda: stack(entities=[red(friction=20.0), BLUE])),
        "huge_inertia_8": Fault(Code.INERTIA, stack, tampered(inertia(1.0))),
        "tiny_inertia_8": Fault(Code.INERTIA, stack, tampered(inertia(1e-9))),
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
                    red(placement=at([0.45, 0.0, 0.46, 0.01])),
                    {**BLUE, "placement": at([0.45, 0.0, 0.46, 0.01])},
                ]
            ),
        ),
        "everything_slides": Fault(Code.UNSTABLE, stack, tampered(tipsy)),
        "floating_object": Fault(Code.FLOATING, stack, tampered(floats)),
        "seed_reuse_3": Fault(Code.SEED_REUSE, stack, tampered(one_seed)),
        "seeded_by_the_clock": Fault(Code.NOT_DETERMINISTIC, stack, tampered(clock_seed)),
    },
    "G5": {
        "interpenetrating_objects": Fault(
            Code.PENETRATION,
            lambda: stack(
                entities=[
                    red(placement=at([0.45, 0.0, 0.46, 0.02])),
                    {**BLUE, "placement": at([0.45, 0.0, 0.46, 0.02])},
                ]
            ),
            tampered(lying_footprint),
        ),
        "unreachable_object": Fault(
            Code.UNREACHABLE, lambda: stack(entities=[red(placement=at([1.3, -0.1, 1.4, 0.1])), BLUE])
        ),
        "too_wide": Fault(Code.TOO_WIDE, lambda: stack(entities=[red(size=[0.12, 0.12, 0.06], mass=0.3), BLUE])),
        "too_flat": Fault(Code.NO_GRASP, lambda: stack(entities=[red(size=[0.04, 0.04, 0.004], mass=0.01), BLUE])),
        "beyond_the_payload": Fault(
            Code.PAYLOAD,
            lambda: stack(robot="so101", entities=[near(red(size=[0.04, 0.04, 0.1], mass=3.0)), near(BLUE)]),
        ),
        "unreachable_goal": Fault(
            Code.NO_GOAL_IK,
            lambda: stack(
                entities=[RED, thing("far_region", "zone", "green", "distractor", placement=at([1.1, 0.0, 1.1, 0.0]))],
                goal=atom("on", "red_block", "far_region"),
                subgoals=[sub("place_on", "red_block", "far_region", goal=atom("on", "red_block", "far_region"))],
                text="put the red block on the green region",
            ),
        ),
        "handle_out_of_reach": Fault(Code.HANDLE_UNREACHABLE, lambda: far_drawer()),
    },
    "G6": {
        "true_at_reset_1": Fault(Code.TRIVIAL, lambda: red_alone(atom("on", "red_block", "table"))),
        "vacuous": Fault(Code.TRIVIAL, lambda: changed(goal=Not(part=stack().goal))),  # pyright: ignore[reportCallIssue]
        "initially_not_so": Fault(Code.INIT_FALSE, lambda: stack(init=[atom("on", "red_block", "blue_block")])),
        "violated_before_it_begins": Fault(Code.NEVER_FIRES, lambda: stack(never=[atom("on", "red_block", "table")])),
        "moves_by_itself": Fault(Code.NOOP_SUCCESS, lambda: red_alone(atom("moved", "red_block", 0.03)), restless),
        "any_bump_will_do": Fault(Code.RANDOM_SUCCESS, lambda: bumped()),
        "zero_tolerance_19": Fault(
            Code.UNSATISFIABLE, lambda: stack(goal=atom("on", "red_block", "blue_block", z=0.0, contact=0.0))
        ),
        "does_not_fit": Fault(
            Code.UNSATISFIABLE,
            lambda: put_in(entities=[red(size=[0.06, 0.06, 0.12]), {**BOWL, "size": [0.045, 0.03]}]),
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
                entities=[RED, a_bin()],
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
            lambda: in_order().model_copy(update={"goal": loose_sequence()}),
        ),
        "any_order_of_furniture": Fault(Code.MUTANT_SURVIVED, opened_first),
        "depends_on_the_grid": Fault(Code.METAMORPHIC, beside, patched=lambda: atom_replaced("left_of", on_a_grid)),
        "depends_on_names": Fault(Code.METAMORPHIC, beside, patched=lambda: atom_replaced("left_of", by_the_alphabet)),
        "known_exploit": Fault(Code.MUTANT_SURVIVED, stack, before=exploit),
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
        "judge_is_out_11": Fault(Code.ERROR, stack, patched=lambda: judge_replaced(outage)),
    },
    "G7": {
        "nobody_knows_how": Fault(
            Code.EXPERT_FAILS,
            lambda: stack(subgoals=[sub("pick", "red_block", goal=atom("on", "red_block", "blue_block"))]),
        ),
        "few_starts_3": Fault(Code.SEEDS_EQUAL, stack, tampered(few_starts), before=nine_seeds),
        "not_repeatable_27": Fault(Code.REPLAY_DIFFERS, stack, shaky),
    },
    "G9": {
        "tampered_demo_27": Fault(Code.ACTIONS_DIFFER, stack, before=edit_demo(nudged)),
        "kinematic_demo_13": Fault(Code.ACTIONS_DIFFER, stack, before=edit_demo(kinematic)),
        "self_reported_success_26": Fault(Code.ACTIONS_DIFFER, stack, before=edit_demo(frozen)),
        "other_version_27": Fault(Code.VERSION, stack, before=other_version),
        "other_start": Fault(Code.STATE_DIFFERS, stack, before=other_start),
    },
}
