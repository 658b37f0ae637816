"""Every planted fault is caught by the gate that is there for it, and the gates before it let the task pass."""

import pytest
from faults import FAULTS
from faults_make import Fault

from simgen.gates.candidate import Candidate
from simgen.gates.codes import ANY_GATE, GATE_OF, Code
from simgen.gates.record import Gate
from simgen.gates.registry import gates

SLOW = ("G7", "G8", "G9")  # behind gates that take seconds
QUICK = ("left_is_right", "judge_is_out_11")
LONG = ("does_not_fit", "any_bump_will_do", "any_order", "slack_of_a_metre_20", "passing_through_16", "never_let_go")


def slow(gate: str, name: str) -> bool:
    return name in LONG or (gate in SLOW and name not in QUICK)


CASES = [
    pytest.param(gate, fault, id=f"{gate}-{name}", marks=[pytest.mark.slow] if slow(gate, name) else [])
    for gate, faults in FAULTS.items()
    for name, fault in faults.items()
]


def verdicts(gate: Gate, fault: Fault) -> list:
    candidate = Candidate(fault.make(), build=fault.build, seeds=4, demos=2)
    records = []
    with fault.patched():
        for run in gates(gate):
            if run.name == gate and fault.before is not None:
                fault.before(candidate)
            records.append(run(candidate))
            if not records[-1].ok:
                break
    return records


@pytest.mark.parametrize(("gate", "fault"), CASES)
def test_a_planted_fault_is_caught_by_the_gate_meant_for_it(gate, fault):
    *before, last = verdicts(gate, fault)
    assert all(record.ok for record in before)
    assert (last.gate, last.code) == (gate, fault.code), f"{last.gate} {last.code}: {last.detail} {last.metrics}"
    assert not last.ok
    assert last.detail
    assert "\n" not in last.detail


def test_there_are_enough_planted_faults_and_every_gate_has_some():
    assert sum(len(faults) for faults in FAULTS.values()) >= 60
    assert set(FAULTS) == set(GATE_OF.values())


def test_every_code_belongs_to_one_gate_or_to_all():
    assert set(GATE_OF) | ANY_GATE == set(Code)
    assert not set(GATE_OF) & ANY_GATE


def test_every_code_of_a_gate_is_planted():
    planted = {fault.code for faults in FAULTS.values() for fault in faults.values()}
    assert set(GATE_OF) - planted == set()
    assert planted & ANY_GATE == {Code.ERROR}  # a gate that runs too long is a matter of the machine's load
