"""Block-wise adaptive caching of transformer policies (arXiv 2506.13456), planned ahead and run without decisions.

What a block adds to the residual stream changes little between neighbouring denoising steps. Each block is computed
anew in M of K calls only; in the others its last value is added again. Which calls is decided once per checkpoint:

* adaptive caching scheduler: of all M calls, those that maximise the summed cosine similarity of every call to the
  cached one (``schedule``; the paper's text sums similarities of consecutive calls, ``consecutive=True``);
* bubbling union algorithm: the blocks with the largest errors also update whenever a feed-forward block at or above
  their layer does (``bubbled``).

The result is straight-line code over numbered slots (``unroll``), which the eager and the native engine run as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError

KINDS = 3  # Self-attention, cross-attention, feed-forward.


@dataclass(frozen=True)
class Run:
    """Compute a block, add it to the stream, and keep it in a slot where it will be used again."""

    block: int
    slot: int | None


@dataclass(frozen=True)
class Sum:
    """Put the sum of slots into another."""

    slots: tuple[int, ...]
    into: int


@dataclass(frozen=True)
class Add:
    """Add a slot to the stream."""

    slot: int


Instruction = Run | Sum | Add
Code = tuple[Instruction, ...]
Updates = tuple[tuple[int, ...], ...]
"""Per block, the calls in which it is computed."""


def schedule(similarity: Float[np.ndarray, "K K"], M: int, *, consecutive: bool = False) -> tuple[int, ...]:
    """The M calls, the first among them, that serve all K calls best.

    Args:
        similarity: of what a block returns in calls i and j.
        M: number of calls; K or more gives all of them.
        consecutive: value a segment by the similarities of neighbours in it, as the paper's text has it, instead of
            those to its first call.
    """
    K = len(similarity)
    if M < 1:
        raise ConfigError(f"updates={M}: a cached block needs at least 1 of {K} calls")
    if M >= K:
        return tuple(range(K))
    if consecutive:
        near = np.concatenate([[0.0], np.cumsum(np.diag(similarity, 1))])
        gain = near[None, :] - near[:, None]
    else:
        gain = np.cumsum(np.triu(similarity), axis=1)
    best, path = gain[0].copy(), np.zeros((M, K), np.int64)  # best[e]: calls 0..e served by the segments so far.
    for m in range(1, M):
        options = np.full((K, K), -np.inf)  # [first call of the last segment, e]
        for first in range(m, K):
            options[first, first:] = best[first - 1] + gain[first, first:]
        path[m], best = options.argmax(axis=0), options.max(axis=0)
    chosen, end = [], K - 1
    for m in range(M - 1, 0, -1):
        chosen.append(int(path[m, end]))
        end = chosen[-1] - 1
    return (0, *reversed(chosen))


def uniform(K: int, M: int) -> tuple[int, ...]:
    """M evenly spread calls, the first among them: the baseline."""
    M = min(M, K)
    return tuple(i * K // M for i in range(M))


def bubbled(updates: Updates, errors: Sequence[float], worst: int) -> Updates:
    """Add to the ``worst`` blocks with the largest errors the calls of all feed-forward blocks from their layer on."""
    chosen = sorted(range(len(errors)), key=lambda b: -errors[b])[:worst]
    if len(chosen) < 2:
        return updates
    feedforward = range(KINDS - 1, len(updates), KINDS)

    def union(block: int) -> tuple[int, ...]:
        above = [updates[v] for v in feedforward if v // KINDS >= block // KINDS]
        return tuple(sorted(set(updates[block]).union(*above)))

    return tuple(union(block) if block in chosen else calls for block, calls in enumerate(updates))


def unroll(updates: Updates, K: int) -> tuple[Code, ...]:
    """Instructions of each of K calls. Neighbouring blocks that are reused together are summed once."""
    slots, version = len(updates), [-1] * len(updates)
    sums: dict[tuple, int] = {}
    calls = []
    for call in range(K):
        code: list[Instruction] = []
        reused: list[int] = []

        def flush(code: list[Instruction], reused: list[int]) -> None:
            key = (*reused, *(version[b] for b in reused))
            if len(reused) > 1 and key not in sums:
                sums[key] = slots + len(sums)
                code.append(Sum(tuple(reused), sums[key]))
            if reused:
                code.append(Add(sums[key] if len(reused) > 1 else reused[0]))
            reused.clear()

        for block, when in enumerate(updates):
            if call in when:
                flush(code, reused)
                code.append(Run(block, block if call + 1 < K and call + 1 not in when else None))
                version[block] = call
            else:
                reused.append(block)
        flush(code, reused)
        calls.append(tuple(code))
    return tuple(calls)
