"""Pictures of a LeRobotDataset v3 as arrays on disk: decoded once, then mapped into memory, never copied as a whole."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from robostack.data.atomic import one_line, storage_errors
from robostack.errors import DataError, MissingExtra

PREFIX = "observation.images."
_AGAIN = "export it again, with  robostack demos cameras=[...]"


@dataclass(frozen=True)
class _Clip:
    """An episode's part of a video file: frames ``first`` to ``first + length`` are rows from ``row`` on."""

    first: int
    length: int
    row: int


def read_images(root: Path, info: dict, camera: str) -> UInt8[np.ndarray, "N H W 3"]:
    """All frames of a camera, in the order of the dataset's rows; read-only.

    They are decoded into a nameless file, which goes when the array goes.

    Raises:
        DataError: no such camera, or a video that is missing, damaged, shorter than the rows or of another size.
        StorageError: the disk for temporary files is full.
        MissingExtra: the decoder is not installed.
    """
    sizes = {name: (height, width) for name, height, width in cameras_of(info)}
    if camera not in sizes:
        raise DataError(
            f"{root} has no pictures of camera '{camera}', only of: {', '.join(sizes) or 'none'}; record it with  "
            f"robostack demos cameras=[{camera}]"
        )
    height, width = sizes[camera]
    key = camera if camera in info["features"] else f"{PREFIX}{camera}"
    feature = info["features"][key]
    read = _video_frames if feature["dtype"] == "video" else _stored_frames
    size, rows = height * width * 3, int(info["total_frames"])
    with storage_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        found = 0
        for row, frame in read(root, info, key):
            if frame.shape != (height, width, 3):
                raise DataError(
                    f"{root}: a picture of '{camera}' is {frame.shape[1]}x{frame.shape[0]}, meta/info.json says "
                    f"{width}x{height}: {_AGAIN}"
                )
            file.seek(row * size)
            file.write(np.ascontiguousarray(frame, np.uint8).data)
            found += 1
        file.flush()
        if found != rows:
            raise DataError(f"{root} holds {found} of {rows} pictures of camera '{camera}': {_AGAIN}")
        return np.memmap(file, np.uint8, "r", shape=(rows, height, width, 3))


def cameras_of(info: dict) -> tuple[tuple[str, int, int], ...]:
    """(name, height, width) of all cameras; one whose key does not begin as usual is called by its whole key."""
    found = []
    for key, feature in info["features"].items():
        if feature.get("dtype") in ("image", "video"):
            shape, names = feature["shape"], feature.get("names")
            known = isinstance(names, list) and {"height", "width"} <= set(names)
            height, width = (shape[names.index(axis)] for axis in ("height", "width")) if known else shape[:2]
            found.append((key.removeprefix(PREFIX), int(height), int(width)))
    return tuple(found)


def _video_frames(root: Path, info: dict, key: str) -> Iterator[tuple[int, np.ndarray]]:
    """(row, frame) of all episodes, file by file."""
    for path, clips in _clips(root, info, key).items():
        pending, decoded = sorted(clips, key=lambda clip: clip.first), 0
        for number, frame in enumerate(_decoded(path)):
            decoded = number + 1
            while pending and number >= pending[0].first + pending[0].length:
                pending.pop(0)
            if not pending:
                break
            if number >= pending[0].first:
                yield pending[0].row + number - pending[0].first, frame
        wanted = max(clip.first + clip.length for clip in clips)
        if decoded < wanted:
            raise DataError(f"{path} has {decoded} frames, its episodes need {wanted}: {_AGAIN}")


def _clips(root: Path, info: dict, key: str) -> dict[Path, list[_Clip]]:
    """What each video file holds."""
    import pyarrow.parquet as pq

    columns = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[dict[str, Any]] = []
    for file in sorted(root.glob("meta/episodes/**/*.parquet")):
        try:
            rows += pq.read_table(file, columns=["episode_index", "length", *columns]).to_pylist()
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{file} does not tell where the videos are ({one_line(error)}): {_AGAIN}") from error
    found: dict[Path, list[_Clip]] = {}
    at = 0
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        chunk, file, start_s = (row[column] for column in columns)
        if None in (chunk, file, start_s):
            raise DataError(f"{root} does not tell where the video of episode {row['episode_index']} is: {_AGAIN}")
        path = root / str(info["video_path"]).format(video_key=key, chunk_index=int(chunk), file_index=int(file))
        first = round(float(start_s) * float(info["fps"]))
        found.setdefault(path, []).append(_Clip(first, int(row["length"]), at))
        at += int(row["length"])
    return found


def _decoded(path: Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise MissingExtra("av", "report") from error
    if not path.is_file():
        raise DataError(f"{path} is missing: {_AGAIN}")
    try:
        with av.open(os.fspath(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (FFmpegError, IndexError) as error:  # IndexError: it has no video in it
        raise DataError(f"{path} is damaged ({one_line(error)}): {_AGAIN}") from error


def _stored_frames(root: Path, info: dict, key: str) -> Iterator[tuple[int, np.ndarray]]:
    """(row, frame) of pictures that lie in the table."""
    del info  # Unused.
    try:
        import pyarrow.parquet as pq
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(str(error.name), "train") from error
    for file in sorted(root.glob("data/*/*.parquet")):
        try:
            for batch in pq.ParquetFile(file).iter_batches(64, columns=[key, "index"]):
                for row in batch.to_pylist():
                    stored = row[key]
                    source = io.BytesIO(stored["bytes"]) if stored["bytes"] else root / stored["path"]
                    yield int(row["index"]), np.asarray(Image.open(source).convert("RGB"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} holds damaged pictures ({one_line(error)}): {_AGAIN}") from error
