"""The library that ships: every task carries its proof, and the proof is of that task."""

import json

import numpy as np
import pytest

from robostack.paths import data_dirs
from robostack.sim.cards import robots
from robostack.sim.env import TaskEnv
from robostack.sim.scene import state_sha, versions
from robostack.task.check import check
from simgen.library.signature import signature
from simgen.library.store import Library

LIBRARY = Library(data_dirs()[-1] / "tasks")
IDS = LIBRARY.ids()


def test_there_are_tasks_of_many_families_for_every_robot():
    specs = [entry.spec for entry in LIBRARY]
    assert len(specs) >= 60
    assert len({spec.family for spec in specs}) >= 12
    assert sum(any(s.skill in ("open", "close", "press", "turn") for s in spec.subgoals) for spec in specs) >= 15
    assert {spec.robot.name for spec in specs} == set(robots())


def test_every_method_has_solved_what_the_cheaper_ones_could_not():
    solved = {}
    for entry in LIBRARY:
        assert entry.certificate is not None
        for method in entry.certificate.methods:
            solved.setdefault(method, []).append(entry)
    assert set(solved) == {"skill", "motion", "trajopt", "rl"}
    for method, failed in (("trajopt", ("skill+motion",)), ("rl", ("skill+motion", "skill+motion+trajopt"))):
        for entry in solved[method]:
            (record,) = [r for r in entry.records if r.gate == "G7"]
            *before, last = record.metrics["tried"]
            assert tuple(tried.split()[0] for tried in before) == failed
            assert all(int(tried.split()[1].split("/")[0]) < 8 for tried in before)
            assert method in last


def test_no_two_tasks_mean_the_same():
    signatures = [signature(entry.spec) for entry in LIBRARY]
    assert len(set(signatures)) == len(signatures)


@pytest.mark.parametrize("task_id", IDS)
def test_a_task_is_what_its_folder_says_and_its_certificate_is_its_own(task_id):
    entry = LIBRARY.load(task_id)
    check(entry.spec)
    assert entry.failed is None
    assert entry.certificate is not None
    assert entry.certificate.task == entry.spec.id == task_id
    seeds = [episode.seed for episode in entry.certificate.episodes]
    assert len(set(seeds)) == len(seeds) == entry.certificate.n
    assert sum(episode.ok for episode in entry.certificate.episodes) == entry.certificate.k
    assert entry.certificate.wilson95[0] >= 0.25
    assert set(entry.demos) == set(entry.certificate.demos)
    assert all(actions.dtype == np.float32 and np.isfinite(actions).all() for actions in entry.demos.values())
    assert (entry.folder / "witness.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((entry.folder / "keyframes.json").read_text())


@pytest.mark.parametrize("task_id", IDS[::8])
def test_a_demonstration_still_reaches_its_goal_and_replays_to_the_bit_on_its_platform(task_id):
    entry = LIBRARY.load(task_id)
    certificate = entry.certificate
    assert certificate is not None
    seed = certificate.demos[0]
    episode = next(e for e in certificate.episodes if e.seed == seed)
    env = TaskEnv(entry.spec)
    env.reset_scene(seed)
    for action in entry.demos[seed]:
        env.apply(action)
    assert env.success
    if certificate.versions == versions():
        assert state_sha(env.scene.get_state()) == episode.final_sha
