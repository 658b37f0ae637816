"""The Push-T expert: solves, repeats itself, moves within limits; its demonstrations are stored, replayed, exported."""

import math

import numpy as np
import pytest

from robostack.data.raw import RawStore
from robostack.errors import DataError
from robostack.sim.pusht import GOAL, PushTEnv
from robostack.sim.scene import train_seed
from robostack.task.benchmark import PushTTask
from simgen.demos import collect
from simgen.experts.pusht import PushTExpert
from simgen.experts.pusht_scene import Around, Moment, Rehearsal, contacts, misplacement

pytest.importorskip("gym_pusht")


@pytest.fixture(scope="module")
def expert():
    return PushTExpert(PushTEnv())


@pytest.fixture(scope="module")
def solved(expert):
    return [expert.solve(train_seed(i)) for i in range(4)]


def test_the_expert_solves_with_bounded_commands_in_short_time(solved):
    for episode, code in solved:
        assert code == ""
        assert episode.success
        assert 10 <= len(episode) <= 150
        moves = np.linalg.norm(np.diff(episode.action, axis=0), axis=1)
        assert moves.max() <= 60
        assert np.linalg.norm(episode.action[0] - episode.state[0]) <= 60


def test_the_same_seed_gives_the_same_commands_whatever_was_solved_before(expert, solved):
    again, _ = expert.solve(train_seed(1))
    assert again.action.tobytes() == solved[1][0].action.tobytes()
    assert again.final_sha == solved[1][0].final_sha


def test_a_tip_that_starts_inside_the_t_gets_out_of_it(expert):
    episode, code = expert.solve(2042)
    around = Around(tuple(episode.state0[4:].tolist()))
    x, y = around.local(tuple(episode.state0[:2].tolist()))
    assert abs(x) < 60
    assert 0 < y < 30
    assert code == ""


def test_a_demonstration_replays_to_the_last_bit_and_another_does_not(solved):
    env, episode = PushTEnv(), solved[0][0]
    assert env.replays(episode)
    changed = episode.ctrl.copy()
    changed[3, 0] += 1e-3
    assert not env.replays(type(episode)(**{**vars(episode), "ctrl": changed}))


def test_a_rehearsal_is_what_will_happen():
    env, copy = PushTEnv(), Rehearsal()
    env.reset_scene(4)
    values = env.configuration.tolist()
    moment = Moment(tuple(values[:2]), tuple(values[2:4]), tuple(values[4:]))
    copy.start(moment)
    for _ in range(10):
        copy.step((20.0, 20.0))
    copy.start(moment)
    for _ in range(25):
        command = env.configuration[4:6]
        env.apply(command)
        moment = copy.step(tuple(command.tolist()))
        np.testing.assert_allclose([*moment.tip, *moment.velocity, *moment.pose], env.configuration, rtol=0, atol=1e-6)


def test_contacts_lie_on_the_outline_with_room_for_the_tip():
    found = contacts(12.0)
    assert len(found) > 30
    for contact in found:
        x, y = contact.point
        assert (abs(x) <= 60 and 0 <= y <= 30) or (abs(x) <= 15 and 0 <= y <= 120)
        assert math.hypot(*contact.normal) == pytest.approx(1.0)


def test_ways_keep_clear_of_the_t():
    pose = (250.0, 260.0, 0.7)
    around = Around(pose)
    for contact in contacts(12.0):
        start = (60.0, 450.0)
        way = around.way(start, contact.approach)
        assert way is not None
        for a, b in zip([start, *way], way, strict=False):
            for share in np.linspace(0, 1, 50):
                x, y = around.local((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
                assert not (abs(x) < 75 and -15 < y < 45)
                assert not (abs(x) < 30 and 15 < y < 135)


def test_there_is_no_way_to_where_the_table_ends():
    around = Around((60.0, 256.0, 0.0))
    assert around.way((400.0, 400.0), (-83.0, 15.0)) is None


def test_the_goal_pose_has_no_misplacement():
    assert misplacement(GOAL) == 0
    assert misplacement((GOAL[0] + 3, GOAL[1] + 4, GOAL[2])) == pytest.approx(5.0)


def test_collected_demonstrations_resume_and_do_not_depend_on_workers(tmp_path, solved):
    task = PushTTask()
    report = collect(task, tmp_path / "a", n=2, seed=0, workers=1, progress=False)
    assert report.n == report.replayed_exact == 2
    store = RawStore(report.store_dir)
    np.testing.assert_array_equal(store.load(train_seed(0)).action, solved[0][0].action)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "a" / "episodes").iterdir()}
    more = collect(task, tmp_path / "a", n=3, seed=0, workers=2, progress=False)
    assert more.seeds[:2] == report.seeds
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    with pytest.raises(DataError, match="holds episodes of task"):
        collect(PushTTask(horizon_s=5.0), tmp_path / "a", n=1, seed=0, workers=1, progress=False)
