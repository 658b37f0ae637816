"""How many, and which: the margins of counts and of injective choices."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robostack.task.predicate import Cmp

MAX_CHOICES = 12


def tally(margins: Sequence[float], cmp: Cmp, n: int) -> float:
    """Margin of "the number of margins >= 0 compares with ``n`` as asked".

    At least n: the n-th greatest. At most n: at least len - n of the negated margins. Exactly n: the lesser of both.
    """
    if cmp == "==":
        return min(tally(margins, ">=", n), tally(margins, "<=", n))
    if cmp == "<=":
        return tally([-m for m in margins], ">=", len(margins) - n)
    if n <= 0:
        return math.inf
    return sorted(margins, reverse=True)[n - 1] if n <= len(margins) else -math.inf


def bottleneck(matrix: Sequence[Sequence[float]]) -> tuple[float, tuple[int, ...]]:
    """Margin of "every row chooses a column of its own", and the columns that attain it.

    The injective choice whose worst entry is greatest: binary search over the entries, each threshold decided by
    bipartite matching with augmenting paths (Kuhn 1955). Exact. (-inf, ()) when there are fewer columns than rows.
    """
    if not matrix or len(matrix[0]) < len(matrix):
        return (-math.inf, ()) if matrix else (math.inf, ())
    values = sorted({value for row in matrix for value in row})
    low, high = 0, len(values) - 1  # the least entry always admits a perfect matching
    best = _matching(matrix, values[0])
    assert best is not None, matrix
    while low < high:
        middle = (low + high + 1) // 2
        found = _matching(matrix, values[middle])
        if found is None:
            high = middle - 1
        else:
            low, best = middle, found
    return values[low], best


def _matching(matrix: Sequence[Sequence[float]], threshold: float) -> tuple[int, ...] | None:
    """A column of its own with an entry >= threshold for every row, or None."""
    row_of: dict[int, int] = {}

    def augment(row: int, seen: set[int]) -> bool:
        for column, value in enumerate(matrix[row]):
            if value >= threshold and column not in seen:
                seen.add(column)
                if column not in row_of or augment(row_of[column], seen):
                    row_of[column] = row
                    return True
        return False

    if not all(augment(row, set()) for row in range(len(matrix))):
        return None
    column_of = {row: column for column, row in row_of.items()}
    return tuple(column_of[row] for row in range(len(matrix)))
