"""A dataset in memory: what the policy trainer reads, whatever it was stored as."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from robostack.data.atomic import storage_errors
from robostack.errors import DataError
from robostack.types import Features

_ROWS = 512


@dataclass(frozen=True)
class EpisodeArrays:
    """All episodes of a dataset concatenated; episode e is rows ``ends[e-1]:ends[e]``.

    Attributes:
        state: proprioception, float32.
        environment_state: object state, float32; De may be 0.
        action: commands, float32.
        ends: one past the last row of each episode, int64, strictly increasing.
        features: names of the columns.
        task_id: content hash of the TaskSpec; empty where there are several.
        language: the instruction; empty where there are several.
        images: frames by camera, those that were asked for; mapped from disk.
        points: clouds, x, y, z [m, world] and red, green, blue in [0, 1], if they were asked for; mapped from disk.
        languages: the instruction of each episode; empty where ``language`` is that of all.
    """

    state: Float[np.ndarray, "N Ds"]
    environment_state: Float[np.ndarray, "N De"]
    action: Float[np.ndarray, "N Da"]
    ends: Int[np.ndarray, " E"]
    features: Features
    task_id: str
    language: str
    images: Mapping[str, UInt8[np.ndarray, "N _ _ 3"]] = field(default_factory=dict)
    points: Float[np.ndarray, "N P 6"] | None = None
    languages: tuple[str, ...] = ()

    @property
    def instructions(self) -> tuple[str, ...]:
        """The instruction of each episode."""
        return self.languages or (self.language,) * len(self.ends)

    @staticmethod
    def concatenate(parts: Sequence[EpisodeArrays], names: Sequence[str] = ()) -> EpisodeArrays:
        """The episodes of all parts, one part after the other; of a single part, that part.

        Cameras and point clouds that were not loaded are dropped from the features.

        Args:
            parts: with equal features.
            names: of the parts, for errors.

        Raises:
            DataError: parts whose features differ; or pictures or points that were loaded of some only.
            StorageError: no room for pictures or points on the disk for temporary files.
        """
        first = parts[0]
        if len(parts) == 1:
            return first
        kept = [replace(part.features, cameras=part._loaded_cameras(), points=part._loaded_points()) for part in parts]
        for number, features in enumerate(kept):
            if differences := _differences(kept[0], features):
                first_name, name = (names[i] if names else f"dataset {i + 1}" for i in (0, number))
                raise DataError(
                    f"{name} does not go with {first_name} ({'; '.join(differences)}): train on datasets of the same "
                    "robot, rate and objects"
                )
        stops = np.cumsum([len(part.action) for part in parts])
        languages = tuple(text for part in parts for text in part.instructions)
        same, clouds = set(languages) == {languages[0]}, [part.points for part in parts if part.points is not None]
        return EpisodeArrays(
            state=np.concatenate([part.state for part in parts]),
            environment_state=np.concatenate([part.environment_state for part in parts]),
            action=np.concatenate([part.action for part in parts]),
            ends=np.concatenate([part.ends + start for part, start in zip(parts, [0, *stops[:-1]], strict=True)]),
            features=kept[0],
            task_id=first.task_id if all(part.task_id == first.task_id for part in parts) else "",
            language=languages[0] if same else "",
            images={name: mapped([part.images[name] for part in parts]) for name, _, _ in kept[0].cameras},
            points=mapped(clouds) if clouds else None,
            languages=() if same else languages,
        )

    def _loaded_cameras(self) -> tuple[tuple[str, int, int], ...]:
        return tuple(camera for camera in self.features.cameras if camera[0] in self.images)

    def _loaded_points(self) -> int:
        return 0 if self.points is None else self.features.points

    def check(self) -> EpisodeArrays:
        """Return self if it can be trained on.

        Raises:
            DataError: no rows, widths or episode ends that contradict the features, or a value that is not finite.
        """
        if len(self.action) == 0 or len(self.ends) == 0:
            raise DataError("the dataset is empty: record demonstrations first, with  robostack demos")
        if self.languages and len(self.languages) != len(self.ends):
            raise DataError(f"{len(self.languages)} instructions do not fit {len(self.ends)} episodes: one for each")
        starts = np.concatenate([[0], self.ends[:-1]])
        if (self.ends <= starts).any() or self.ends[-1] != len(self.action):
            raise DataError(
                f"episode ends must increase up to the {len(self.action)} rows, got {self.ends.tolist()[:8]}"
            )
        for kind in ("state", "environment_state", "action"):
            self._check_column_group(kind)
        self._check_looks()
        return self

    def _check_column_group(self, kind: str) -> None:
        values, names = getattr(self, kind), getattr(self.features, kind)
        if values.shape != (len(self.action), len(names)):
            raise DataError(
                f"'{kind}' has shape {values.shape}, but the features name {len(names)} columns "
                f"for {len(self.action)} rows: record the dataset again"
            )
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            episode = int(np.searchsorted(self.ends, row, side="right"))
            raise DataError(
                f"{kind} '{names[column]}' is {values[row, column]} in episode {episode} "
                f"(row {row}): drop that episode, or record it again"
            )

    def _check_looks(self) -> None:
        sizes = {name: (height, width) for name, height, width in self.features.cameras}
        for name, frames in self.images.items():
            expected = (len(self.action), *sizes.get(name, ()), 3)
            if frames.shape != expected:
                raise DataError(f"pictures of '{name}' have shape {frames.shape}, not {expected}: record them again")
        if self.points is None:
            return
        if self.points.shape != (len(self.action), self.features.points, 6):
            raise DataError(
                f"point clouds have shape {self.points.shape}, not {(len(self.action), self.features.points, 6)}: "
                "record them again"
            )
        for start in range(0, len(self.points), _ROWS):
            finite = np.isfinite(self.points[start : start + _ROWS]).all(axis=(1, 2))
            if not finite.all():
                row = start + int(np.argmin(finite))
                episode = int(np.searchsorted(self.ends, row, side="right"))
                raise DataError(
                    f"a point of the cloud in episode {episode} (row {row}) is not finite: drop that episode, or "
                    "record it again"
                )

    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of all values: what a training run records about its data."""
        digest = hashlib.sha256()
        for values in (self.state, self.environment_state, self.action, self.ends):
            digest.update(np.ascontiguousarray(values).tobytes())
        clouds = {} if self.points is None else {"points": self.points}
        for name, values in {**self.images, **clouds}.items():
            digest.update(name.encode())
            for start in range(0, len(values), _ROWS):  # what is mapped from disk need not fit into memory
                digest.update(np.ascontiguousarray(values[start : start + _ROWS]).tobytes())
        if self.languages:
            digest.update(json.dumps(self.languages).encode())
        return digest.hexdigest()[:16]


def _differences(first: Features, other: Features) -> list[str]:
    """What differs, of columns their names."""
    found = []
    for field_name in first.__dataclass_fields__:
        a, b = getattr(first, field_name), getattr(other, field_name)
        if a == b:
            continue
        if field_name in ("state", "environment_state", "action") and set(a) != set(b):
            odd = [name for name in (*a, *b) if (name in a) != (name in b)]
            more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
            found.append(f"{field_name}: only one has {', '.join(odd[:4])}{more}")
        else:
            found.append(f"{field_name}: {a} != {b}")
    return found


def mapped(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays one after the other in a nameless file, mapped from disk; it goes when the array goes.

    Raises:
        StorageError: the disk for temporary files is full.
    """
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    with storage_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        for part in parts:
            for start in range(0, len(part), _ROWS):
                file.write(np.ascontiguousarray(part[start : start + _ROWS]).data)
        file.flush()
        return np.memmap(file, parts[0].dtype, "r", shape=shape)
