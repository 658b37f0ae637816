"""The cheater finds the exploit of a weak goal, and leaves a sound one in peace."""

import sys
from pathlib import Path

import numpy as np
import pytest

from robostack.errors import ConfigError
from robostack.paths import data_dirs
from robostack.sim.env import TaskEnv
from robostack.sim.scene import Scene
from robostack.task.evaluate import GoalMonitor, margin
from robostack.task.predicate import all_of
from robostack.task.spec import TaskSpec
from simgen.gates.cheater import CheatBudget, search_exploits
from simgen.gates.cheater_evidence import Track, judge, promises
from simgen.gates.cheater_moves import cheats
from simgen.gates.stage import Stage

sys.path.insert(0, str(Path(__file__).parent))
from exploitable import EXPLOITABLE

BY_HAND = CheatBudget(seeds=1, plans=0)
PRESETS = sorted((data_dirs()[-1] / "presets").glob("*/*.json"))
QUICK = ("near_only", "unreleased", "momentary")


def preset(name):
    return TaskSpec.load(data_dirs()[-1] / f"presets/{name}/panda.json")


@pytest.mark.parametrize("name", QUICK)
def test_the_planted_exploit_is_found(name):
    case = EXPLOITABLE[name]
    found = search_exploits(case.spec, budget=BY_HAND)
    assert case.kind in {kind for exploit in found for kind in exploit.kinds}, case.exploit
    for exploit in found:
        assert exploit.cheat in exploit.explanation
        assert "\n" not in exploit.explanation
        assert exploit.margin >= 0


@pytest.mark.slow
def test_at_least_eight_of_ten_planted_exploits_are_found():
    assert len(EXPLOITABLE) == 10
    missed = [
        name
        for name, case in EXPLOITABLE.items()
        if case.kind not in {k for e in search_exploits(case.spec, budget=BY_HAND) for k in e.kinds}
    ]
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("name", ["stack_two", "put_in_bowl"])
def test_a_sound_goal_is_left_in_peace(name):
    assert search_exploits(preset(name), budget=BY_HAND) == ()


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_all_shipped_goals_are_left_in_peace(path):
    found = search_exploits(TaskSpec.load(path), budget=BY_HAND)
    assert found == (), [e.explanation for e in found]


@pytest.fixture(scope="module")
def exploit():
    (found,) = search_exploits(EXPLOITABLE["near_only"].spec, budget=BY_HAND)
    return found


def test_an_exploit_is_a_mutant_that_the_repaired_goal_kills(exploit):
    spec = EXPLOITABLE["near_only"].spec
    scene = Scene(spec)
    scene.reset(exploit.seed)
    scene.set_state(exploit.state)
    conjunct = exploit.evidence[0].conjunct
    assert conjunct is not None
    assert margin(spec.goal, scene.world) == pytest.approx(exploit.margin, abs=1e-9)
    assert margin(all_of(spec.goal, conjunct), scene.world) < 0


def test_the_search_is_a_function_of_its_arguments(exploit):
    (again,) = search_exploits(EXPLOITABLE["near_only"].spec, budget=BY_HAND)
    assert np.array_equal(again.state, exploit.state)
    assert again.explanation == exploit.explanation


def test_a_repaired_task_withstands():
    spec = EXPLOITABLE["near_only"].spec
    (found,) = search_exploits(spec, budget=BY_HAND)
    repaired = spec.model_copy(update={"goal": all_of(spec.goal, found.evidence[0].conjunct)})
    assert search_exploits(repaired, budget=BY_HAND) == ()


def test_actions_find_what_no_edit_was_allowed_to():
    budget = CheatBudget(seeds=1, edits=0, plans=3, population=16)
    found = search_exploits(EXPLOITABLE["moved_only"].spec, budget=budget)
    (exploit,) = found
    assert exploit.cheat == "actions"
    assert "OUTCOME" in exploit.kinds
    env = TaskEnv(EXPLOITABLE["moved_only"].spec)
    env.reset_scene(exploit.seed)
    for action in exploit.actions:
        env.apply(action)
    assert env.success
    assert np.array_equal(env.scene.get_state(), exploit.state)


def test_every_cheat_can_be_played_and_the_start_comes_back():
    spec = preset("sort_by_color")
    stage = Stage(TaskEnv(spec))
    stage.restart(0)
    start = stage.save()
    listed = list(cheats(spec, stage))
    assert np.array_equal(stage.save(), start)
    assert {c.name for c in listed} >= {"nudge", "beside", "lean", "rim", "hand", "topple", "throw", "pile", "deal"}
    for cheat in listed[:: max(1, len(listed) // 40)]:
        stage.load(start)
        if cheat.apply(stage):
            assert np.isfinite(stage.data.qpos).all()


def test_what_skills_promise_is_read_from_the_subgoals():
    spec = preset("sort_by_color")
    assert [item for item, _ in promises(spec)] == ["red_block", "blue_block"]
    stage = Stage(TaskEnv(spec))
    stage.restart(0)
    evidence = judge(spec, stage.world, track=None)
    assert [e.kind for e in evidence] == ["OUTCOME", "OUTCOME"]


def test_violence_on_the_way_is_evidence():
    spec = preset("put_on_plate")
    stage = Stage(TaskEnv(spec))
    stage.restart(0)
    track = Track(lifted=set(), grasped=set(), deepest=-0.004, fastest=5.0, robot_touched=set())
    kinds = {e.kind for e in judge(spec, stage.world, track=track)}
    assert kinds >= {"PENETRATION", "SPEED", "NOT_LIFTED"}


def test_a_task_already_done_by_its_skill_has_no_evidence_against_it():
    spec = preset("put_on_plate")
    stage = Stage(TaskEnv(spec))
    stage.restart(0)
    plate = stage.pose("blue_plate")[0]
    stage.put("red_cube", plate + [0.0, 0.0, 0.0285])
    stage.refresh()
    stage.settle(0.3)
    monitor = GoalMonitor(spec, stage.world)
    for k in range(12):
        monitor.update(0.05 * k)
    assert monitor.success
    assert judge(spec, stage.world, track=None) == ()


@pytest.mark.parametrize(("values", "culprit"), [({"seeds": 0}, "seeds=0"), ({"population": 2}, "population=2")])
def test_a_budget_that_makes_no_sense_is_refused(values, culprit):
    with pytest.raises(ConfigError, match=culprit):
        CheatBudget(**values)
