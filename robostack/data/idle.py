"""Rows at which a demonstration waits, or only begins to move.

An expert that stops at a corner of its path leaves rows at which nothing changes, and rows at which it gathers speed.
From them a policy that decides at every control step learns that a robot at rest stays at rest, or moves by so little
that it finds itself at rest again, and may never leave the corner. Leaving such actions out is usual (OpenVLA,
arXiv 2406.09246); here the observation stays, and is followed by the next action that moves. Slow motion is kept where
it does not begin, as before a grasp or along a careful push: what is measured tells how far it has come.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from robostack.data.arrays import EpisodeArrays

WAITING = 0.002
"""Usual share of a column's range below which a change counts as none.

Ten times as much already takes the slow part of a careful motion, before a grasp or at the end of a push, for waiting.
"""
_SLOW = 10.0  # Changes up to so many times that share are slow.


def idle_rows(arrays: EpisodeArrays, share: float = WAITING) -> Bool[np.ndarray, " N"]:
    """Rows whose command changes nothing while nothing moves, and those after a rest at which it gathers speed.

    A command is compared with the one before, and what is measured with what is measured one row later. The change of
    a row is the largest of all columns, as a share of the column's range in all rows. The first row of an episode is
    never idle.

    Args:
        arrays: N rows.
        share: largest change that counts as none; up to ten times as much is slow. 0 finds none.
    """
    first = np.zeros(len(arrays.action), bool)
    first[np.concatenate([[0], arrays.ends[:-1]])] = True
    command, measured = np.zeros(len(first)), np.zeros(len(first))
    command[1:] = _changes(arrays.action)
    measured[:-1] = np.maximum(_changes(arrays.state), _changes(arrays.environment_state))
    command[first] = 0.0  # An episode begins at rest.
    rests = command <= share
    idle, gathering = rests & (measured <= share), rests.copy()
    for i in range(1, len(first)):
        if not rests[i] and gathering[i - 1] and command[i - 1] < command[i] <= _SLOW * share:
            gathering[i] = idle[i] = True
    return idle & ~first & (share > 0)


def _changes(values: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " N-1"]:
    extent = np.maximum(np.ptp(values, axis=0), 1e-6)  # Columns that are constant but for rounding never move.
    return (np.abs(np.diff(values, axis=0)) / extent).max(axis=1, initial=0.0)
