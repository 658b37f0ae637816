"""Sound tasks pass, whatever is judged is judged the same way twice, and a gate that fails itself certifies nothing."""

import time

import numpy as np
import pytest
from gate_specs import SPECS

from robostack.paths import data_dirs
from robostack.task.predicate import Atom
from robostack.task.spec import TaskSpec
from simgen.gates import registry
from simgen.gates.candidate import Candidate
from simgen.gates.certify import certify, judge
from simgen.gates.codes import Code
from simgen.gates.funnel import Funnel
from simgen.gates.g6_predicate import mutation_score
from simgen.gates.record import GateRecord
from simgen.gates.registry import ORDER, RegisteredGate, gates
from simgen.gates.sets import canonical
from simgen.propose import propose

PRESETS = sorted((data_dirs()[-1] / "presets").glob("*/*.json"))
QUICK = ("stack_two/panda", "sort_by_color/ur5e", "put_in_bowl/panda")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Pictures take longer than verdicts; the certified task below was made before and has one."""
    monkeypatch.setattr("simgen.gates.certify.picture", lambda candidate: None)


def preset(name):
    return TaskSpec.load(data_dirs()[-1] / f"presets/{name}.json")


def passed(verdict):
    assert verdict.failed is None, f"{verdict.failed.gate} {verdict.failed.code}: {verdict.failed.detail}"
    return verdict


@pytest.fixture(scope="module")
def certified():
    return certify(preset("stack_two/panda"), seeds=4, demos=2)


@pytest.mark.parametrize("name", QUICK)
def test_sound_tasks_pass_every_gate_before_the_expert(name):
    records = passed(certify(preset(name), through="G8")).records
    assert [record.gate for record in records] == list(ORDER[: ORDER.index("G8") + 1])


@pytest.mark.parametrize("name", ["press_button", "sequence", "lift", "topple"])
def test_every_way_of_being_true_has_a_witness_and_killed_mutants(name):
    records = passed(certify(SPECS[name](), through="G6")).records
    mutants = records[-1].metrics["mutants"]
    assert isinstance(mutants, int)
    assert mutants >= 4


@pytest.mark.parametrize(
    ("sentence", "refused"),
    [
        ("put the red cube in the bowl, then put the blue block on the plate", "ORDER(stage 0 last)"),
        ("put the red block on the plate, then close the drawer", "ORDER(stage 0 last)"),
        ("close the drawer, then put the red block left of the blue block", "ORDER(stage 0 last)"),
        ("press the red button, then open the cabinet, then put the can on the plate", "ORDER(stage 1 last)"),
        ("push the lever, then open the drawer", "ORDER(stage 0 last)"),
    ],
)
def test_what_is_to_be_done_first_must_not_be_done_last(sentence, refused):
    candidate = Candidate(propose(sentence, "panda"))
    assert candidate.witness is not None
    score = mutation_score(candidate, candidate.witness)
    assert refused in {mutant.name for mutant in score.mutants}
    assert score.ok, [mutant.name for mutant in score.survivors]


def test_what_lies_beside_a_cleared_region_may_lie_on_any_side_of_it():
    candidate = Candidate(propose("clear the white region", "panda"))
    assert candidate.witness is not None
    score = mutation_score(candidate, candidate.witness)
    assert score.ok, [mutant.name for mutant in score.survivors]
    assert "EPS(left_of red_block: level)" in {mutant.name for mutant in score.mutants}


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_all_presets_are_certified(path):
    verdict = passed(certify(TaskSpec.load(path), seeds=16))
    assert verdict.certified
    assert sum(r.cost_s for r in verdict.records if r.gate < "G7") < 3.0


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_all_small_tasks_pass_through_the_predicate_gate(name):
    assert passed(certify(SPECS[name](), through="G6")).records[-1].gate == "G6"


@pytest.mark.slow
def test_there_are_eight_mutants_on_average():
    made = []
    for path in PRESETS:
        candidate = Candidate(TaskSpec.load(path))
        assert candidate.witness is not None
        made.append(len(mutation_score(candidate, candidate.witness).mutants))
    assert np.mean(made) >= 8


def test_a_certified_task_carries_its_proof(certified):
    passed(certified)
    assert certified.certified
    certificate = certified.certificate
    assert (certificate.k, certificate.n) == (4, 4)
    assert len(certified.demos) == len(certificate.demos) == 2
    assert all(actions.dtype == np.float32 for actions in certified.demos.values())
    assert all(certified.keyframes[seed] for seed in certificate.demos)
    first = certificate.episodes[0]
    assert first.ok
    assert first.methods == ("skill",)
    assert first.min_margin >= 0
    assert len({e.state0_sha for e in certificate.episodes}) == 4
    assert certified.witness_png is None or certified.witness_png.startswith(b"\x89PNG")


def test_the_verdict_is_the_same_the_second_time(certified):
    again = certify(preset("stack_two/panda"), seeds=4, demos=2)
    assert again.certificate == certified.certificate
    strip = {"cost_s": 0.0}
    assert [r.model_copy(update=strip) for r in again.records] == [
        r.model_copy(update=strip) for r in certified.records
    ]
    assert all(np.array_equal(again.demos[s], certified.demos[s]) for s in certified.demos)


def test_what_was_judged_before_is_not_judged_again(certified, monkeypatch):
    verdict = certify(preset("stack_two/panda"), through="G6", given=certified.records)
    assert verdict.records == certified.records[: ORDER.index("G6") + 1]
    other = certify(preset("put_in_bowl/panda"), through="G1", given=certified.records)
    assert other.records[0].task == other.spec.id


def test_a_gate_that_breaks_certifies_nothing():
    def broken(candidate):
        raise ZeroDivisionError("nothing\nto divide by")

    record = RegisteredGate("G3", broken, 1.0)(Candidate(preset("stack_two/panda")))
    assert (record.ok, record.code) == (False, Code.ERROR)
    assert record.detail == "G3 failed itself: ZeroDivisionError: nothing to divide by"


def test_a_gate_that_does_not_end_is_stopped():
    def endless(candidate):
        while True:
            time.process_time()

    record = RegisteredGate("G4", endless, 0.2)(Candidate(preset("stack_two/panda")))
    assert (record.ok, record.code) == (False, Code.TIMEOUT)
    assert 0.1 < record.cost_s < 5.0


def test_gates_stop_at_the_first_failure_and_run_in_order():
    spec = preset("stack_two/panda").model_copy(update={"horizon_s": 1.0})
    verdict = certify(spec)
    assert [r.gate for r in verdict.records] == ["G1"]
    assert verdict.failed is not None
    assert not verdict.certified
    assert [g.name for g in gates("G9")] == list(ORDER) == list(registry._GATES and ORDER)


def test_a_task_without_an_expert_is_not_certified_by_fewer_gates():
    assert not certify(preset("stack_two/panda"), through="G2").certified


def test_replay_needs_demonstrations():
    candidate = Candidate(preset("stack_two/panda"))
    record = gates("G9")[-1](candidate)
    assert (record.gate, record.ok) == ("G9", False)


def test_equal_meaning_is_equal_text():
    spec = SPECS["distinct"]()
    one = Atom(name="near", args=("red_block", "green_block", 0.1))
    two = Atom(name="near", args=("green_block", "red_block", 0.1))
    assert canonical(spec, one) == canonical(spec, two)
    swap = {"red_block": "green_block", "green_block": "red_block"}
    assert canonical(spec, spec.goal) == canonical(spec, spec.goal, swap)
    on = Atom(name="on", args=("red_block", "blue_plate"))
    assert canonical(spec, on) != canonical(spec, on, swap)


def test_leaning_moving_and_standing_again_is_not_knocked_over():
    candidate = Candidate(SPECS["topple"]())
    assert candidate.witness is not None
    score = mutation_score(candidate, candidate.witness)
    assert {"TILT", "MOVING", "MISSING_1", "UNDONE", "PASSING"} <= {m.operator for m in score.mutants}
    assert score.survivors == ()


def test_exchangeable_objects_make_no_mutant():
    candidate = Candidate(SPECS["distinct"]())
    assert candidate.witness is not None
    names = [m.name for m in mutation_score(candidate, candidate.witness).mutants]
    assert not any(name.startswith("SWAP_OBJ") for name in names)
    assert any(name.startswith("DUP") for name in names)


def test_the_funnel_counts_what_was_let_through():
    def record(task, gate, ok, code="OK", cost=1.0):
        return GateRecord(task=task, gate=gate, ok=ok, code=code, cost_s=cost)

    records = [
        *(record(t, "G1", True) for t in "abcd"),
        record("a", "G2", False, "AMBIGUOUS"),
        record("b", "G2", True, cost=3.0),
        record("c", "G2", False, "AMBIGUOUS", 2.0),
        record("d", "G2", False, "BINDING"),
        record("d", "G2", True, cost=4.0),
    ]
    funnel = Funnel.of(records)
    assert [(r.gate, r.entered, r.passed) for r in funnel.rows] == [("G1", 4, 4), ("G2", 4, 2)]
    assert funnel.rows[1].codes == (("AMBIGUOUS", 2),)
    assert funnel.rows[1].cost_s == 2.5
    assert (funnel.proposed, funnel.certified, funnel.cpu_s) == (4, 2, 14.0)
    assert "AMBIGUOUS 2" in funnel.text()
    assert funnel.to_dict()["gates"][1]["share"] == 0.5
    assert Funnel.of([]).certified == 0


def test_an_exploit_that_an_attack_found_fails_the_predicate():
    from simgen.gates.candidate import Mutant

    candidate = Candidate(preset("stack_two/panda"))
    assert candidate.witness is not None
    candidate.exploits = (Mutant("balanced", candidate.witness.state),)
    verdict = judge(candidate, through="G6")
    assert verdict.failed is not None
    assert verdict.failed.code == Code.MUTANT_SURVIVED
    assert "EXPLOIT(balanced)" in verdict.failed.detail


def test_a_spec_with_broken_types_is_refused_not_raised():
    spec = SPECS["lift"]().model_copy(update={"goal": 7, "horizon_s": "long"})
    verdict = certify(spec, through="G1")
    assert verdict.failed is not None
    assert verdict.failed.code == Code.SCHEMA
