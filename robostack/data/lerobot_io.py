"""LeRobotDataset v3 out and in.

Out goes through lerobot's own writer (lerobot 0.4.4), as a second pass over the raw log: a LeRobotDataset whose
recording is killed cannot be opened, so it is written under a temporary name, finalised and renamed.
In reads the parquet files directly: no import of lerobot or torch, and datasets that others wrote work too.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from robostack.data.atomic import (
    one_line,
    read_json,
    remove_leftovers,
    replace_directory,
    storage_errors,
    temporary_beside,
    write_json,
)
from robostack.data.lerobot_read import MANIFEST, MANIFEST_FORMAT, POINTS, load_arrays, require_features
from robostack.data.raw import RawStore
from robostack.errors import ConfigError, DataError, MissingExtra, StorageError
from robostack.types import Episode, Features

__all__ = ["CloudSource", "FrameSource", "Progress", "export_lerobot", "load_arrays", "require_features"]

CloudSource = Callable[[Episode], Float[np.ndarray, "T P 6"]]
"""Takes the point clouds of an episode: x, y, z [m, world] and red, green, blue in [0, 1]."""

FrameSource = Callable[[Episode], Mapping[str, UInt8[np.ndarray, "T H W 3"]]]
"""Renders an episode: camera name -> one RGB frame per step."""

Progress = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the sequence of seeds, e.g. ``tqdm``."""

_VECTORS = {
    "observation.state": "state",
    "observation.environment_state": "environment_state",
    "action": "action",
}
_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def export_lerobot(
    store: RawStore,
    out_dir: Path | str,
    repo_id: str,
    fps: int,
    frames: FrameSource | None = None,
    *,
    cameras: Sequence[tuple[str, int, int]] = (),
    clouds: CloudSource | None = None,
    points: int = 0,
    seeds: Sequence[int] | None = None,
    progress: Progress = iter,
) -> Path:
    """Write a store as a LeRobotDataset v3; a finished export of the same content is kept.

    Point clouds, which lerobot has no feature for, lie beside its files in ``points.npy``, (rows, points, 6) float32.

    Args:
        store: the raw log.
        out_dir: the dataset's directory; replaced only when this function wrote it.
        repo_id: the name under which lerobot opens it, ``owner/name``.
        fps: frames per second; must equal the control rate, since lerobot's time stamps are ``index / fps``.
        frames: renders the cameras; without it the export has no images.
        cameras: (name, height, width) of what ``frames`` gives; those of the store's features when empty.
        clouds: takes the point clouds, of ``points`` points each; without it there are none.
        points: size of a cloud.
        seeds: which episodes, in which order; all successful ones when absent.
        progress: wraps the seeds, to show how far the export is.

    Raises:
        DataError: nothing to export, a foreign directory at ``out_dir``, or frames that contradict the features.
        ConfigError: ``fps`` is not the control rate.
        StorageError: the disk is full or not writable; the store is untouched.
    """
    out_dir, info = Path(out_dir), store.info
    if fps != info.features.rate_hz:
        raise ConfigError(
            f"fps={fps} contradicts the control rate of {info.features.rate_hz} Hz: record at a whole number of Hz"
        )
    shown = (tuple(cameras) or info.features.cameras) if frames is not None else ()
    manifest = _manifest(store, seeds, fps, repo_id, shown)
    if clouds is not None:
        manifest["points"] = points
    with storage_errors(out_dir):
        out_dir.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir.parent, prefix=out_dir.name)
    if out_dir.exists() and _is_finished(out_dir, manifest):
        return out_dir
    temporary = temporary_beside(out_dir)
    with storage_errors(out_dir):
        try:
            _write(store, temporary, manifest, frames, clouds, progress)
            write_json(temporary / MANIFEST, manifest)
            replace_directory(temporary, out_dir)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out_dir


def _write(
    store: RawStore,
    directory: Path,
    manifest: dict,
    frames: FrameSource | None,
    clouds: CloudSource | None,
    progress: Progress,
) -> None:
    """All episodes of a manifest."""
    with _lerobot() as module:
        points = manifest.get("points", 0)
        writer, cloud_writer = _Writer(module, directory, manifest), _CloudWriter(directory / POINTS, points)
        try:
            for seed in progress(manifest["seeds"]):
                episode = store.load(seed)
                writer.add(episode, frames)
                if clouds is not None:
                    cloud_writer.add(episode, clouds(episode))
        finally:
            writer.close()
            cloud_writer.close()


def _manifest(store: RawStore, seeds: Sequence[int] | None, fps: int, repo_id: str, cameras: tuple) -> dict:
    """What the export is of: equal manifests mean equal content."""
    digest, chosen, longest = hashlib.sha256(), [], 0
    for episode in store if seeds is None else map(store.load, seeds):
        if seeds is None and not episode.success:
            continue
        chosen.append(episode.seed)
        longest = max(longest, len(episode))
        digest.update(f"{episode.seed} {episode.final_sha} {len(episode)} ".encode())
        for name in _VECTORS.values():
            digest.update(np.ascontiguousarray(getattr(episode, name), dtype=np.float32).tobytes())
    if not chosen:
        raise DataError(f"{store.directory} has no successful episode to export: record more, with  robostack demos")
    return {
        "format": MANIFEST_FORMAT,
        "task_id": store.info.task_id,
        "language": store.info.language,
        "repo_id": repo_id,
        "fps": fps,
        "seeds": chosen,
        "longest": longest,
        "features": store.info.features.to_dict(),
        "cameras": [list(camera) for camera in cameras],
        "content_sha256": digest.hexdigest(),
    }


def _is_finished(out_dir: Path, manifest: dict) -> bool:
    """Whether the export exists already; raises when something else does."""
    if not out_dir.is_dir():
        raise DataError(f"{out_dir} is a file: choose another directory for the dataset")
    if not (out_dir / MANIFEST).is_file():
        if any(out_dir.iterdir()):
            raise DataError(
                f"{out_dir} exists and was not written by robostack: choose another directory, or move it away"
            )
        return False
    present = read_json(out_dir / MANIFEST, f"delete {out_dir} and run the same command again")
    return present == manifest and _opens(out_dir, points="points" in manifest)


def _opens(out_dir: Path, *, points: bool) -> bool:
    try:
        load_arrays(out_dir, points=points)
    except DataError:
        return False
    return True


# Writing with lerobot.


class _Writer:
    """lerobot's writer, fed with whole episodes."""

    def __init__(self, module: ModuleType, root: Path, manifest: dict):
        self.module, self.root, self.manifest = module, root, manifest
        self.features = Features.from_dict(manifest["features"])
        self.cameras = [(str(name), int(height), int(width)) for name, height, width in manifest["cameras"]]
        self.columns = {key: name for key, name in _VECTORS.items() if getattr(self.features, name)}
        self.written: dict[str, list[np.ndarray]] = {key: [] for key in self.columns}
        self.dataset: Any = module.LeRobotDataset.create(
            manifest["repo_id"],
            manifest["fps"],
            self._specification(),
            root=root,
            robot_type=self.features.robot,
            use_videos=bool(self.cameras),
            video_backend="pyav",
            vcodec="h264",
            streaming_encoding=bool(self.cameras),
            # The streaming encoder drops frames when its queue is full: it must hold an episode and the end mark.
            encoder_queue_maxsize=manifest["longest"] + 1,
            metadata_buffer_size=len(manifest["seeds"]),
        )

    def _specification(self) -> dict:
        specification = {
            key: {
                "dtype": "float32",
                "shape": (len(getattr(self.features, name)),),
                "names": list(getattr(self.features, name)),
            }
            for key, name in self.columns.items()
        }
        for name, height, width in self.cameras:
            if height % 2 or width % 2:
                raise ConfigError(f"camera '{name}' is {width}x{height}: video needs an even width and height")
            specification[f"observation.images.{name}"] = {
                "dtype": "video",
                "shape": (height, width, 3),
                "names": ["height", "width", "channels"],
            }
        return specification

    def add(self, episode: Episode, frames: FrameSource | None) -> None:
        """Append an episode."""
        vectors = {
            key: np.ascontiguousarray(getattr(episode, name), dtype=np.float32) for key, name in self.columns.items()
        }
        for key, values in vectors.items():
            self.written[key].append(values)
        if frames is not None and self.cameras:
            self._add_with_images(episode, vectors, self._checked(episode, frames(episode)))
        else:
            steps = np.arange(len(episode))
            buffer = self.dataset.create_episode_buffer() | vectors
            buffer |= {"size": len(episode), "task": [episode.language] * len(episode), "frame_index": steps}
            buffer["timestamp"] = (steps / self.manifest["fps"]).astype(np.float32)
            self.dataset.save_episode(episode_data=buffer)

    def _add_with_images(self, episode: Episode, vectors: dict, images: Mapping[str, np.ndarray]) -> None:
        try:
            for step in range(len(episode)):
                frame: dict[str, Any] = {key: values[step] for key, values in vectors.items()}
                frame |= {f"observation.images.{name}": video[step] for name, video in images.items()}
                self.dataset.add_frame(frame | {"task": episode.language})
            self.dataset.save_episode()
        except RuntimeError as error:  # lerobot's encoder threads report everything, a full disk too, as this
            raise StorageError(f"the video of seed {episode.seed} could not be encoded: {one_line(error)}") from error

    def _checked(self, episode: Episode, images: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        expected = {name: (len(episode), height, width, 3) for name, height, width in self.cameras}
        found = {name: video.shape for name, video in images.items()}
        if found != expected:
            raise DataError(f"frames of seed {episode.seed} have shapes {found}, the features say {expected}")
        return images

    def close(self) -> None:
        """Write the footers, then the statistics of the vectors over all frames.

        lerobot merges statistics of episodes in single precision and averages their quantiles; these are exact.
        """
        self.dataset.finalize()
        if self.dataset.meta.stats is None:
            return
        exact = {key: _statistics(np.concatenate(parts)) for key, parts in self.written.items()}
        self.module.write_stats(self.dataset.meta.stats | exact, self.root)


class _CloudWriter:
    """Appends to ``points.npy``; its header, which has room for that, is corrected at the end."""

    def __init__(self, path: Path, points: int):
        self.path, self.points, self.rows = path, points, 0
        self.file: Any = None

    def add(self, episode: Episode, clouds: Float[np.ndarray, "T P 6"]) -> None:
        """Append an episode."""
        if clouds.shape != (len(episode), self.points, 6):
            expected = (len(episode), self.points, 6)
            raise DataError(f"point clouds of seed {episode.seed} have shape {clouds.shape}, not {expected}")
        if self.file is None:
            self.file = open(self.path, "wb")  # noqa: SIM115 - closed by close()
            self._write_header()
        self.file.write(np.ascontiguousarray(clouds, np.float32).data)
        self.rows += len(episode)

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self.points, 6)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def close(self) -> None:
        """Write the number of rows."""
        if self.file is not None:
            self.file.seek(0)
            self._write_header()
            self.file.close()


def _statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    precise = values.astype(np.float64)
    quantiles = np.quantile(precise, list(_QUANTILES.values()), axis=0)
    return {
        "min": precise.min(axis=0),
        "max": precise.max(axis=0),
        "mean": precise.mean(axis=0),
        "std": precise.std(axis=0),
        "count": np.array([len(precise)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


@contextmanager
def _lerobot() -> Iterator[ModuleType]:
    """Load lerobot's dataset module, without its dependencies' warnings.

    ``embed_images`` puts image files into the parquet table, row by row at 0.5 ms each. Our tables hold no images
    (videos lie beside them), so it would copy them unchanged: 50 of 75 ms per episode of 110 steps.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module: Any = importlib.import_module("lerobot.datasets.lerobot_dataset")
        except ImportError as error:
            raise MissingExtra("lerobot", "train") from error
        except ValueError as error:  # lerobot refuses some environment variables
            raise ConfigError(f"lerobot cannot be loaded: {one_line(error)}") from error
        original, libav = module.embed_images, importlib.import_module("av.logging")
        module.embed_images = lambda dataset: dataset
        libav.set_libav_level(libav.ERROR)  # lerobot lets libav talk to stderr, 20 lines per video
        try:
            yield module
        finally:
            module.embed_images = original
