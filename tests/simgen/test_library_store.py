"""A library holds whole tasks or none, and what it hands out is what its names say."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robostack.data.atomic import write_directory
from robostack.errors import ConfigError, DataError, RobostackError, UnknownName
from robostack.task.spec import TaskSpec
from simgen.gates.record import Certificate, CertifiedEpisode, GateRecord
from simgen.library.entry import load_entry
from simgen.library.store import Library, certified_files, find_folder, task_files

PRESETS = Path(__file__).resolve().parents[2] / "data" / "presets"
SPECS = [TaskSpec.load(path) for path in sorted(PRESETS.glob("*/*.json"))][:9]
SPEC = SPECS[0]


def record(spec=SPEC, gate="G1", **values):
    return GateRecord(task=spec.id, gate=gate, ok=values.pop("ok", True), **values)


def certificate(spec=SPEC, seeds=(0, 2), **values):
    episodes = tuple(CertifiedEpisode(seed=s, ok=True, final_sha="f" * 64) for s in seeds)
    filled = {"task": spec.id, "model_sha": "m", "n": 2, "k": 2, "wilson95": (0.3, 1.0), "demos": seeds}
    return Certificate(**{**filled, "episodes": episodes, **values})


def files(spec=SPEC, **values):
    demos = {0: np.ones((4, 10), np.float32), 2: np.zeros((5, 10), np.float32)}
    given = {"demos": demos, "keyframes": {0: [{"step": 1}]}, "witness_png": b"png", "rl": {1: b"w"}, "notes": {}}
    return certified_files(spec, [record(spec)], certificate(spec), **{**given, **values})


def test_what_is_published_is_read_back(tmp_path):
    library = Library(tmp_path / "lib")
    assert len(library) == 0
    folder = library.publish(SPEC, files(notes={"behaviour": {"skills": ["stack"]}}))
    assert folder.name == SPEC.id
    entry = library.load(SPEC.id[:6])
    assert (entry.spec, entry.records, entry.certificate) == (SPEC, (record(),), certificate())
    assert sorted(entry.demos) == [0, 2]
    assert entry.demos[0].dtype == np.float32
    assert np.array_equal(entry.demos[0], np.ones((4, 10)))
    assert entry.keyframes == {0: [{"step": 1}]}
    assert (entry.witness, entry.files()["rl_1.npz"], entry.parent) == (b"png", b"w", None)
    assert entry.note("behaviour") == {"skills": ["stack"]}
    assert [e.id for e in library] == [SPEC.id]
    assert SPEC.id in library


def test_equal_content_gives_equal_bytes():
    assert files() == files()


def test_a_task_that_is_there_stays_as_it_is(tmp_path):
    library = Library(tmp_path)
    first = library.publish(SPEC, files())
    assert library.publish(SPEC, files(witness_png=b"other")) == first
    assert library.load(SPEC.id).witness == b"png"


def test_a_failed_task_is_kept_apart_with_its_reason(tmp_path):
    library = Library(tmp_path)
    bad = record(gate="G5", ok=False, code="NO_GRASP", detail="too wide")
    library.publish(SPEC, task_files(SPEC, [record(), bad]), "failed")
    assert library.ids() == ()
    assert library.status(SPEC.id) == "failed"
    assert library.load(SPEC.id, "failed").failed == bad
    assert library.status(SPECS[1].id) is None


@pytest.mark.parametrize("ok", [True, False])
def test_a_pending_task_moves_where_its_last_gate_sends_it(tmp_path, ok):
    library = Library(tmp_path)
    library.publish(SPEC, files(), "pending")
    verdict = record(gate="G10", ok=ok, code="OK" if ok else "DUPLICATE", metrics={"parent": "abc"} if ok else {})
    library.settle(library.load(SPEC.id, "pending"), verdict)
    status = "library" if ok else "failed"
    assert library.status(SPEC.id) == status
    assert library.ids("pending") == ()
    entry = library.load(SPEC.id, status)
    assert entry.records[-1] == verdict
    assert (entry.certificate is not None, entry.parent) == (ok, "abc" if ok else None)


def test_a_copy_that_a_kill_left_among_the_pending_is_dropped(tmp_path):
    library = Library(tmp_path)
    library.publish(SPEC, files())
    library.publish(SPEC, files(), "pending")
    library.tidy()
    assert library.ids("pending") == ()
    assert library.ids() == (SPEC.id,)


def test_leftovers_of_dead_writers_are_removed_and_no_tasks(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".{SPEC.id}.tmp-{dead.pid}").mkdir()
    (tmp_path / f"..{SPEC.id}.tmp-1.tmp-{dead.pid}").mkdir()
    assert Library(tmp_path).ids() == ()
    assert list(tmp_path.iterdir()) == []


def test_other_files_of_the_folder_are_no_tasks(tmp_path):
    (tmp_path / "proofs").mkdir()
    (tmp_path / "0123456789abcdeg").mkdir()
    (tmp_path / "0123456789abcdef").write_text("a file")
    assert Library(tmp_path).ids() == ()


# Damage. Each is named, on one line.


def damaged(tmp_path, change):
    folder = Library(tmp_path).publish(SPEC, files())
    change(folder)
    with pytest.raises(DataError) as caught:
        dict(load_entry(folder).demos)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    return str(caught.value)


def put(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "task.json").unlink(), "task.json is missing"),
        (put("task.json", b"\xff\xfe"), "cannot be read"),
        (put("task.json", SPECS[1].to_json().encode()), f"is task {SPECS[1].id}, not {SPEC.id}"),
        (lambda f: (f / "gates.json").unlink(), "has no gates.json"),
        (put("gates.json", b"[{"), "gates.json is damaged"),
        (put("gates.json", f"[{record(SPECS[1]).model_dump_json()}]".encode()), f"of task {SPECS[1].id}"),
        (lambda f: (f / "certificate.json").unlink(), "has no certificate.json"),
        (put("certificate.json", certificate(SPECS[1]).model_dump_json().encode()), f"certifies task {SPECS[1].id}"),
        (
            put("certificate.json", certificate(demos=(4,)).model_dump_json().encode()),
            "seed 4, which it does not",
        ),
        (lambda f: (f / "demos.npz").unlink(), "demos.npz is missing"),
        (put("demos.npz", b""), "demos.npz is damaged"),
        (put("demos.npz", files()["demos.npz"][:-30]), "demos.npz is damaged"),
        (put("demos.npz", files(demos={0: np.ones((2, 10))})["demos.npz"]), "the certificate names"),
        (put("demos.npz", files(demos={0: np.full((2, 10), np.nan), 2: np.ones((2, 10))})["demos.npz"]), "no finite"),
        (put("demos.npz", files(demos={0: np.ones(3), 2: np.ones((2, 10))})["demos.npz"]), "no finite"),
    ],
)
def test_damage_is_named(tmp_path, change, words):
    assert words in damaged(tmp_path, change)


def test_a_flipped_byte_in_the_actions_is_noticed(tmp_path):
    def flip(folder):
        content = bytearray((folder / "demos.npz").read_bytes())
        content[60] ^= 0xFF
        (folder / "demos.npz").write_bytes(bytes(content))

    assert "demos.npz is damaged" in damaged(tmp_path, flip)


def test_files_that_contradict_the_task_are_not_published(tmp_path):
    library = Library(tmp_path)
    with pytest.raises(DataError):
        library.publish(SPEC, {**files(), "task.json": SPECS[1].to_json().encode()})
    assert library.ids() == ()
    assert list(tmp_path.iterdir()) == []


def test_names_that_fit_nothing_or_too_much_list_what_there_is(tmp_path):
    library = Library(tmp_path)
    library.publish(SPEC, files())
    with pytest.raises(UnknownName, match=SPEC.id):
        library.load("ffff")
    with pytest.raises(UnknownName, match=SPEC.id):
        find_folder("no such", [tmp_path])
    with pytest.raises(ConfigError, match="is a file"):
        Library(PRESETS / "put_in_bowl" / "panda.json")


def test_a_task_is_found_by_its_id_its_folder_and_its_file(tmp_path):
    folder = Library(tmp_path).publish(SPEC, files())
    found = [find_folder(given, [tmp_path]) for given in (SPEC.id[:5], folder, folder / "task.json")]
    assert found == [folder] * 3


# Concurrency and kills.


def _publish_all(root):
    library = Library(root)
    for spec in SPECS:
        library.publish(spec, files(spec))


def test_writers_at_once_leave_every_task_once_and_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_publish_all, args=(tmp_path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    library = Library(tmp_path)
    assert library.ids() == tuple(sorted(spec.id for spec in SPECS))
    assert all(sorted(entry.demos) == [0, 2] for entry in library)


def test_a_kill_at_any_time_leaves_only_whole_tasks(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(6):
        root = tmp_path / str(attempt)
        writer = context.Process(target=_publish_all, args=(root,))
        writer.start()
        time.sleep(0.008 * attempt)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        library = Library(root)
        assert all(entry.demos for entry in library)
        left = [path.name for path in root.iterdir()] if root.exists() else []
        assert sorted(left) == list(library.ids())
        _publish_all(root)
        assert len(Library(root)) == len(SPECS)


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("robostack.data.atomic.sync_tree", full)
    with pytest.raises(RobostackError, match="No space left"):
        Library(tmp_path).publish(SPEC, files())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_certificate_is_a_task_too(tmp_path):
    write_directory(tmp_path / "mine", {"task.json": SPEC.to_json().encode()})
    entry = load_entry(tmp_path / "mine")
    assert (entry.spec, entry.records, entry.certificate, entry.demos) == (SPEC, (), None, {})
    assert json.loads((tmp_path / "mine" / "task.json").read_text())["name"] == SPEC.name
