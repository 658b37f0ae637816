import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from robostack.data.raw import RawStore, StoreInfo
from robostack.errors import DataError, StorageError
from robostack.types import Episode, Features

FEATURES = Features(("ee.x", "gripper"), ("cube.x",), ("ee.x", "gripper"), (), "ee_pose", 20.0, "panda")
INFO = StoreInfo("abc123", FEATURES, "lift the cube", {"mujoco": "3.8.1"})
ARRAYS = ("state0", "ctrl", "qpos", "state", "environment_state", "action")


def episode(seed: int, steps: int = 7) -> Episode:
    rng = np.random.default_rng(abs(seed))
    widths = {"ctrl": 3, "qpos": 4, "state": 2, "environment_state": 1, "action": 2}
    arrays = {name: rng.normal(size=(steps, width)) for name, width in widths.items()}
    return Episode(
        task_id="abc123",
        seed=seed,
        language="lift the cube",
        state0=rng.normal(size=11),
        success=True,
        first_success_s=float("nan") if seed % 2 else 1.25,
        final_sha="f" * 64,
        versions={"mujoco": "3.8.1"},
        **arrays,
    )


@pytest.fixture
def store(tmp_path):
    return RawStore(tmp_path / "raw", INFO)


def test_an_episode_comes_back_bit_for_bit(store):
    for seed in (12, 3, -4):
        store.save(episode(seed))
    assert store.seeds() == (-4, 3, 12)
    assert [e.seed for e in store] == [-4, 3, 12]
    for loaded in RawStore(store.directory):
        expected = episode(loaded.seed)
        for name in ARRAYS:
            actual = getattr(loaded, name)
            assert actual.dtype == np.float64
            assert np.array_equal(actual, getattr(expected, name))
        assert np.array_equal(loaded.first_success_s, expected.first_success_s, equal_nan=True)
        assert (loaded.language, loaded.final_sha, loaded.versions, loaded.success) == (
            expected.language,
            expected.final_sha,
            expected.versions,
            True,
        )


def test_equal_episodes_give_equal_files(store):
    first = store.save(episode(1)).read_bytes()
    assert store.save(episode(1)).read_bytes() == first


def test_failures_are_remembered_until_the_seed_succeeds(store):
    store.save_failure(5, "NO_GRASP", "slipped\nat step 3")
    store.save_failure(2, "UNREACHABLE", "")
    again = RawStore(store.directory, INFO)
    assert list(again.failures()) == [2, 5]
    assert (again.failures()[5].code, again.failures()[5].message) == ("NO_GRASP", "slipped\nat step 3")
    again.save(episode(5))
    assert list(again.failures()) == [2]
    assert 5 in again
    assert 2 not in again
    assert len(again) == 1


def test_a_store_of_another_task_is_refused_with_both_names(store):
    with pytest.raises(DataError, match=r"abc123.*zzz.*choose another directory or delete it"):
        RawStore(store.directory, replace(INFO, task_id="zzz"))
    slower = replace(INFO, features=replace(FEATURES, rate_hz=10.0))
    with pytest.raises(DataError, match=r"rate_hz: 20.0 != 10.0"):
        RawStore(store.directory, slower)


def test_another_version_of_the_physics_is_logged_but_the_log_stays_readable(store, caplog):
    RawStore(store.directory, replace(INFO, versions={"mujoco": "4.0.0"}))
    assert "4.0.0" in caplog.text


def test_a_missing_or_foreign_store_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="store.json is missing.*robostack demos"):
        RawStore(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "store.json").write_text('{"format": "robostack.raw/9"}')
    with pytest.raises(DataError, match="robostack.raw/9"):
        RawStore(tmp_path)
    (tmp_path / "store.json").write_text('{"format": "robostack.raw/1", "task_id": "x"}')
    with pytest.raises(DataError, match="damaged"):
        RawStore(tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign", "renamed"])
def test_a_damaged_episode_names_the_file_and_the_fix(store, damage):
    path = store.save(episode(1))
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        middle = content.index(episode(1).qpos.tobytes()) + 8
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        np.savez(path, state=np.zeros(3))
    else:
        path = path.rename(path.with_name("seed_2.npz"))
    with pytest.raises(DataError, match=rf"{path.name}.*delete it and run the same command again") as caught:
        store.load(store.seeds()[0])
    assert "\n" not in str(caught.value)


def test_a_pickled_episode_is_never_unpickled(store):
    path = store.save(episode(1))
    np.savez(path, state=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged"):
        store.load(1)


def test_an_unknown_seed_is_a_data_error(store):
    with pytest.raises(DataError, match="no episode of seed 9"):
        store.load(9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_id": "other"}, "task other"),
        ({"state": np.full((7, 2), np.nan)}, r"state\[0, 0\] is nan"),
        ({"state0": np.array([1.0, np.inf])}, r"state0\[1\] is inf"),
        ({"action": np.zeros((7, 3))}, "action has 3 columns, the features name 2"),
        ({"ctrl": np.zeros((6, 3))}, "ctrl has 6 rows, action has 7"),
    ],
)
def test_a_bad_episode_is_refused_before_anything_is_written(store, change, message):
    bad = episode(1)
    for name, value in change.items():  # past the shape checks of the tests, which users do not run
        object.__setattr__(bad, name, value)
    with pytest.raises(DataError, match=message):
        store.save(bad)
    assert store.seeds() == ()


def test_an_episode_without_steps_is_refused(store):
    with pytest.raises(DataError, match="no steps"):
        store.save(episode(1, steps=0))


def full_disk(monkeypatch, after: int) -> None:
    real, written = os.write, [0]

    def write(descriptor, data):
        if written[0] >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        written[0] += 1
        return real(descriptor, bytes(data)[:512])

    monkeypatch.setattr(os, "write", write)


def test_a_full_disk_leaves_the_store_as_it_was(store, monkeypatch):
    store.save(episode(1))
    full_disk(monkeypatch, after=2)
    with pytest.raises(StorageError, match=r"seed_2.npz: No space left on device; free some space"):
        store.save(episode(2))
    monkeypatch.undo()
    assert store.seeds() == (1,)
    assert [p.name for p in (store.directory / "episodes").iterdir()] == ["seed_1.npz"]
    store.save(episode(2))
    assert [e.seed for e in RawStore(store.directory, INFO)] == [1, 2]


def test_short_writes_are_continued(store, monkeypatch):
    full_disk(monkeypatch, after=10**6)
    store.save(episode(3))
    assert np.array_equal(store.load(3).qpos, episode(3).qpos)


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        RawStore(tmp_path / "file" / "raw", INFO)


def test_leftovers_of_dead_writers_are_removed_and_those_of_living_ones_kept(store):
    folder = store.directory / "episodes"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (folder / f".seed_7.npz.tmp-{dead.pid}").write_bytes(b"half")
    alive = folder / f".seed_8.npz.tmp-{os.getppid()}"
    alive.write_bytes(b"half")
    again = RawStore(store.directory, INFO)
    assert again.seeds() == ()
    assert list(folder.iterdir()) == [alive]


WRITER = """
import sys
sys.path.insert(0, {folder!r})
from test_raw import INFO, episode
from robostack.data.raw import RawStore
store = RawStore({directory!r}, INFO)
begin = len(store)
for seed in range(begin, begin + 100_000):
    sys.stdout.write(f"{{seed}} ")
    sys.stdout.flush()
    store.save(episode(seed, steps=300))
"""


def test_killed_writers_lose_at_most_the_episode_in_flight(tmp_path):
    code = WRITER.format(folder=os.path.dirname(__file__), directory=str(tmp_path / "raw"))
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        os.read(process.stdout.fileno(), 1)
        time.sleep(rng.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        begun = [int(word) for word in process.communicate()[0].split()[:-1]]  # the last word may be cut
        store = RawStore(tmp_path / "raw", INFO)
        assert store.seeds() == tuple(range(len(store)))
        assert len(store) >= max(begun, default=0)
        assert [e.seed for e in store] == list(store.seeds())
        assert not list((tmp_path / "raw" / "episodes").glob(".*"))
    assert len(store) > 0
