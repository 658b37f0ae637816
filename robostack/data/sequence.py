"""Windows over concatenated episodes, by index only.

Padding follows Diffusion Policy (arXiv 2303.04137): before the first row its first row is repeated, after the
last row its last row; a window never crosses an episode.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int


class SequenceSampler:
    """Maps the number of a window to the rows of its observations and actions.

    With full padding (the default) every row of the dataset is the "current" observation of exactly one window,
    so that the end of an episode, where a policy must hold still, is learnt too.
    """

    def __init__(
        self,
        ends: Int[np.ndarray, " E"],
        To: int,
        Tp: int,
        *,
        pad_before: int | None = None,
        pad_after: int | None = None,
        episodes: Int[np.ndarray, " S"] | None = None,
        skip: Bool[np.ndarray, " N"] | None = None,
    ):
        """Index the windows.

        Args:
            ends: one past the last row of each episode.
            To: observation steps; the window's last observation is the current one.
            Tp: action steps; action ``To - 1`` belongs to the current observation.
            pad_before: rows a window may begin before its episode; default ``To - 1``, the most that makes sense.
            pad_after: rows a window may end after its episode; default ``Tp - To``. Diffusion Policy uses ``Ta - 1``.
            episodes: use only these episodes; default all.
            skip: rows whose action is left out of what comes after the current row; the last row of an episode stays.
        """
        assert 1 <= To <= Tp, (To, Tp)
        self.To, self.Tp = To, Tp
        before = To - 1 if pad_before is None else min(pad_before, To - 1)
        after = Tp - To if pad_after is None else min(pad_after, Tp - To)
        chosen = np.arange(len(ends)) if episodes is None else np.asarray(episodes)
        starts = np.concatenate([[0], ends[:-1]])[chosen]
        stops = ends[chosen]
        first = starts - before
        count = np.maximum(stops - Tp + after - first + 1, 0)
        offsets = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        self._first = np.repeat(first, count) + offsets
        self._start = np.repeat(starts, count)
        self._stop = np.repeat(stops, count)
        kept = np.ones(ends[-1], dtype=bool) if skip is None else ~skip
        kept[ends - 1] = True
        self._kept = np.flatnonzero(kept)  # Rows whose actions are taken,
        self._next = np.cumsum(kept) - kept  # and the place in them of the first that is not before a row.

    def __len__(self) -> int:
        return len(self._first)

    def gather(self, indices: Int[np.ndarray, " B"]) -> tuple[Int[np.ndarray, "B To"], Int[np.ndarray, "B Tp"]]:
        """Rows of the observations and of the actions of the windows ``indices``."""
        low, high = self._start[indices, None], self._stop[indices, None] - 1
        seen = np.clip(self._first[indices, None] + np.arange(self.To), low, high)
        acted = self._kept[np.minimum(self._ahead(indices), self._next[high])]
        return seen, np.concatenate([seen[:, :-1], acted], axis=1)

    def later(self, indices: Int[np.ndarray, " B"], share: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """Rows between the current one of each window (``share`` 0) and the last one of its episode (``share`` 1)."""
        last = self._stop[indices] - 1
        now = np.minimum(self._first[indices] + self.To - 1, last)
        return now + np.ceil(share * (last - now)).astype(np.int64)

    def padded(self, indices: Int[np.ndarray, " B"]) -> Bool[np.ndarray, "B Tp"]:
        """Which actions of the windows ``indices`` lie outside of their episode."""
        before = self._first[indices, None] + np.arange(self.To - 1) < self._start[indices, None]
        after = self._ahead(indices) > self._next[self._stop[indices, None] - 1]
        return np.concatenate([before, after], axis=1)

    def _ahead(self, indices: Int[np.ndarray, " B"]) -> Int[np.ndarray, "B A"]:
        """Places, among the rows whose actions are taken, of the actions from the current one on."""
        return self._next[self._first[indices, None] + self.To - 1] + np.arange(self.Tp - self.To + 1)
