"""LeRobotDataset v3 -> EpisodeArrays, by pyarrow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robostack.data.arrays import EpisodeArrays
from robostack.data.atomic import one_line, read_json
from robostack.data.lerobot_images import cameras_of, read_images
from robostack.errors import DataError, MissingExtra
from robostack.types import Features

MANIFEST = "robostack.json"
MANIFEST_FORMAT = "robostack.lerobot/1"
POINTS = "points.npy"
_VERSION = "v3.0"
_AGAIN = "export it again, with  robostack demos"


def load_arrays(path: Path | str, *, cameras: Sequence[str] = (), points: bool = False) -> EpisodeArrays:
    """Read a LeRobotDataset v3, ours or anyone's: its vectors, and what is asked for of cameras and point clouds.

    In a dataset that we did not write the features come from ``meta/info.json``, ``task_id`` is empty and the control
    mode is guessed from the names. ``language`` is the task when there is exactly one, else empty; ``languages`` are
    then the tasks of the episodes' first frames.

    Raises:
        DataError: no dataset, another version, half-written, a missing key or camera, or a value that is not finite.
        StorageError: no room for decoded pictures on the disk for temporary files.
    """
    root = Path(path)
    info = _read_info(root)
    table = _read_rows(root, info)
    manifest = read_json(root / MANIFEST, _AGAIN) if (root / MANIFEST).is_file() else None
    features = _features(root, info, manifest)
    episode_index = _column(root, table, info, "episode_index")[:, 0]
    ends = np.append(np.flatnonzero(np.diff(episode_index)) + 1, len(episode_index)).astype(np.int64)
    languages = _languages(root, table, info, ends)
    same = len(set(languages)) == 1
    arrays = EpisodeArrays(
        state=_vectors(root, table, info, "observation.state"),
        environment_state=_vectors(root, table, info, "observation.environment_state"),
        action=_vectors(root, table, info, "action"),
        ends=ends,
        features=features,
        task_id=str((manifest or {}).get("task_id", "")),
        language=(str((manifest or {}).get("language", "")) or languages[0]) if same else "",
        images={camera: read_images(root, info, camera) for camera in cameras},
        points=_read_points(root, (len(table), features.points, 6)) if points else None,
        languages=() if same else languages,
    )
    if len(arrays.ends) != info["total_episodes"]:
        raise DataError(f"{root} holds {len(arrays.ends)} of {info['total_episodes']} episodes: {_AGAIN}")
    try:
        return arrays.check()
    except DataError as error:
        raise DataError(f"{root}: {error}") from error


def require_features(arrays: EpisodeArrays, expected: Features) -> None:
    """Raise DataError naming every field in which the dataset's features differ from the expected ones.

    Cameras and point clouds do not count: they are chosen when a dataset is made.
    """
    differences = replace(arrays.features, cameras=(), points=0).differences(replace(expected, cameras=(), points=0))
    if differences:
        raise DataError(
            f"the dataset's features are not those of the task ({'; '.join(differences)}): "
            "record the demonstrations again, or choose the dataset of this task"
        )


def _read_info(root: Path) -> dict:
    if not root.is_dir():
        raise DataError(
            f"no dataset at {root}: pass the directory of a LeRobotDataset, the one that holds meta/info.json"
        )
    info = read_json(root / "meta" / "info.json", "pass the directory of a LeRobotDataset v3, or export it again")
    version = str(info.get("codebase_version", "unknown"))
    if version != _VERSION:
        raise DataError(
            f"{root} is a LeRobotDataset {version}, this version reads {_VERSION}: convert it with  python -m "
            "lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id=<owner/name>"
        )
    missing = [key for key in ("features", "fps", "total_episodes", "total_frames") if key not in info]
    if missing:
        raise DataError(f"{root}/meta/info.json lacks {missing}: {_AGAIN}")
    for key in ("observation.state", "action"):
        if key not in info["features"]:
            raise DataError(f"{root} has no '{key}', only {sorted(info['features'])}: a policy needs state and action")
    return info


def _read_rows(root: Path, info: dict) -> Any:
    """All data files as one pyarrow table, in the order of the frames."""
    if not list(root.glob("meta/episodes/**/*.parquet")):
        raise DataError(f"{root} is half-written (no meta/episodes): its recording was cut off; {_AGAIN}")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("pyarrow", "train") from error
    wanted = [*(k for k in ("observation.state", "observation.environment_state", "action") if k in info["features"])]
    tables = []
    for file in sorted(root.glob("data/*/*.parquet")):
        try:
            tables.append(pq.read_table(file, columns=[*wanted, "episode_index", "index", "task_index"]))
        except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are subclasses of these
            raise DataError(f"{file} is half-written or damaged ({one_line(error)}): {_AGAIN}") from error
    rows = sum(map(len, tables))
    if rows != info["total_frames"] or not rows:
        raise DataError(f"{root} holds {rows} of {info['total_frames']} frames: {_AGAIN}")
    table = pa.concat_tables(tables)
    return table if len(tables) == 1 else table.sort_by("index")


def _vectors(root: Path, table: Any, info: dict, key: str) -> np.ndarray:
    """A feature as (N, width) float32; width 0 when it is absent."""
    if key not in info["features"]:
        return np.zeros((len(table), 0), dtype=np.float32)
    return np.ascontiguousarray(_column(root, table, info, key), dtype=np.float32)


def _column(root: Path, table: Any, info: dict, key: str) -> np.ndarray:
    """A column as a matrix; lerobot stores a vector of one element as a scalar."""
    if key not in table.column_names:
        raise DataError(f"{root} has no column '{key}' in its data files, only {table.column_names}: {_AGAIN}")
    column = table[key].combine_chunks()
    is_list = hasattr(column, "flatten") and "list" in str(column.type)
    flat = (column.flatten() if is_list else column).to_numpy(zero_copy_only=False)
    shape = tuple(info["features"].get(key, {}).get("shape", (1,)))
    if len(shape) != 1 or flat.size != len(table) * shape[0] or flat.dtype.kind not in "fiu":
        raise DataError(f"{root}: '{key}' is not one vector of {shape} numbers per frame: {_AGAIN}")
    return flat.reshape(len(table), shape[0])


def _features(root: Path, info: dict, manifest: Mapping | None) -> Features:
    if manifest is not None:
        try:
            features = Features.from_dict(manifest["features"])
            cameras = tuple((str(c[0]), int(c[1]), int(c[2])) for c in manifest["cameras"])
            points = int(manifest.get("points", 0))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{root}/{MANIFEST} is damaged ({one_line(error)}): {_AGAIN}") from error
        return replace(features, cameras=cameras, points=points)
    state, action = _names(info, "observation.state"), _names(info, "action")
    return Features(
        state=state,
        environment_state=_names(info, "observation.environment_state"),
        action=action,
        cameras=cameras_of(info),
        control_mode="ee_pose" if any(name.startswith(("ee.", "ee_", "eef")) for name in action) else "joint_pos",
        rate_hz=float(info["fps"]),
        robot=str(info.get("robot_type") or "unknown"),
    )


def _read_points(root: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Clouds of all rows, mapped from disk."""
    if not shape[1]:
        raise DataError(f"{root} has no point clouds: record them with  robostack demos points=512")
    try:
        clouds = np.load(root / POINTS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{root / POINTS} is missing or damaged ({one_line(error)}): {_AGAIN}") from error
    if clouds.shape != shape or clouds.dtype != np.float32:
        raise DataError(f"{root / POINTS} holds {clouds.dtype} {clouds.shape}, not float32 {shape}: {_AGAIN}")
    return clouds


def _names(info: dict, key: str) -> tuple[str, ...]:
    """Names of a feature's elements; lerobot allows a list, a dict of lists, or nothing."""
    feature = info["features"].get(key)
    if feature is None:
        return ()
    names = feature.get("names")
    if isinstance(names, dict):
        lists = [value for value in names.values() if isinstance(value, list)]
        names = lists[0] if lists else list(names)
    width = int(feature["shape"][0])
    if not names or len(names) != width:
        return tuple(f"{key.rsplit('.', 1)[-1]}.{i}" for i in range(width))
    return tuple(map(str, names))


def _languages(root: Path, table: Any, info: dict, ends: np.ndarray) -> tuple[str, ...]:
    """The task of each episode's first frame; empty where the dataset names none."""
    tasks = _tasks(root)
    if len(tasks) < 2 or "task_index" not in table.column_names:
        return (next(iter(tasks.values())) if len(tasks) == 1 else "",) * len(ends)
    chosen = _column(root, table, info, "task_index")[np.append(0, ends[:-1]), 0]
    unknown = sorted(set(chosen.tolist()) - set(tasks))
    if unknown:
        raise DataError(f"{root} has no task {unknown[0]} in meta/tasks.parquet, only {sorted(tasks)}: {_AGAIN}")
    return tuple(tasks[int(index)] for index in chosen)


def _tasks(root: Path) -> dict[int, str]:
    """Instructions by their number."""
    import pyarrow.parquet as pq

    file = root / "meta" / "tasks.parquet"
    try:
        table = pq.read_table(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is missing or damaged ({one_line(error)}): {_AGAIN}") from error
    texts = [name for name in table.column_names if name != "task_index"]
    if not texts:
        return {}
    indices = table["task_index"].to_pylist() if "task_index" in table.column_names else range(len(table))
    return {int(index): str(text) for index, text in zip(indices, table[texts[0]].to_pylist(), strict=True)}
