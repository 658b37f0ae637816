"""A dataset in memory: what the policy trainer reads, whatever it was stored as."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, UInt8

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
        task_id: content hash of the TaskSpec.
        language: the instruction.
        images: frames by camera, those that were asked for; mapped from disk.
        points: clouds, x, y, z [m, world] and red, green, blue in [0, 1], if they were asked for; mapped from disk.
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

    def check(self) -> EpisodeArrays:
        """Return self if it can be trained on.

        Raises:
            DataError: no rows, widths or episode ends that contradict the features, or a value that is not finite.
        """
        if len(self.action) == 0 or len(self.ends) == 0:
            raise DataError("the dataset is empty: record demonstrations first, with  robostack demos")
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
        return digest.hexdigest()[:16]
