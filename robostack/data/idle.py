"""Rows at which a demonstration waits.

An expert that stops at a corner of its path leaves rows at which nothing changes. From them a policy that decides at
every control step learns that a robot at rest stays at rest, and may never leave the corner. Leaving such actions out
is usual (OpenVLA, arXiv 2406.09246); here the observation stays, and is followed by the next action that moves.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from robostack.data.arrays import EpisodeArrays

WAITING = 0.002
"""Usual share of a column's range below which a change counts as none.

Ten times as much already takes the slow part of a careful motion, before a grasp or at the end of a push, for waiting.
"""


def idle_rows(arrays: EpisodeArrays, share: float = WAITING) -> Bool[np.ndarray, " N"]:
    """Rows whose command changes nothing: no column of it, or of what is measured, moves by more than ``share``.

    A command is compared with the one before, and what is measured with what is measured one row later. The first row
    of an episode is never idle.

    Args:
        arrays: N rows.
        share: of a column's range in all rows; 0 finds none.
    """
    still = np.full(len(arrays.action), share > 0)
    still[1:] &= _still(arrays.action, share)
    for measured in (arrays.state, arrays.environment_state):
        still[:-1] &= _still(measured, share)
    still[np.concatenate([[0], arrays.ends[:-1]])] = False
    return still


def _still(values: Float[np.ndarray, "N D"], share: float) -> Bool[np.ndarray, " N-1"]:
    extent = np.maximum(np.ptp(values, axis=0), 1e-6)  # Columns that are constant but for rounding never move.
    return (np.abs(np.diff(values, axis=0)) <= share * extent).all(axis=1)
