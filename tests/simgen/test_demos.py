"""Demonstrations: verified, independent of the number of workers, and safe against kills."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from robostack.data.raw import RawStore
from robostack.errors import ConfigError, DataError, ExpertError
from robostack.task.predicate import atom
from simgen.demos import collect, replay_all
from simgen.propose import propose

SENTENCE = "put the red cube in the bowl"

_COLLECT = """
import sys
from simgen.demos import collect
from simgen.propose import propose
if __name__ == "__main__":
    collect(propose(sys.argv[2], "panda"), sys.argv[1], n=int(sys.argv[3]), seed=0, workers=2, progress=False)
"""


def contents(store_dir, seeds):
    store = RawStore(store_dir)
    return [hashlib.sha256(store.load(s).ctrl.tobytes() + store.load(s).final_sha.encode()).hexdigest() for s in seeds]


@pytest.fixture(scope="module")
def spec():
    return propose(SENTENCE, "panda")


def test_the_result_does_not_depend_on_the_number_of_workers(spec, tmp_path):
    one = collect(spec, tmp_path / "one", n=3, seed=5, workers=1, progress=False)
    two = collect(spec, tmp_path / "two", n=3, seed=5, workers=2, progress=False)
    assert one.seeds == two.seeds
    assert contents(one.store_dir, one.seeds) == contents(two.store_dir, two.seeds)
    assert one.n == one.replayed_exact == 3


def test_every_demo_replays_from_disk_and_another_seed_gives_other_scenes(spec, tmp_path):
    report = collect(spec, tmp_path / "a", n=3, seed=0, workers=1, progress=False)
    store = RawStore(report.store_dir)
    assert replay_all(spec, store, report.seeds) == 3
    other = collect(spec, tmp_path / "b", n=1, seed=1, workers=1, progress=False)
    assert not set(other.seeds) & set(report.seeds)
    assert all(store.load(seed).success for seed in report.seeds)


def test_a_finished_collection_is_returned_at_once_and_can_grow_or_shrink(spec, tmp_path):
    first = collect(spec, tmp_path, n=3, seed=0, workers=1, progress=False)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "episodes").iterdir()}
    again = collect(spec, tmp_path, n=2, seed=0, workers=1, progress=False)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "episodes").iterdir()} == stamps
    assert again.seeds == first.seeds[:2]
    more = collect(spec, tmp_path, n=4, seed=0, workers=1, progress=False)
    assert more.seeds[:3] == first.seeds


def test_sigkill_loses_at_most_the_episodes_in_flight_and_the_same_command_finishes(spec, tmp_path):
    command = [sys.executable, "-c", _COLLECT, str(tmp_path / "demos"), SENTENCE, "40"]
    script = tmp_path / "collect.py"  # spawn needs an importable main module
    script.write_text(_COLLECT)
    command = [sys.executable, str(script), str(tmp_path / "demos"), SENTENCE, "40"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env, start_new_session=True)
    episodes = tmp_path / "demos" / "episodes"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not episodes.is_dir() or len(list(episodes.glob("seed_*.npz"))) < 3):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = RawStore(tmp_path / "demos").seeds()
    assert len(kept) >= 3
    assert replay_all(spec, RawStore(tmp_path / "demos"), kept[:2]) == 2
    report = collect(spec, tmp_path / "demos", n=len(kept) + 1, seed=0, workers=1, progress=False)
    assert report.n == len(kept) + 1


def test_an_expert_that_fails_too_often_is_an_error_that_says_why(spec, tmp_path):
    impossible = spec.model_copy(update={"goal": atom("lifted", "bowl", 0.3), "horizon_s": 6.0, "subgoals": ()})
    with pytest.raises(ExpertError, match="solved 0 of 24 seeds"):
        collect(impossible, tmp_path, n=50, seed=0, workers=1, progress=False)


@pytest.mark.parametrize(("n", "workers"), [(0, 1), (-1, 1), (1, 0)])
def test_zero_demos_or_workers_are_refused(spec, tmp_path, n, workers):
    with pytest.raises(ConfigError, match="n >= 1 and workers >= 1"):
        collect(spec, tmp_path, n=n, seed=0, workers=workers, progress=False)


def test_demos_of_another_task_are_refused(spec, tmp_path):
    collect(spec, tmp_path, n=1, seed=0, workers=1, progress=False)
    with pytest.raises(DataError, match="holds episodes of task"):
        collect(
            propose("stack the green block on the blue block", "panda"),
            tmp_path,
            n=1,
            seed=0,
            workers=1,
            progress=False,
        )


def test_recorded_actions_are_the_ones_that_were_sent(spec, tmp_path):
    from robostack.sim.env import TaskEnv

    report = collect(spec, tmp_path, n=1, seed=0, workers=1, progress=False)
    episode = RawStore(tmp_path).load(report.seeds[0])
    env = TaskEnv(spec)
    env.reset_scene(episode.seed)
    for action, ctrl in zip(episode.action, episode.ctrl, strict=True):
        np.testing.assert_array_equal(env.apply(action), ctrl)
    assert env.success
