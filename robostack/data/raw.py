"""The raw log: one file per episode, so that a kill at any moment loses at most the episode in flight.

Layout of a store::

    store.json                  what the episodes are of; written once
    episodes/seed_<seed>.npz    a finished episode: arrays, and ``meta`` (JSON as bytes)
    failed/seed_<seed>.json     a seed that was tried and gave no episode: {"code", "message"}

An episode appears by an atomic rename after it reached the disk; there is no index that could disagree with the files.
"""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robostack.data.atomic import one_line, read_json, remove_leftovers, storage_errors, write_atomic, write_json
from robostack.errors import DataError
from robostack.types import Episode, Features

FORMAT = "robostack.raw/1"
_ARRAYS = ("state0", "ctrl", "qpos", "state", "environment_state", "action")
_META = ("task_id", "seed", "language", "success", "first_success_s", "final_sha", "versions")
_SEED = re.compile(r"^seed_(-?\d+)$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreInfo:
    """What all episodes of a store share.

    Attributes:
        task_id: content hash of the TaskSpec.
        features: names and widths of the columns.
        language: the instruction.
        versions: name -> version of everything that determines the physics, when the store was created.
    """

    task_id: str
    features: Features
    language: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return {
            "format": FORMAT,
            "task_id": self.task_id,
            "features": self.features.to_dict(),
            "language": self.language,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, values: Mapping) -> StoreInfo:
        """Inverse of ``to_dict``."""
        features = Features.from_dict(values["features"])
        return cls(str(values["task_id"]), features, str(values["language"]), dict(values["versions"]))

    def differences(self, other: StoreInfo) -> list[str]:
        """Why episodes of the two must not be mixed; empty when they may."""
        names = [n for n in ("task_id", "language") if getattr(self, n) != getattr(other, n)]
        return [f"{n}: {getattr(self, n)!r} != {getattr(other, n)!r}" for n in names] + self.features.differences(
            other.features
        )


@dataclass(frozen=True)
class Failure:
    """Why a seed gave no episode."""

    seed: int
    code: str
    message: str


class RawStore:
    """A crash-consistent directory of episodes of one task."""

    def __init__(self, directory: Path | str, info: StoreInfo | None = None):
        """Open a store; create it when it does not exist and ``info`` says what it is for.

        Raises:
            DataError: no store there, another format, or a store of another task or of other features.
            StorageError: the directory cannot be written.
        """
        self.directory = Path(directory)
        self._episodes, self._failed = self.directory / "episodes", self.directory / "failed"
        header = self.directory / "store.json"
        if info is not None and not header.exists():
            with storage_errors(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
            write_json(header, info.to_dict())
        self.info = self._read_header(header)
        if info is not None:
            self._require(info)
        for folder in (self._episodes, self._failed):
            with storage_errors(folder):
                folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
        remove_leftovers(self.directory)

    def _read_header(self, header: Path) -> StoreInfo:
        values = read_json(header, "pass the directory of an episode store, as written by  robostack demos")
        if values.get("format") != FORMAT:
            raise DataError(
                f"{header} is of format {values.get('format')!r}, not {FORMAT!r}: record into a new directory"
            )
        try:
            return StoreInfo.from_dict(values)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{header} is damaged ({one_line(error)}): record into a new directory") from error

    def _require(self, info: StoreInfo) -> None:
        differences = self.info.differences(info)
        if differences:
            raise DataError(
                f"{self.directory} holds episodes of task {self.info.task_id} ({self.info.language!r}), not of "
                f"{info.task_id} ({info.language!r}): {'; '.join(differences)}; choose another directory or delete it"
            )
        if dict(self.info.versions) != dict(info.versions):
            _log.warning("%s was begun with %s, now %s", self.directory, dict(self.info.versions), dict(info.versions))

    # Reading.

    def seeds(self) -> tuple[int, ...]:
        """Seeds of the finished episodes, ascending."""
        return _seeds_of(self._episodes, ".npz")

    def failures(self) -> dict[int, Failure]:
        """Seeds that were tried and gave no episode, ascending."""
        return {seed: self._load_failure(seed) for seed in _seeds_of(self._failed, ".json")}

    def __len__(self) -> int:
        return len(self.seeds())

    def __contains__(self, seed: int) -> bool:
        return self._episode_path(seed).is_file()

    def __iter__(self) -> Iterator[Episode]:
        """Episodes in the order of their seeds."""
        return map(self.load, self.seeds())

    def load(self, seed: int) -> Episode:
        """Read an episode.

        Raises:
            DataError: no such episode, a damaged file, or an episode of another task.
        """
        path = self._episode_path(seed)
        fix = "delete it and run the same command again"
        if not path.is_file():
            raise DataError(f"no episode of seed {seed} in {self.directory}: it has {len(self)} episodes")
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in _ARRAYS}
                meta = json.loads(archive["meta"].tobytes())
            methods = tuple(str(name) for name in meta.get("methods", ()))
            episode = Episode(**arrays, **{name: meta[name] for name in _META}, methods=methods)
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} is damaged ({one_line(error)}): {fix}") from error
        if episode.seed != seed:
            raise DataError(f"{path} holds the episode of seed {episode.seed}: {fix}")
        self._check(episode)
        return episode

    def _load_failure(self, seed: int) -> Failure:
        path = self._failure_path(seed)
        values = read_json(path, "delete it and run the same command again")
        return Failure(seed, str(values.get("code", "")), str(values.get("message", "")))

    # Writing.

    def save(self, episode: Episode) -> Path:
        """Append an episode; it replaces an earlier one, or a failure, of the same seed.

        Raises:
            DataError: an episode of another task, of other widths, empty, or with a value that is not finite.
            StorageError: the disk is full or not writable; the store is as before.
        """
        self._check(episode)
        meta = {name: getattr(episode, name) for name in _META} | {"versions": dict(episode.versions)}
        meta["methods"] = list(episode.methods)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8),
            **{name: getattr(episode, name) for name in _ARRAYS},
        )
        path = self._episode_path(episode.seed)
        write_atomic(path, buffer.getvalue())
        with storage_errors(self._failed):
            self._failure_path(episode.seed).unlink(missing_ok=True)
        return path

    def save_failure(self, seed: int, code: str, message: str) -> Path:
        """Remember that a seed gave no episode, so that a resumed run does not try it again."""
        path = self._failure_path(seed)
        write_json(path, {"code": code, "message": message})
        return path

    def _check(self, episode: Episode) -> None:
        where = f"episode of seed {episode.seed}"
        if episode.task_id != self.info.task_id:
            raise DataError(f"{where} is of task {episode.task_id}, {self.directory} holds task {self.info.task_id}")
        if len(episode) == 0:
            raise DataError(f"{where} has no steps: record it again")
        for name in ("state", "environment_state", "action"):
            columns = getattr(self.info.features, name)
            if getattr(episode, name).shape[1] != len(columns):
                raise DataError(
                    f"{where}: {name} has {getattr(episode, name).shape[1]} columns, the features name {len(columns)}"
                )
        for name in _ARRAYS:
            values = getattr(episode, name)
            if name != "state0" and len(values) != len(episode):
                raise DataError(f"{where}: {name} has {len(values)} rows, action has {len(episode)}")
            if not np.isfinite(values).all():
                place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                raise DataError(f"{where}: {name}{list(place)} is {values[place]}: record it again")

    def _episode_path(self, seed: int) -> Path:
        return self._episodes / f"seed_{seed}.npz"

    def _failure_path(self, seed: int) -> Path:
        return self._failed / f"seed_{seed}.json"


def _seeds_of(folder: Path, suffix: str) -> tuple[int, ...]:
    stems = (path.stem for path in folder.glob(f"seed_*{suffix}"))
    return tuple(sorted(int(match.group(1)) for stem in stems if (match := _SEED.match(stem))))
