"""Pictures and point clouds of a dataset: what was shown is what is read, and what cannot be read is named."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robostack.data.lerobot_io import export_lerobot, load_arrays
from robostack.data.raw import RawStore, StoreInfo
from robostack.errors import ConfigError, DataError, StorageError
from robostack.types import Episode, Features

CAMERAS = (("front", 32, 48), ("side", 16, 16))
FEATURES = Features(("ee.x", "ee.y"), ("cube.x", "cube.y"), ("ee.x", "ee.y"), (), "ee_pose", 20.0, "panda")
SEEDS = (1, 2, 3)
ROWS = sum(20 + seed for seed in SEEDS)
POINTS = 5


def episode(seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    T = 20 + seed
    walk = {n: rng.normal(size=(T, len(getattr(FEATURES, n)))) for n in ("state", "environment_state", "action")}
    return Episode(
        "abc", seed, "push", np.zeros(5), np.zeros((T, 3)), np.zeros((T, 4)), **walk, success=True,
        first_success_s=0.5, final_sha="f" * 64,
    )  # fmt: skip


def grey(seed: int) -> np.ndarray:
    """A level that tells the episode and the step."""
    return (60 * (seed - 1) + 2 * np.arange(20 + seed) + 20).astype(np.uint8)


def frames(episode: Episode) -> dict[str, np.ndarray]:
    levels = grey(episode.seed)[:, None, None, None]
    shapes = {name: (len(episode), height, width, 3) for name, height, width in CAMERAS}
    return {name: np.broadcast_to(levels, shape).copy() for name, shape in shapes.items()}


def clouds(episode: Episode) -> np.ndarray:
    return np.random.default_rng(episode.seed).uniform(size=(len(episode), POINTS, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = RawStore(tmp_path_factory.mktemp("raw") / "store", StoreInfo("abc", FEATURES, "push"))
    for seed in SEEDS:
        store.save(episode(seed))
    return store


def export(store, out, **changes):
    options = {"frames": frames, "cameras": CAMERAS, "clouds": clouds, "points": POINTS} | changes
    return export_lerobot(store, out, "robostack/abc", 20, **options)


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    pytest.importorskip("lerobot")
    return export(store, tmp_path_factory.mktemp("out") / "dataset")


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "dataset")


def levels(images):
    return images.astype(float).mean(axis=(1, 2, 3))


def test_every_row_has_the_picture_that_was_rendered_for_it(exported):
    arrays = load_arrays(exported, cameras=["front", "side"])
    assert arrays.features.cameras == CAMERAS
    for name, height, width in CAMERAS:
        assert arrays.images[name].shape == (ROWS, height, width, 3)
        assert arrays.images[name].dtype == np.uint8
        wanted = np.concatenate([grey(seed) for seed in SEEDS])
        np.testing.assert_allclose(levels(arrays.images[name]), wanted, atol=1.5)


def test_nothing_is_decoded_that_is_not_asked_for(copy):
    shutil.rmtree(copy / "videos")
    (copy / "points.npy").unlink()
    arrays = load_arrays(copy)
    assert (dict(arrays.images), arrays.points) == ({}, None)
    assert arrays.features.cameras == CAMERAS


def test_pictures_stay_on_disk_and_cannot_be_changed(exported):
    images = load_arrays(exported, cameras=["side"]).images["side"]
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_episodes_may_lie_in_several_files_in_any_order(copy):
    """As lerobot does with large datasets: the last episode in a file of its own, the others swapped in theirs."""
    import av

    key, path = "observation.images.front", copy / "videos/observation.images.front/chunk-000/file-000.mp4"
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    split = {"file-000.mp4": pictures[21:43] + pictures[:21], "file-001.mp4": pictures[43:]}
    for name, part in split.items():
        with av.open(str(path.with_name(name)), "w") as container:
            stream = container.add_stream("libx264", rate=20, options={"crf": "10"})
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for picture in part:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    file = copy / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for column, values in (("file_index", [0, 0, 1]), ("from_timestamp", [22 / 20, 0.0, 0.0])):
        name = f"videos/{key}/{column}"
        kind = table.schema.field(name).type
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    pq.write_table(table, file)
    wanted = np.concatenate([grey(seed) for seed in SEEDS])
    np.testing.assert_allclose(levels(load_arrays(copy, cameras=["front"]).images["front"]), wanted, atol=3)


def test_pictures_in_the_table_are_read_too(copy):
    import io
    import json

    info = json.loads((copy / "meta/info.json").read_text())
    info["features"]["observation.images.side"]["dtype"] = "image"
    (copy / "meta/info.json").write_text(json.dumps(info))
    file = copy / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    cells = []
    for level in np.concatenate([grey(seed) for seed in SEEDS]):
        buffer = io.BytesIO()
        Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(buffer, format="PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(table.append_column("observation.images.side", pa.array(cells, kind)), file)
    read = load_arrays(copy, cameras=["side"]).images["side"]
    assert np.array_equal(levels(read), np.concatenate([grey(seed) for seed in SEEDS]))


def test_datasets_of_others_may_name_and_shape_their_cameras_otherwise(copy):
    import json

    info = json.loads((copy / "meta/info.json").read_text())
    front = info["features"].pop("observation.images.front")
    info["features"]["observation.image"] = front | {"shape": [3, 32, 48], "names": ["channels", "height", "width"]}
    (copy / "meta/info.json").write_text(json.dumps(info))
    (copy / "robostack.json").unlink()
    (copy / "videos/observation.images.front").rename(copy / "videos/observation.image")
    file = copy / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(
        table.rename_columns([n.replace("observation.images.front", "observation.image") for n in table.column_names]),
        file,
    )
    arrays = load_arrays(copy, cameras=["observation.image"])
    assert set(arrays.features.cameras) == {("observation.image", 32, 48), ("side", 16, 16)}
    wanted = np.concatenate([grey(seed) for seed in SEEDS])
    np.testing.assert_allclose(levels(arrays.images["observation.image"]), wanted, atol=1.5)


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def rows_of_metadata(root, column, change):
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    values = pa.array([change(v) for v in table[column].to_pylist()], table.schema.field(column).type)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), file)


def drop_column(root, column):
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(column), file)


VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"
KEY = "videos/observation.images.front"
DAMAGES = {
    "file-000.mp4 is missing": lambda root: (root / VIDEO).unlink(),
    "file-000.mp4 is damaged": lambda root: (root / VIDEO).write_bytes(b"\0" * 1000),
    "file-000.mp4 is (damaged|shorter)": lambda root: cut(root / VIDEO, 0.5),
    "has 66 frames, its episodes need 72": lambda root: rows_of_metadata(
        root, f"{KEY}/from_timestamp", lambda v: v + 0.3
    ),
    "does not tell where the video": lambda root: drop_column(root, f"{KEY}/file_index"),
    "is 16x16, meta/info.json says 48x32": lambda root: shutil.copy(
        root / VIDEO.replace("front", "side"), root / VIDEO
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_video_that_cannot_be_used_says_what_and_what_to_do(copy, message):
    DAMAGES[message](copy)
    with pytest.raises(DataError, match=message) as caught:
        load_arrays(copy, cameras=["front"])
    assert "\n" not in str(caught.value)
    load_arrays(copy)


def test_a_camera_that_is_not_there_is_named_with_those_that_are(exported):
    with pytest.raises(DataError, match=r"no pictures of camera 'wrist', only of: front, side; record it"):
        load_arrays(exported, cameras=["wrist"])


def test_a_full_disk_for_decoded_pictures_is_one_line(exported, monkeypatch):
    class Full:
        def __init__(self, *args):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(StorageError, match="No space left on device"):
        load_arrays(exported, cameras=["side"])


# Point clouds.


def test_every_row_has_its_cloud_and_lerobot_still_opens_the_dataset(exported, monkeypatch, tmp_path):
    datasets = pytest.importorskip("lerobot.datasets.lerobot_dataset")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    arrays = load_arrays(exported, points=True)
    assert arrays.features.points == POINTS
    assert np.array_equal(arrays.points, np.concatenate([clouds(episode(seed)) for seed in SEEDS]))
    assert datasets.LeRobotDataset("robostack/abc", root=exported, video_backend="pyav").num_frames == ROWS


def test_an_export_without_clouds_has_none(store, tmp_path):
    pytest.importorskip("lerobot")
    out = export(store, tmp_path / "out", clouds=None, points=0, frames=None)
    assert not (out / "points.npy").exists()
    assert load_arrays(out).features == FEATURES
    with pytest.raises(DataError, match="has no point clouds: record them"):
        load_arrays(out, points=True)


def with_nan(root):
    values = np.load(root / "points.npy")
    values[25, 3, 1] = np.nan
    np.save(root / "points.npy", values)


CLOUD_DAMAGES = {
    "points.npy is missing": lambda root: (root / "points.npy").unlink(),
    "points.npy is missing or damaged": lambda root: cut(root / "points.npy", 0.5),
    r"holds float32 \(3, 5, 6\), not float32 \(66, 5, 6\)": lambda root: np.save(
        root / "points.npy", np.zeros((3, 5, 6), np.float32)
    ),
    r"episode 1 \(row 25\) is not finite": with_nan,
}


@pytest.mark.parametrize("message", CLOUD_DAMAGES)
def test_clouds_that_cannot_be_used_say_why(copy, message):
    CLOUD_DAMAGES[message](copy)
    with pytest.raises(DataError, match=message) as caught:
        load_arrays(copy, points=True)
    assert "\n" not in str(caught.value)


def test_a_damaged_export_is_written_again(store, copy):
    (copy / "points.npy").unlink()
    assert load_arrays(export(store, copy), points=True).points.shape == (ROWS, POINTS, 6)


def test_clouds_of_another_size_than_promised_are_refused(store, tmp_path):
    with pytest.raises(DataError, match=r"seed 1 have shape \(21, 5, 6\), not \(21, 7, 6\)"):
        export(store, tmp_path / "out", points=7, frames=None)
    assert not (tmp_path / "out").exists()


def test_features_know_their_points_and_old_ones_have_none():
    assert Features.from_dict(FEATURES.to_dict()) == FEATURES
    assert "points" not in FEATURES.to_dict()
    seeing = replace(FEATURES, points=5, cameras=CAMERAS)
    assert Features.from_dict(seeing.to_dict()) == seeing


def test_what_nobody_looks_at_may_be_there_or_not():
    blind = replace(FEATURES, environment_state=())
    offered = replace(FEATURES, cameras=CAMERAS, points=5)
    assert blind.unmet(offered) == []
    assert FEATURES.unmet(offered) == []
    assert replace(blind, cameras=CAMERAS[:1], points=5).unmet(offered) == []
    assert len(replace(blind, cameras=(("front", 64, 64),)).unmet(offered)) == 1
    assert len(replace(blind, points=6).unmet(offered)) == 1
    assert len(FEATURES.unmet(blind)) == 1


def test_an_odd_size_is_refused_before_anything_is_rendered(store, tmp_path):
    pytest.importorskip("lerobot")
    with pytest.raises(ConfigError, match="even width and height"):
        export(store, tmp_path / "out", cameras=(("front", 31, 48),))
