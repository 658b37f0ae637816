"""One task becomes demonstrations with other objects, each of which holds the goal."""

import json
from pathlib import Path

import pytest

from robostack.data.raw import RawStore
from robostack.errors import ConfigError, ExpertError, UnknownName
from robostack.task.spec import TaskSpec
from simgen import demos
from simgen.demos import replay_all
from simgen.multiply import multiply, recolored, resize, vary
from simgen.teach import teach

PRESETS = Path(__file__).resolve().parents[2] / "data" / "presets"
STACK = TaskSpec.load(PRESETS / "stack_two" / "panda.json")
BOWL = TaskSpec.load(PRESETS / "put_in_bowl" / "panda.json")


def test_colours_are_exchanged_in_objects_words_and_goal():
    swapped = recolored(STACK, {"green": "blue", "blue": "green"})
    assert swapped.instruction.text == "stack the blue block on the green block"
    assert {e.id: e.color for e in swapped.entities} == {"green_block": "green", "blue_block": "blue"}
    assert recolored(swapped, {"green": "blue", "blue": "green"}) == STACK
    assert swapped.id != STACK.id


def test_a_colour_inside_another_word_stays():
    named = STACK.model_copy(update={"family": "bluegreen"})
    assert recolored(named, {"green": "red"}).family == "bluegreen"


def test_two_colours_never_become_one():
    for colors in ({"green": "blue"}, {"green": "red", "blue": "red"}):
        with pytest.raises(ConfigError, match="would make two colours"):
            recolored(STACK, colors)
    assert recolored(STACK, {"green": "green"}) is STACK


def test_every_object_grows_by_the_same_factor():
    larger = resize(STACK, 1.1)
    assert all(e.size == pytest.approx((0.044, 0.044, 0.044)) for e in larger.entities)
    assert resize(larger, 1 / 1.1).entities[0].size == pytest.approx((0.04, 0.04, 0.04))
    assert resize(STACK, 1.0) is STACK


def test_painted_zones_keep_their_size():
    push = TaskSpec.load(PRESETS / "push_to_region" / "panda.json")
    before, after = ({e.id: e.size for e in s.entities if e.role == "zone"} for s in (push, resize(push, 1.2)))
    assert before == after
    assert before


def test_variations_differ_start_with_the_task_itself_and_depend_on_the_seed_alone():
    found = vary(STACK, 5, size_jitter=0.1, recolor=True, seed=3)
    assert found[0].spec == STACK
    assert len({instance.spec.id for instance in found}) == 5
    assert all(0.9 <= instance.scale <= 1.1 for instance in found)
    assert found == vary(STACK, 5, size_jitter=0.1, recolor=True, seed=3)
    assert found[1:] != vary(STACK, 5, size_jitter=0.1, recolor=True, seed=4)[1:]


def test_where_nothing_can_vary_there_is_one_instance():
    assert [i.spec for i in vary(STACK, 4, size_jitter=0.0, recolor=False, seed=0)] == [STACK]
    assert len(vary(STACK, 4, size_jitter=0.0, recolor=True, seed=0)) == 2


@pytest.mark.parametrize("wrong", [{"n": 0}, {"instances": 0}, {"size_jitter": 0.9}, {"size_jitter": float("nan")}])
def test_senseless_numbers_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="multiplication needs"):
        multiply(BOWL, tmp_path, **{"n": 1, **wrong})


def test_every_demonstration_holds_its_goal_and_replays(tmp_path):
    report = multiply(BOWL, tmp_path, n=3, instances=2, size_jitter=0.1, seed=5)
    assert report.n == 3
    assert report.acceptance == report.n / report.attempts
    assert report.ci_low <= report.acceptance <= report.ci_high
    for harvest in report.harvests:
        store = RawStore(harvest.folder / "demos")
        assert store.info.task_id == harvest.instance.spec.id == TaskSpec.load(harvest.folder / "task.json").id
        assert all(episode.success and set(episode.methods) == {"keyframe"} for episode in store)
        assert (harvest.accepted, harvest.by_expert) == (harvest.report.n, 0)
        assert replay_all(harvest.instance.spec, store, store.seeds()) == len(store)
    values = json.loads((tmp_path / "instances.json").read_text())["instances"]
    assert [v["demos"] for v in values] == [v["accepted"] for v in values] == [2, 1]
    assert all(v["wilson95"][0] < v["accepted"] / v["attempts"] <= v["wilson95"][1] for v in values)
    assert multiply(BOWL, tmp_path, n=3, instances=2, size_jitter=0.1, seed=5).n == 3  # resumed: nothing is done twice


def test_a_task_that_nobody_solves_is_an_error_that_names_it(tmp_path):
    hopeless = BOWL.model_copy(update={"horizon_s": 0.2})
    with pytest.raises(ExpertError, match="cannot demonstrate"):
        multiply(hopeless, tmp_path, n=2, instances=1)


def test_what_the_expert_had_to_solve_is_not_accepted(tmp_path, monkeypatch):
    shown = json.loads(json.dumps(teach(BOWL, tmp_path / "right.json")))
    for key in (key for keys in shown.values() for key in keys if key["frame"] == "red_cube"):
        key["pos"][2] += 0.1  # the fingers close in the air
    (tmp_path / "wrong.json").write_text(json.dumps(shown))
    monkeypatch.setattr("simgen.demos._GIVE_UP_AFTER", 3)
    with pytest.raises(ExpertError, match="no instance of"):
        multiply(BOWL, tmp_path / "alone", n=1, instances=1, keyframes=tmp_path / "wrong.json")
    report = multiply(BOWL, tmp_path / "helped", n=1, instances=1, keyframes=tmp_path / "wrong.json", fallback=True)
    assert (report.n, report.accepted, report.acceptance) == (1, 0, 0.0)
    assert report.harvests[0].by_expert == 1


def test_an_instance_that_is_given_up_counts_in_the_acceptance(tmp_path, monkeypatch):
    clumsy = vary(BOWL, 2, size_jitter=0.1, recolor=True, seed=5)[1].spec.id
    real = demos.Expert.solve

    def solve(self, seed):
        episode, code = real(self, seed)
        return episode, code or ("NO_GRASP" if self.env.task.id == clumsy else "")

    monkeypatch.setattr("simgen.demos.Expert.solve", solve)
    monkeypatch.setattr("simgen.demos._GIVE_UP_AFTER", 3)
    report = multiply(BOWL, tmp_path, n=2, instances=2, size_jitter=0.1, seed=5)
    good, bad = report.harvests
    assert (report.n, report.instances, report.refused) == (1, 1, 1)
    assert (bad.report, bad.attempts, bad.accepted, dict(bad.failures)) == (None, 3, 0, {"NO_GRASP": 3})
    assert "solved 0 of 3 seeds" in bad.refused
    assert (report.accepted, report.attempts) == (good.accepted, good.attempts + 3)
    assert report.acceptance == report.accepted / report.attempts
    assert report.ci_low <= report.acceptance <= report.ci_high
    values = json.loads((tmp_path / "instances.json").read_text())["instances"]
    assert [(v["demos"], v["attempts"], bool(v["refused"])) for v in values] == [(1, 1, False), (0, 3, True)]
    assert multiply(BOWL, tmp_path, n=2, instances=2, size_jitter=0.1, seed=5).attempts == report.attempts  # resumed


def test_an_unknown_way_is_answered_with_those_that_exist(tmp_path):
    with pytest.raises(UnknownName, match="Available: expert, keyframe"):
        multiply(BOWL, tmp_path, n=1, methods="copy")
