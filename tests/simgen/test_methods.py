"""What was learned for a task goes where the task goes: to the gates, into the library, to whoever uses the expert."""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from robostack.data.raw import RawStore
from robostack.errors import DataError, SpecError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import train_seed
from simgen.crafted import crafted, write
from simgen.demos import collect
from simgen.experts.expert import Expert
from simgen.experts.method import METHODS, ORDER, weights_path
from simgen.experts.result import Code, Result
from simgen.experts.rl import Actor
from simgen.experts.rl_env import Eye, Moves
from simgen.gates.certify import certify
from simgen.library.admit import admit, main
from simgen.library.entry import load_entry
from simgen.library.store import Library
from simgen.library.verify import prove_again
from simgen.multiply import multiply

sys.path.insert(0, str(Path(__file__).parent))
from search_tasks import topple

SPEC = topple(horizon_s=8.0)
FOCUS = 8  # where the way to what is to be seen to next begins in the observation


class Helpless:
    """A search that finds nothing."""

    name = "trajopt"

    def attempt(self, ctx, subgoal):
        """Refuse at once."""
        return Result(Code.PRECOND_FALSE, "nothing was found")


def steering(env) -> Actor:
    """One layer that heads for what still stands, at half its height, and then goes back."""
    width = Eye(env, SPEC.subgoals[0].goal).width
    weights = np.zeros((2, width), np.float32)
    weights[0, FOCUS] = weights[1, FOCUS + 1] = 60.0
    scale, moves = np.ones(width, np.float32), Moves(step=(0.05, 0.05, 0.0, 0.0, 0.0), height=0.1)
    return Actor((weights,), (np.array([-2.0, 0.0], np.float32),), np.zeros(width, np.float32), scale, moves)


@pytest.fixture(scope="module", autouse=True)
def _no_search():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._records, "trajopt", Helpless)
        patch.setattr("simgen.gates.certify.picture", lambda candidate: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A task with an actor that knocks the can over."""
    path = tmp_path_factory.mktemp("tasks") / "mine"
    env = TaskEnv(SPEC)
    env.reset_scene(train_seed(0))
    steering(env).save(path / "rl_0.npz")
    (path / "task.json").write_text(SPEC.to_json())
    return path


@pytest.fixture(scope="module")
def entry(folder, tmp_path_factory):
    """The same, admitted to a library."""
    return admit(folder, Library(tmp_path_factory.mktemp("lib")), seeds=2, demos=1)


def test_an_actor_is_found_beside_its_task_alone(folder):
    assert weights_path(folder, 0) == folder / "rl_0.npz"
    assert weights_path(folder, 1) is None
    assert weights_path(None, 0) is None


def test_what_was_learned_is_tried_before_minutes_of_search_are_spent(folder):
    assert ORDER.index("rl") < ORDER.index("trajopt")
    expert = Expert(TaskEnv(SPEC), folder=folder)
    assert expert.solve(train_seed(0))[1] == ""
    assert expert.methods == ("rl",)


def test_the_tool_starts_where_the_actor_learned_to_start(folder):
    env = TaskEnv(SPEC)
    expert = Expert(env, methods=("rl",), folder=folder)
    episode, _ = expert.solve(train_seed(0))
    heights = episode.action[:, 2]
    reached = int(np.argmin(np.abs(heights - 0.1) > 1e-6))
    assert np.ptp(episode.action[:reached, :2], axis=0).max() < 1e-6  # straight down
    assert 0 < reached < len(heights)


def test_a_task_that_only_an_actor_solves_is_admitted_with_it_and_proven_again(folder, entry):
    assert entry.failed is None
    assert entry.status == "library"
    certificate = entry.certificate
    assert certificate is not None
    assert certificate.methods == ("rl",)
    assert certificate.weights == {"rl_0.npz": hashlib.sha256((folder / "rl_0.npz").read_bytes()).hexdigest()}
    assert (entry.folder / "rl_0.npz").read_bytes() == (folder / "rl_0.npz").read_bytes()
    (solved,) = [record.metrics for record in entry.records if record.gate == "G7"]
    assert solved["tried"] == ("skill+motion 0/2", "skill+motion+trajopt 0/2", "skill+motion+rl+trajopt 2/2")
    assert admit(folder, Library(entry.folder.parent)).certificate == certificate  # known: nothing is proven
    proof = prove_again(entry.folder, certify=certify, seeds=2)
    assert proof.failed is None
    assert (proof.replayed, proof.compared) == (1, 2)


def test_without_its_actor_the_task_fails_and_no_vain_round_is_tried(folder):
    verdict = certify(SPEC, seeds=2, folder=None)
    assert verdict.failed is not None
    assert verdict.failed.code == "EXPERT_FAILS"
    assert verdict.failed.metrics["tried"] == ("skill+motion 0/2", "skill+motion+trajopt 0/2")
    assert verdict.rl == {}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "rl_0.npz is missing: delete the folder"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "rl_0.npz is not the actor that the certificate names"),
    ],
)
def test_an_entry_whose_actor_was_lost_or_changed_is_refused(entry, tmp_path, spoil, message):
    copy = Path(shutil.copytree(entry.folder, tmp_path / entry.id))
    spoil(copy / "rl_0.npz")
    with pytest.raises(DataError, match=message) as caught:
        load_entry(copy)
    assert "\n" not in str(caught.value)
    proof = prove_again(copy, certify=None, seeds=2)
    assert proof.failed is not None
    assert proof.failed.code == "CORRUPT"


def test_a_damaged_actor_certifies_nothing_and_says_why(folder, tmp_path, capsys):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "rl_0.npz").write_bytes(b"not an actor")
    assert main([str(copy), "--into", str(tmp_path / "lib"), "--seeds", "2"]) == 1
    assert "rl_0.npz holds no learned actor" in capsys.readouterr().out


def test_a_folder_without_a_task_is_an_error_of_one_line(tmp_path, capsys):
    with pytest.raises(SpecError):
        admit(tmp_path, Library(tmp_path / "lib"))
    assert main([str(tmp_path), "--into", str(tmp_path / "lib")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_demonstrations_and_their_variations_are_given_by_the_actor_of_the_task(folder, tmp_path):
    report = collect(SPEC, tmp_path / "demos", n=1, seed=1, workers=1, progress=False, folder=folder)
    store = RawStore(report.store_dir)
    assert [store.load(seed).methods for seed in report.seeds] == [("rl",)]
    out = multiply(SPEC, tmp_path / "more", n=1, instances=1, methods="expert", folder=folder)
    assert (out.harvests[0].folder / "rl_0.npz").read_bytes() == (folder / "rl_0.npz").read_bytes()
    assert out.n == 1


def test_crafted_tasks_are_those_of_the_library(tmp_path):
    write(tmp_path)
    written = {path.parent.name: path for path in tmp_path.glob("*/task.json")}
    shipped = Library(Path(__file__).resolve().parents[2] / "data" / "tasks")
    for name, spec in crafted().items():
        assert spec.to_json() in written[name].read_text()
        assert spec.id in shipped, name


def test_a_shipped_actor_fits_its_task_and_is_small():
    shipped = Library(Path(__file__).resolve().parents[2] / "data" / "tasks")
    found = [entry for entry in shipped if entry.certificate and entry.certificate.weights]
    assert found
    for entry in found:
        assert entry.certificate is not None
        for name in entry.certificate.weights:
            assert (entry.folder / name).stat().st_size < 100_000
        assert all(method == "rl" for e in entry.certificate.episodes if e.ok for method in e.methods)
