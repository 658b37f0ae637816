"""Demonstrations in the other engine: task by task, joint by joint, and for a whole library."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from robostack.cli import main
from robostack.errors import ConfigError, DataError, UnknownName
from robostack.sim import make_task
from robostack.sim.env import TaskEnv
from robostack.sim.scene import train_seed
from simgen.experts.drills import drill
from simgen.experts.expert import Expert
from simgen.library.entry import load_entry
from simgen.library.store import Library, certified_files
from simgen.library.transfer import replay_elsewhere, transfer_library
from simgen.transfer import transfer

sys.path.insert(0, str(Path(__file__).parent))
import library_doubles  # noqa: E402

pytest.importorskip("pybullet")


@pytest.fixture(scope="module")
def demos():
    env = make_task("put_in_bowl", "ur5e")
    expert = Expert(env)
    episodes = {train_seed(i): expert.solve(train_seed(i)) for i in range(3)}
    assert not any(code for _, code in episodes.values())
    return env.task, {seed: episode.action for seed, (episode, _) in episodes.items()}


def test_pick_and_place_transfers_open_loop(demos):
    report = transfer(*demos)
    assert (report.n, report.k, report.engine) == (3, 3, "pybullet")


def test_in_the_reference_engine_every_demonstration_succeeds_again(demos):
    assert transfer(*demos, engine="mujoco").k == 3


def test_actions_that_do_nothing_fail_with_a_code(demos):
    spec, actions = demos
    idle = {seed: np.repeat(a[:1], 40, axis=0) for seed, a in actions.items()}
    assert set(transfer(spec, idle).codes.values()) == {"NOT_REACHED"}


ARTICULATED = ("open_drawer", "open_cabinet", "press_button", "turn_dial", "push_lever")


@pytest.mark.parametrize("name", ARTICULATED)
def test_every_articulated_thing_obeys_the_demonstration_in_the_other_engine(name):
    spec = drill(name, "ur5e")
    episode, code = Expert(TaskEnv(spec)).solve(train_seed(1))
    assert code == ""
    assert transfer(spec, {episode.seed: episode.action}).codes == {episode.seed: ""}


@pytest.mark.parametrize("name", ARTICULATED)
def test_a_joint_that_is_pushed_comes_to_rest_where_it_does_in_mujoco(name):
    spec, ends = drill(name, "panda"), []
    for engine in ("mujoco", "pybullet"):
        scene = TaskEnv(spec, engine=engine).scene
        scene.reset(train_seed(0))
        entity, binding = next((e, b) for e, b in scene.world.entities.items() if b.joints)
        (joint,) = binding.joints
        bound = binding.joints[joint]
        scene.data.qvel[bound.dof] = 3.0 * (bound.open - bound.closed)
        scene.set_state(scene.get_state())
        start = scene.world.fraction(entity, joint)
        path = []
        for _ in range(6):
            scene.step(scene.data.ctrl.copy())
            path.append(scene.world.fraction(entity, joint) - start)
        ends.append(path)
    assert np.allclose(*ends, atol=0.02)
    assert max(ends[0]) > 0.01 or name in ("press_button", "turn_dial")  # a spring, and dry friction, stop it at once


@pytest.fixture
def library(demos, tmp_path):
    """A folder with one certified task."""
    spec, actions = demos
    verdict = library_doubles.certify(spec, seeds=3, demos=3)
    parts = {"keyframes": {}, "witness_png": None, "rl": {}, "notes": {}}
    files = certified_files(spec, verdict.records, verdict.certificate, demos=actions, **parts)
    Library(tmp_path / "lib").publish(spec, files)
    return tmp_path / "lib"


def test_a_library_is_replayed_once_and_recorded_where_it_is_asked_for(library, demos, tmp_path, capsys):
    command = ["gen", "transfer", str(library), f"out={tmp_path / 'out'}", "workers=1", "quiet=true"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'out' / 'report.html'}\n"
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())["stages"]
    assert (metrics["transfer"]["k"], metrics["transfer"]["n"], metrics["family"]) == (3, 3, {"put_in": 1.0})
    assert "3 of 3 demonstrations still work in pybullet" in (tmp_path / "out/report.html").read_text()
    (folder,) = [path for path in library.iterdir() if path.name == demos[0].id]
    assert load_entry(folder).note("transfer") is None
    outcome = tmp_path / "out/transfers" / f"{folder.name}.json"
    before = outcome.stat().st_mtime_ns
    report = transfer_library(library, outcome.parent, record=True)
    assert outcome.stat().st_mtime_ns == before  # nothing is replayed twice
    assert (report.k, report.n, report.whole, report.tasks) == (3, 3, 1, 1)
    note = load_entry(folder).note("transfer")
    assert note is not None
    assert note["codes"] == dict.fromkeys(map(str, demos[1]), "")
    assert "put_in                 3/3" in report.text()


def test_a_folder_that_cannot_be_read_is_part_of_the_outcome(library, tmp_path):
    (folder,) = [path for path in library.iterdir() if (path / "task.json").is_file()]
    (folder / "demos.npz").write_bytes(b"PK")
    assert "demos.npz is damaged" in replay_elsewhere(folder, "mujoco").error
    with pytest.raises(ConfigError, match="holds no demonstration"):
        transfer_library(library, tmp_path / "out", engine="mujoco")


def test_an_unknown_engine_and_a_damaged_outcome_are_named(library, tmp_path):
    with pytest.raises(UnknownName, match="pybullet"):
        transfer_library(library, tmp_path / "out", engine="bullet")
    (folder,) = [path for path in library.iterdir() if (path / "task.json").is_file()]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{folder.name}.json").write_text('{"engine": 3}')
    with pytest.raises(DataError, match="is damaged: delete it"):
        transfer_library(library, tmp_path / "out")
