import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robostack.data.lerobot_io import export_lerobot, load_arrays, require_features
from robostack.data.raw import RawStore, StoreInfo
from robostack.errors import ConfigError, DataError, StorageError
from robostack.types import Episode, Features

FEATURES = Features(
    ("ee.x", "ee.y", "gripper"), ("cube.x", "cube.y"), ("ee.x", "ee.y", "gripper"), (), "ee_pose", 20.0, "panda"
)
SENTENCE = "put the red cube on the \u201cblue\u201d plate"
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def episode(seed: int, success: bool = True, features: Features = FEATURES) -> Episode:
    rng = np.random.default_rng(seed)
    steps = 20 + seed
    walk = {n: rng.normal(size=(steps, len(getattr(features, n)))) for n in ("state", "environment_state", "action")}
    walk["state"][:, -1] = 0.7  # constant: lerobot's own standard deviation of it is not 0
    return Episode(
        task_id="abc123",
        seed=seed,
        language=SENTENCE,
        state0=rng.normal(size=5),
        ctrl=rng.normal(size=(steps, 3)),
        qpos=rng.normal(size=(steps, 4)),
        success=success,
        first_success_s=0.5,
        final_sha="f" * 64,
        **walk,
    )


def make_store(directory, features: Features = FEATURES, seeds=(3, 1, 2)) -> RawStore:
    store = RawStore(directory, StoreInfo("abc123", features, SENTENCE))
    for seed in seeds:
        store.save(episode(seed, features=features))
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("raw") / "store")
    store.save(episode(9, success=False))
    return store


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    return export_lerobot(store, tmp_path_factory.mktemp("out") / "dataset", "robostack/abc123", 20)


@pytest.fixture
def copy(exported, tmp_path):
    """A copy to damage."""
    import shutil

    return shutil.copytree(exported, tmp_path / "dataset")


def concatenated(name: str, seeds=(1, 2, 3)) -> np.ndarray:
    return np.concatenate([getattr(episode(seed), name) for seed in seeds]).astype(np.float32)


def test_importing_the_module_loads_neither_lerobot_nor_torch_nor_pyarrow():
    code = "import sys, robostack.data.lerobot_io; assert not {'lerobot', 'torch', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_was_recorded_is_what_is_loaded(exported):
    arrays = load_arrays(exported)
    for name in ("state", "environment_state", "action"):
        assert getattr(arrays, name).dtype == np.float32
        assert np.array_equal(getattr(arrays, name), concatenated(name))
    assert arrays.ends.tolist() == [21, 43, 66]
    assert (arrays.task_id, arrays.language, arrays.features) == ("abc123", SENTENCE, FEATURES)


def test_lerobot_opens_the_export_offline(exported, monkeypatch, tmp_path):
    datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    dataset = datasets.LeRobotDataset("robostack/abc123", root=exported, video_backend="pyav")
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (3, 66, 20)
    assert dataset.meta.robot_type == "panda"
    assert [e["length"] for e in dataset.meta.episodes] == [21, 22, 23]
    assert dataset.meta.features["observation.environment_state"]["names"] == ["cube.x", "cube.y"]
    item = dataset[21]  # the first frame of the second episode
    assert item["task"] == SENTENCE
    assert (item["episode_index"].item(), item["frame_index"].item(), item["timestamp"].item()) == (1, 0, 0.0)
    assert np.array_equal(item["action"].numpy(), concatenated("action")[21])
    assert dataset[22]["timestamp"].item() == pytest.approx(1 / 20)


def test_statistics_are_those_of_all_frames(exported):
    stats = json.loads((exported / "meta" / "stats.json").read_text())
    for key, name in (("observation.state", "state"), ("action", "action")):
        values = concatenated(name).astype(np.float64)
        expected = {"mean": values.mean(0), "std": values.std(0), "min": values.min(0), "max": values.max(0)}
        expected |= {"q01": np.quantile(values, 0.01, axis=0), "q90": np.quantile(values, 0.9, axis=0), "count": [66]}
        for statistic, value in expected.items():
            np.testing.assert_allclose(stats[key][statistic], value, rtol=1e-12, atol=1e-12)
    assert stats["observation.state"]["std"][2] < 1e-12
    assert set(stats) == {
        "observation.state",
        "observation.environment_state",
        "action",
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
        "task_index",
    }


def test_skipping_the_embedding_of_images_changes_no_value(store, exported, monkeypatch, tmp_path):
    datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    from robostack.data import lerobot_io

    @contextlib.contextmanager
    def untouched():
        yield datasets

    monkeypatch.setattr(lerobot_io, "_lerobot", untouched)
    plain = export_lerobot(store, tmp_path / "plain", "robostack/abc123", 20)
    file = "data/chunk-000/file-000.parquet"
    tables = [pq.read_table(root / file) for root in (plain, exported)]
    assert tables[0].equals(tables[1])
    features = [json.loads(table.schema.metadata[b"huggingface"])["info"] for table in tables]  # beside a random hash
    assert features[0] == features[1]


def test_a_finished_export_is_kept_and_a_changed_one_is_replaced(tmp_path):
    store = make_store(tmp_path / "raw")
    out = export_lerobot(store, tmp_path / "out", "robostack/abc123", 20)
    stamp = (out / "meta" / "info.json").stat().st_mtime_ns
    export_lerobot(store, out, "robostack/abc123", 20)
    assert (out / "meta" / "info.json").stat().st_mtime_ns == stamp
    (out / "data" / "chunk-000" / "file-000.parquet").unlink()
    export_lerobot(store, out, "robostack/abc123", 20)
    assert len(load_arrays(out).ends) == 3
    store.save(episode(7))
    export_lerobot(store, out, "robostack/abc123", 20)
    assert len(load_arrays(out).ends) == 4
    export_lerobot(store, out, "robostack/abc123", 20, seeds=[7, 1])
    assert load_arrays(out).ends.tolist() == [27, 48]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_a_directory_of_someone_else_is_never_replaced(store, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="was not written by robostack"):
        export_lerobot(store, tmp_path, "robostack/abc123", 20)
    with pytest.raises(DataError, match="is a file"):
        export_lerobot(store, tmp_path / "thesis.tex", "robostack/abc123", 20)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_nothing_to_export_and_a_wrong_rate_are_named(tmp_path, store):
    empty = make_store(tmp_path / "raw", seeds=())
    empty.save(episode(1, success=False))
    with pytest.raises(DataError, match="no successful episode"):
        export_lerobot(empty, tmp_path / "out", "robostack/abc123", 20)
    with pytest.raises(ConfigError, match="fps=30 contradicts the control rate of 20"):
        export_lerobot(store, tmp_path / "out", "robostack/abc123", 30)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_during_the_export_is_one_line_and_leaves_nothing(store, tmp_path, monkeypatch):
    pytest.importorskip("lerobot.datasets.lerobot_dataset")

    def full(self, table, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        export_lerobot(store, tmp_path / "out", "robostack/abc123", 20)
    assert list(tmp_path.iterdir()) == []


CAMERA = replace(FEATURES, cameras=(("front", 32, 48),), environment_state=())


def gradient(episode: Episode) -> dict[str, np.ndarray]:
    """A flat colour that tells the step and the episode."""
    levels = (np.arange(len(episode)) * 5 + 40).astype(np.uint8)
    return {"front": np.broadcast_to(levels[:, None, None, None], (len(episode), 32, 48, 3)).copy()}


@pytest.mark.filterwarnings("ignore:The video decoding")
def test_every_rendered_frame_is_in_the_video_and_an_empty_object_state_is_left_out(tmp_path, monkeypatch):
    datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    store = make_store(tmp_path / "raw", CAMERA, seeds=(1, 2))
    out = export_lerobot(store, tmp_path / "out", "robostack/abc123", 20, gradient)
    arrays = load_arrays(out)
    assert arrays.environment_state.shape == (43, 0)
    assert arrays.features == CAMERA
    dataset = datasets.LeRobotDataset("robostack/abc123", root=out, video_backend="pyav")
    assert "observation.environment_state" not in dataset.features
    for row, step in ((0, 0), (20, 20), (21, 0), (42, 21)):
        image = dataset[row]["observation.images.front"].numpy()
        assert image.shape == (3, 32, 48)
        assert abs(image.mean() * 255 - (step * 5 + 40)) < 4
    mean = json.loads((out / "meta" / "stats.json").read_text())["observation.images.front"]["mean"]
    assert np.ravel(mean)[0] * 255 == pytest.approx(40 + 5 * 10.25, abs=2)


def test_frames_that_contradict_the_features_are_refused(tmp_path):
    store = make_store(tmp_path / "raw", CAMERA, seeds=(1,))
    with pytest.raises(DataError, match=r"seed 1 have shapes .*the features say"):
        export_lerobot(store, tmp_path / "out", "r/x", 20, lambda e: {"front": gradient(e)["front"][1:]})
    odd = make_store(tmp_path / "odd", replace(CAMERA, cameras=(("front", 31, 48),)), seeds=(1,))
    with pytest.raises(ConfigError, match="48x31: video needs an even"):
        export_lerobot(odd, tmp_path / "out", "r/x", 20, gradient)


def rewrite_info(root, change) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def rewrite_rows(root, change) -> None:
    path = root / "data" / "chunk-000" / "file-000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def with_nan(table):
    values = np.array(table["action"].to_pylist(), dtype=np.float32)
    values[40, 1] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)
    return table.set_column(table.column_names.index("action"), "action", column)


DAMAGES = {
    "no dataset at": lambda root: root.rename(root.with_name("elsewhere")),
    "info.json is missing": lambda root: (root / "meta" / "info.json").unlink(),
    "info.json cannot be read": lambda root: (root / "meta" / "info.json").write_text("{"),
    "LeRobotDataset v2.1.*convert_dataset_v21_to_v30": lambda root: rewrite_info(
        root, lambda info: info.update(codebase_version="v2.1")
    ),
    "half-written .no meta/episodes": lambda root: (root / "meta/episodes/chunk-000/file-000.parquet").unlink(),
    "file-000.parquet is half-written or damaged": lambda root: (
        f := root / "data/chunk-000/file-000.parquet"
    ).write_bytes(f.read_bytes()[:-100]),
    "holds 0 of 66 frames": lambda root: (root / "data/chunk-000/file-000.parquet").unlink(),
    "holds 30 of 66 frames": lambda root: rewrite_rows(root, lambda table: table.slice(0, 30)),
    "has no 'action'": lambda root: rewrite_info(root, lambda info: info["features"].pop("action")),
    "damaged .*action": lambda root: rewrite_rows(root, lambda table: table.drop_columns("action")),
    "action 'ee.y' is nan in episode 1": lambda root: rewrite_rows(root, with_nan),
    "robostack.json is damaged": lambda root: (root / "robostack.json").write_text("{}"),
    "robostack.json cannot be read": lambda root: (root / "robostack.json").write_text("\0"),
    "holds 3 of 4 episodes": lambda root: rewrite_info(root, lambda info: info.update(total_episodes=4)),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_dataset_that_cannot_be_used_says_what_and_what_to_do(copy, message):
    DAMAGES[message](copy)
    with pytest.raises(DataError, match=message) as caught:
        load_arrays(copy)
    assert "\n" not in str(caught.value)


def test_a_dataset_of_someone_else_gets_its_features_from_lerobots_metadata(copy):
    (copy / "robostack.json").unlink()
    arrays = load_arrays(copy)
    assert arrays.task_id == ""
    assert arrays.language == SENTENCE
    assert arrays.features == FEATURES
    names = {"motors": ["shoulder.pos", "elbow.pos", "jaw.pos"]}
    rewrite_info(copy, lambda info: info["features"]["action"].update(names=names))
    rewrite_info(copy, lambda info: info["features"]["observation.state"].update(names=None))
    features = load_arrays(copy).features
    assert features.control_mode == "joint_pos"
    assert features.action == ("shoulder.pos", "elbow.pos", "jaw.pos")
    assert features.state == ("state.0", "state.1", "state.2")


def test_each_episode_of_a_foreign_dataset_has_its_own_instruction(copy):
    (copy / "robostack.json").unlink()
    tasks = {"task_index": [7, 2, 5], "task": ["push", "pull", "never"]}
    pq.write_table(pa.table(tasks), copy / "meta" / "tasks.parquet")
    path = copy / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("task_index")

    def rewrite(indices):
        column = pa.array(np.repeat(indices, [21, 22, 23]), pa.int64())
        pq.write_table(table.set_column(at, "task_index", column), path)

    rewrite([2, 7, 2])
    arrays = load_arrays(copy)
    assert arrays.languages == arrays.instructions == ("pull", "push", "pull")
    assert arrays.language == ""
    rewrite([7, 7, 7])
    arrays = load_arrays(copy)
    assert (arrays.language, arrays.languages, arrays.instructions) == ("push", (), ("push",) * 3)
    rewrite([2, 9, 2])
    with pytest.raises(DataError, match="no task 9 in meta/tasks.parquet"):
        load_arrays(copy)


def test_files_in_any_order_give_the_rows_in_order(copy):
    path = copy / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(43), copy / "data" / "chunk-000" / "file-000.parquet")
    pq.write_table(table.slice(0, 43), copy / "data" / "chunk-000" / "file-001.parquet")
    assert np.array_equal(load_arrays(copy).action, concatenated("action"))


def test_features_that_differ_are_named(exported):
    arrays = load_arrays(exported)
    require_features(arrays, FEATURES)
    require_features(arrays, replace(FEATURES, cameras=(("front", 96, 96),)))
    with pytest.raises(DataError, match=r"robot: panda != so101.*record the demonstrations again"):
        require_features(arrays, replace(FEATURES, robot="so101"))


def test_lerobots_viewer_shows_the_export(exported, tmp_path, monkeypatch):
    datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        viewer = pytest.importorskip("lerobot.scripts.lerobot_dataset_viz")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    dataset = datasets.LeRobotDataset("robostack/abc123", root=exported, episodes=[1], video_backend="pyav")
    file = viewer.visualize_dataset(dataset, 1, save=True, output_dir=tmp_path)
    assert file.stat().st_size > 1000


@pytest.mark.slow
def test_the_viewers_command_reads_the_export(exported, tmp_path):
    pytest.importorskip("rerun")
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_dataset_viz", "--repo-id", "robostack/abc123"]
    command += ["--root", str(exported), "--episode-index", "1", "--save", "1", "--output-dir", str(tmp_path / "viz")]
    command += ["--num-workers", "0"]
    environment = ENVIRONMENT | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "viz" / "robostack_abc123_episode_1.rrd").stat().st_size > 1000


EXPORTER = """
import sys, time
from robostack.data.lerobot_io import export_lerobot
from robostack.data.raw import RawStore
def slowly(seeds):
    for seed in seeds:
        print(seed, flush=True)
        yield seed
        time.sleep(0.2)
export_lerobot(RawStore({store!r}), {out!r}, "robostack/abc123", 20, progress=slowly)
"""


def test_a_killed_export_leaves_the_store_intact_and_a_second_run_finishes(tmp_path):
    store, out = make_store(tmp_path / "raw"), tmp_path / "out"
    code = EXPORTER.format(store=str(store.directory), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.readline()
    process.stdout.readline()  # the first of three episodes is saved
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    assert list(tmp_path.glob(".out.tmp-*"))
    export_lerobot(RawStore(store.directory), out, "robostack/abc123", 20)
    assert np.array_equal(load_arrays(out).action, concatenated("action"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]
