"""The next demonstrations go where they help; the loop from evaluation to demonstrations closes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robostack.errors import ConfigError, DataError, UnknownName
from robostack.task.spec import TaskSpec
from simgen.curriculum.allocate import (
    UNIFORM_SHARE,
    Node,
    apportion,
    beta_cdf,
    nodes,
    plan_demos,
    shares,
    weights,
)
from simgen.curriculum.collect import feedback
from simgen.curriculum.report import Row, StudentReport, read_report
from simgen.curriculum.toy import SETTINGS, compare

PRESETS = Path(__file__).resolve().parents[2] / "data" / "presets"
COUNTS = st.tuples(st.integers(1, 200), st.floats(0, 1), st.integers(0, 2000))


def node(name, n=50, k=25, spent=100, family="stack", **failures):
    return Node(name, family, "", float(n), float(k), spent, failures)


# Allocation.


@given(st.lists(COUNTS, min_size=1, max_size=12), st.integers(1, 3000), st.sampled_from(["frontier", "uniform"]))
def test_every_budget_is_spent_exactly(counts, budget, rule):
    found = [node(str(i), n, round(rate * n), spent) for i, (n, rate, spent) in enumerate(counts)]
    plan = plan_demos(found, budget, rule)
    assert sum(step.demos for step in plan.steps) == budget
    assert all(step.demos >= 0 for step in plan.steps)
    assert [step.node for step in plan.steps] == found


@given(st.lists(COUNTS, min_size=1, max_size=12))
def test_what_can_still_be_learnt_gets_its_part_of_the_uniform_tenth(counts):
    n, rate, spent = (np.array(column, float) for column in zip(*counts, strict=True))
    k = np.round(rate * n)
    share = shares(n, k, spent, "frontier")
    assert share.sum() == pytest.approx(1)
    frozen = np.array([node("x", *c).stuck for c in zip(n, k, spent, strict=True)])
    assert (share[~frozen] >= UNIFORM_SHARE / len(n) - 1e-12).all()


def test_the_weights_are_the_published_rule():
    p, spent = np.array([0.5, 0.0, 1.0]), np.array([0.0, 50.0, 1e12])
    assert weights(p, spent) == pytest.approx([0.1 + 1 + 0.5, 0.1 + 0.25, 0.1])


def test_the_frontier_gets_more_than_the_solved_and_the_hopeless():
    found = [node("edge"), node("solved", 50, 50), node("hopeless", 50, 1)]
    edge, solved, hopeless = (step.demos for step in plan_demos(found, 1000).steps)
    assert edge > hopeless > solved


def test_a_student_that_does_not_learn_gets_no_more_of_the_same():
    plan = plan_demos([node("stuck", 50, 0, 400), node("edge")], 100)
    assert [(step.action, step.demos) for step in plan.steps] == [("SIMPLIFY", 0), ("MORE_SEEDS", 100)]
    assert "NOT_LEARNING" in plan.steps[0].why
    assert [step.action for step in plan.proposals] == ["SIMPLIFY"]


def test_uniform_is_uniform_whatever_the_student_can():
    plan = plan_demos([node("a", 50, 0, 900), node("b", 50, 50), node("c")], 300, "uniform")
    assert [step.demos for step in plan.steps] == [100, 100, 100]


def test_proposals_name_what_the_failures_show():
    found = [
        node("a", 50, 45, family="open"),
        node("b", 50, 46, family="stack"),
        node("c", WRONG_OBJECT=30),
        node("d", 50, 50, family="swap"),
    ]
    proposed = {(step.action, step.node.task_id, step.other) for step in plan_demos(found, 10).proposals}
    assert ("COUNTERFACTUAL", "c", "") in proposed
    assert ("NEW_INSTANCE", "d", "") in proposed
    assert ("COMPOSE", "a", "b") in proposed


def test_equal_tasks_differ_by_one_demonstration_at_most():
    assert apportion(np.full(3, 1 / 3), 100) == [34, 33, 33]
    assert apportion(np.array([0.5, 0.5]), 1) == [1, 0]


@pytest.mark.parametrize(("found", "budget"), [([], 10), ([node("a")], 0)])
def test_nothing_to_plan_is_an_error(found, budget):
    with pytest.raises(ConfigError, match="a plan needs tasks"):
        plan_demos(found, budget)


def test_older_evaluations_count_half_and_order_of_tasks_does_not_matter():
    rows = [Row(task_id="b", n=10, k=10), Row(task_id="a", n=20, k=0, trained_on=7), Row(task_id="a", n=10, k=10)]
    a, b = nodes(rows)
    assert (a.n, a.k, a.spent, a.p) == (15, 5, 7, pytest.approx(6 / 17))
    assert (b.task_id, b.p) == ("b", pytest.approx(11 / 12))


def test_weak_is_a_matter_of_evidence():
    assert node("a", 20, 4).weak
    assert not node("a", 2, 0).weak or beta_cdf(0.6, 1, 3) > 0.9
    assert not node("a", 20, 12).weak


def test_the_beta_distribution_is_that_of_the_tables():
    scipy = pytest.importorskip("scipy.stats")
    for a, b in ((1, 1), (3, 5), (20, 2)):
        assert beta_cdf(0.6, a, b) == pytest.approx(scipy.beta.cdf(0.6, a, b))
    assert beta_cdf(0.6, 2, 5) > beta_cdf(0.6, 2.5, 4.5) > beta_cdf(0.6, 3, 4)


# Simulated students.


def test_the_frontier_rule_is_never_significantly_worse_than_uniform():
    found = [compare(setting, "frontier", 16) for setting in SETTINGS]
    assert not [c for c in found if c.worse]
    assert np.mean([c.gain for c in found]) > 0.002


def test_more_data_for_the_weakest_is_worse_than_uniform():
    found = [compare(s, "weakest", 16) for s in SETTINGS if s.unlearnable and s.demos <= 4000]
    assert all(c.worse for c in found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_frontier_rule_is_never_worse_on_five_groups_of_sixty_students(seed):
    assert not [c for s in SETTINGS if (c := compare(s, "frontier", 60, seed)).worse]


def test_the_comparison_is_the_same_for_the_same_seed():
    assert compare(SETTINGS[0], "frontier", 4, 3) == compare(SETTINGS[0], "frontier", 4, 3)
    assert compare(SETTINGS[0], "uniform", 4).gain == 0


# Reports.


def evaluation(folder, task="put_in_bowl", n=20, k=10, **values):
    spec = TaskSpec.load(PRESETS / task / "panda.json")
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(spec.to_json())
    stage = {"n": n, "successes": k, "success_rate": k / n, "first_time_success": 1.0}
    metrics = {"verb": "eval", "task_id": spec.id, "stages": {"evaluate": stage, "failures": {"DROPPED": n - k}}}
    (folder / "metrics.json").write_text(json.dumps({**metrics, **values}))
    return spec


def test_the_metrics_of_an_evaluation_are_a_report(tmp_path):
    spec = evaluation(tmp_path / "e")
    (row,) = read_report(tmp_path / "e" / "metrics.json", trained_on=30).rows
    assert (row.task_id, row.family, row.n, row.k, row.first_k, row.trained_on) == (spec.id, "put_in", 20, 10, 20, 30)
    assert (row.failures, row.skill_tags, row.factors["robot"]) == ({"DROPPED": 10}, ("place_in",), "panda")


def test_a_folder_of_evaluations_is_a_report_and_other_commands_are_not(tmp_path):
    evaluation(tmp_path / "a")
    evaluation(tmp_path / "b", "stack_two", k=3)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "metrics.json").write_text(json.dumps({"verb": "demos", "stages": {}}))
    assert {row.k for row in read_report(tmp_path).rows} == {3, 10}


def test_the_metrics_of_a_run_are_a_report(tmp_path):
    values = {
        "task_id": "f" * 16,
        "demos": {"n": 300},
        "policy": {"success": 0.86, "n": 50, "first_time_success": 0.9},
        "failure_codes": {"TIMEOUT": 7},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(values))
    (row,) = read_report(tmp_path).rows
    assert (row.n, row.k, row.first_k, row.trained_on, row.failures) == (50, 43, 45, 300, {"TIMEOUT": 7})


def test_a_written_report_is_read_back(tmp_path):
    report = StudentReport(policy_id="x", rows=(Row(task_id="a", n=5, k=2, skill_tags=("pick",)),))
    (tmp_path / "r.json").write_text(report.model_dump_json())
    assert read_report(tmp_path / "r.json") == report


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is missing"),
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"verb": "demos"}', "is no evaluation"),
        ('{"format": "robostack.student/1", "rows": []}', "no student report: rows"),
        ('{"format": "robostack.student/1", "rows": [{"task_id": "a", "n": 3, "k": 4}]}', "k=4 successes of n=3"),
        ('{"verb": "eval", "task_id": "a", "stages": {"evaluate": {"n": "many", "successes": 2}}}', "is damaged: n"),
    ],
)
def test_what_is_no_report_is_refused_on_one_line(tmp_path, content, words):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_report(path)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_and_a_foreign_task_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no evaluation"):
        read_report(tmp_path)
    evaluation(tmp_path / "e", task_id="0" * 16)
    with pytest.raises(DataError, match="evaluate again"):
        read_report(tmp_path / "e")


# The loop.


def test_an_evaluation_becomes_demonstrations(tmp_path):
    spec = evaluation(tmp_path / "evals" / "a")
    found = feedback(tmp_path / "evals", tmp_path / "out", budget=2)
    assert found.demos == 2
    assert found.collected[spec.id].replayed_exact == 2
    assert min(found.collected[spec.id].seeds) >= 2_000_000  # other scenes than those of seed 0
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert [(s["task_id"], s["action"], s["demos"]) for s in plan["steps"]] == [(spec.id, "MORE_SEEDS", 2)]
    assert any(spec.id in line for line in found.lines)


def test_an_unknown_task_is_refused_before_anything_is_collected(tmp_path):
    evaluation(tmp_path / "evals" / "a")
    (tmp_path / "evals" / "b").mkdir()
    stages = {"evaluate": {"n": 9, "successes": 4}}
    foreign = {"verb": "eval", "task_id": "f" * 16, "stages": stages}
    (tmp_path / "evals" / "b" / "metrics.json").write_text(json.dumps(foreign))
    with pytest.raises(UnknownName, match="Keep task.json beside metrics.json"):
        feedback(tmp_path / "evals", tmp_path / "out", budget=4)
    assert not (tmp_path / "out" / "demos").exists()
    assert feedback(tmp_path / "evals", tmp_path / "out", budget=4, gather=False).demos == 0
