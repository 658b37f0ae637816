"""What gates can find wrong: one enum, so that a code that nothing raises or nobody handles shows up in a test."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from simgen.gates.record import Gate


class Code(StrEnum):
    """Outcome of a gate. The table ``GATE_OF`` says which gate speaks which code."""

    OK = "OK"
    # G1: read from the spec alone.
    SCHEMA = "SCHEMA"  # a field is missing, of a wrong type, or names what does not exist
    PREDICATE = "PREDICATE"  # an atom is unknown, or has wrong arguments or tolerances
    CONTRADICTION = "CONTRADICTION"  # no state can satisfy the goal
    BUDGET = "BUDGET"  # not enough time for the subgoals
    UNUSED_OBJECT = "UNUSED_OBJECT"  # something is to be moved that the goal does not speak of
    DUPLICATE_SUBGOAL = "DUPLICATE_SUBGOAL"
    LIMITS = "LIMITS"  # too many entities, nodes or levels
    RANGE = "RANGE"  # a number that cannot be meant
    TEXT = "TEXT"  # an instruction that is no sentence
    # G2: names against cards, words against entities.
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    UNKNOWN_ROBOT = "UNKNOWN_ROBOT"
    UNKNOWN_COLOR = "UNKNOWN_COLOR"
    UNKNOWN_JOINT = "UNKNOWN_JOINT"
    BINDING = "BINDING"  # an entity lacks what the predicate or its role needs
    AMBIGUOUS = "AMBIGUOUS"  # two objects fit "the red block"
    UNGROUNDED = "UNGROUNDED"  # no object fits it
    SLOTS = "SLOTS"  # the parsed parts do not give the sentence back
    # G3: the compiled model.
    COMPILE = "COMPILE"
    MASS = "MASS"
    DENSITY = "DENSITY"
    INERTIA = "INERTIA"
    FRICTION = "FRICTION"
    WARNINGS = "WARNINGS"  # MuJoCo speaks up where a state is not finite, too
    # G4: start states.
    PLACEMENT_INFEASIBLE = "PLACEMENT_INFEASIBLE"
    UNSTABLE = "UNSTABLE"
    FLOATING = "FLOATING"
    SEED_REUSE = "SEED_REUSE"
    NOT_DETERMINISTIC = "NOT_DETERMINISTIC"
    # G5: the robot and the objects.
    PENETRATION = "PENETRATION"
    UNREACHABLE = "UNREACHABLE"
    TOO_WIDE = "TOO_WIDE"
    NO_GRASP = "NO_GRASP"
    NO_GOAL_IK = "NO_GOAL_IK"
    PAYLOAD = "PAYLOAD"
    HANDLE_UNREACHABLE = "HANDLE_UNREACHABLE"
    # G6: the predicate.
    TRIVIAL = "TRIVIAL"  # true at reset
    INIT_FALSE = "INIT_FALSE"
    NEVER_FIRES = "NEVER_FIRES"  # a violation before anything moved
    NOOP_SUCCESS = "NOOP_SUCCESS"
    RANDOM_SUCCESS = "RANDOM_SUCCESS"
    UNSATISFIABLE = "UNSATISFIABLE"  # no witness
    MUTANT_SURVIVED = "MUTANT_SURVIVED"
    METAMORPHIC = "METAMORPHIC"
    # G7: the expert.
    EXPERT_FAILS = "EXPERT_FAILS"
    SEEDS_EQUAL = "SEEDS_EQUAL"
    REPLAY_DIFFERS = "REPLAY_DIFFERS"
    # G8: text against goal.
    MISALIGNED = "MISALIGNED"
    # G9: demonstrations in a fresh process.
    ACTIONS_DIFFER = "ACTIONS_DIFFER"
    STATE_DIFFERS = "STATE_DIFFERS"
    VERSION = "VERSION"
    # Any gate.
    ERROR = "ERROR"  # the gate itself failed: the task is not certified
    TIMEOUT = "TIMEOUT"


_SPOKEN: Mapping[Gate, str] = {
    "G1": "SCHEMA PREDICATE CONTRADICTION BUDGET UNUSED_OBJECT DUPLICATE_SUBGOAL LIMITS RANGE TEXT",
    "G2": "UNKNOWN_ASSET UNKNOWN_ROBOT UNKNOWN_COLOR UNKNOWN_JOINT BINDING AMBIGUOUS UNGROUNDED SLOTS",
    "G3": "COMPILE MASS DENSITY INERTIA FRICTION WARNINGS",
    "G4": "PLACEMENT_INFEASIBLE UNSTABLE FLOATING SEED_REUSE NOT_DETERMINISTIC",
    "G5": "PENETRATION UNREACHABLE TOO_WIDE NO_GRASP NO_GOAL_IK PAYLOAD HANDLE_UNREACHABLE",
    "G6": "TRIVIAL INIT_FALSE NEVER_FIRES NOOP_SUCCESS RANDOM_SUCCESS UNSATISFIABLE MUTANT_SURVIVED METAMORPHIC",
    "G7": "EXPERT_FAILS SEEDS_EQUAL REPLAY_DIFFERS",
    "G8": "MISALIGNED",
    "G9": "ACTIONS_DIFFER STATE_DIFFERS VERSION",
}
GATE_OF: Mapping[Code, Gate] = {Code(code): gate for gate, codes in _SPOKEN.items() for code in codes.split()}
ANY_GATE = frozenset({Code.OK, Code.ERROR, Code.TIMEOUT})
