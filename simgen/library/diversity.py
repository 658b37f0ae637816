"""How varied a library is, beside the figure that GenSim reports.

GenSim (Wang et al. 2024) measures the mean of 1 - IoU over pairs of asset sets. A library may score .87 on it with one
primitive and one metric, so it is shown next to measures of meaning (coverage), of words (Vendi score, self-BLEU, mean
cosine) and of motion. Variants of a task count once. Intervals have the spread of a bootstrap, centred on the value:
a resample repeats tasks and so holds fewer different ones, which moves its own centre, not its spread.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from simgen.library.behaviour import Behaviour
from simgen.library.text import cosine, words

_BLEU_ORDER = 4
_SIDES = (0.025, 0.975)


@dataclass(frozen=True)
class Sample:
    """What diversity needs to know of a task.

    Attributes:
        cells: the cells of the coverage grid that it fills, their axes separated by ``|``.
        assets: classes of its objects.
        behaviour: what its demonstrations do; None where that was not measured.
    """

    text: str
    cells: tuple[str, ...]
    assets: frozenset[str]
    behaviour: Behaviour | None = None


@dataclass(frozen=True)
class Figure:
    """A measure with its 95 % bootstrap interval; all are NaN for a library that is too small for it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Diversity:
    """The measures of a library. More is more varied, except for ``self_bleu`` and ``mean_cosine``.

    Attributes:
        tasks: that count; variants do not.
        cells: filled cells of the coverage grid.
        entropy: of the cells [nat]; ``exp`` of it is an effective number of cells.
        vendi: effective number of tasks by their words (Friedman and Dieng 2023).
        asset_iou: mean of 1 - IoU over pairs of asset sets, as GenSim computes it.
        self_bleu: mean BLEU of each text against all others (Zhu et al. 2018).
        mean_cosine: over pairs of texts.
        motion: mean distance between the mean displacements of two tasks [m].
    """

    tasks: int
    cells: int
    entropy: Figure
    vendi: Figure
    asset_iou: Figure
    self_bleu: Figure
    mean_cosine: Figure
    motion: Figure


def diversity(samples: Sequence[Sample], *, seed: int = 0, resamples: int = 200) -> Diversity:
    """All measures of a library; ``seed`` and ``resamples`` are those of the bootstrap."""
    n = len(samples)
    kernel = cosine([sample.text for sample in samples]) if n else np.zeros((0, 0))
    jaccard = _pairwise(samples, lambda a, b: asset_distance(a.assets, b.assets))
    moved = _pairwise(samples, _motion_distance)
    bleu = self_bleus([sample.text for sample in samples])
    measures: dict[str, Callable[[np.ndarray], float]] = {
        "entropy": lambda rows: entropy(Counter(cell for i in rows for cell in samples[i].cells)),
        "vendi": lambda rows: vendi(kernel[np.ix_(rows, rows)]),
        "asset_iou": lambda rows: _mean_of_pairs(jaccard, rows),
        "self_bleu": lambda rows: float(bleu[rows].mean()),
        "mean_cosine": lambda rows: _mean_of_pairs(kernel, rows),
        "motion": lambda rows: _mean_of_pairs(moved, rows),
    }
    rng = np.random.Generator(np.random.Philox(key=seed))
    draws = [rng.integers(n, size=n) for _ in range(resamples)] if n > 1 else []
    figures = {name: _figure(measure, n, draws) for name, measure in measures.items()}
    return Diversity(n, len({cell for sample in samples for cell in sample.cells}), **figures)


def _figure(measure: Callable[[np.ndarray], float], n: int, draws: Sequence[np.ndarray]) -> Figure:
    if n < 2:
        return Figure(math.nan, math.nan, math.nan)
    value = measure(np.arange(n))
    drawn = np.array([measure(rows) for rows in draws])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not math.isfinite(value):
        return Figure(value, math.nan, math.nan)
    low, high = np.quantile(drawn - drawn.mean(), _SIDES)
    return Figure(value, float(value + low), float(value + high))


# Coverage.


def entropy(counts: Mapping[str, int]) -> float:
    """Shannon entropy of a count [nat]; 0 for nothing."""
    total = sum(counts.values())
    return -math.fsum(c / total * math.log(c / total) for c in counts.values() if c) if total else 0.0


def holes(samples: Sequence[Sample], most: int = 20) -> tuple[str, ...]:
    """Cells that no task fills although any two of their values occur together, the most surprising first.

    A cell is surprising when its values are frequent: the product of their frequencies is what independence expects.
    """
    filled = Counter(tuple(cell.split("|")) for sample in samples for cell in sample.cells)
    if not filled:
        return ()
    width = len(next(iter(filled)))
    axes = [Counter[str]() for _ in range(width)]
    for cell, count in filled.items():
        for axis, value in zip(axes, cell, strict=False):
            axis[value] += count
    together = {pair for cell in filled for pair in combinations(enumerate(cell), 2)}
    empty = (cell for cell in _neighbours(filled) - set(filled) if set(combinations(enumerate(cell), 2)) <= together)
    expected = {cell: _expected(cell, axes) for cell in empty}
    ranked = sorted(expected, key=lambda cell: (-expected[cell], cell))
    return tuple("|".join(cell) for cell in ranked[:most])


def _neighbours(filled: Mapping[tuple[str, ...], int]) -> set[tuple[str, ...]]:
    """Cells that differ from a filled one along one axis: the others cannot have all pairs of values in use."""
    values = [sorted({cell[i] for cell in filled if i < len(cell)}) for i in range(max(map(len, filled)))]
    return {(*cell[:i], value, *cell[i + 1 :]) for cell in filled for i in range(len(cell)) for value in values[i]}


def _expected(cell: tuple[str, ...], axes: Sequence[Counter[str]]) -> float:
    return math.prod(axis[value] / max(1, axis.total()) for axis, value in zip(axes, cell, strict=False))


# Words.


def vendi(kernel: Float[np.ndarray, "N N"]) -> float:
    """Vendi score: exp of the entropy of the eigenvalues of K / N (Friedman and Dieng 2023, eq. 2), from 1 to N."""
    if not len(kernel):
        return 0.0
    values = np.linalg.eigvalsh(kernel / len(kernel))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def self_bleus(texts: Sequence[str]) -> Float[np.ndarray, " N"]:
    """BLEU-4 of each text against all others, with add-one smoothing of the orders above 1 (Lin and Och 2004).

    The brevity penalty uses the other text whose length is nearest.
    """
    split = [words(text) for text in texts]
    grams = [[Counter(zip(*(w[k:] for k in range(order)), strict=False)) for w in split] for order in _ORDERS]
    best = [_two_greatest(counts) for counts in grams]
    lengths = sorted(len(w) for w in split)
    scores = np.zeros(len(texts))
    for i, found in enumerate(split):
        if len(texts) < 2 or not found:
            continue
        logs = [_log_precision(grams[k][i], best[k], smooth=k > 0) for k in range(_BLEU_ORDER)]
        if logs[0] == -math.inf:
            continue
        nearest = _nearest_other(lengths, len(found))
        penalty = min(0.0, 1.0 - nearest / len(found))
        scores[i] = math.exp(penalty + sum(logs) / _BLEU_ORDER)
    return scores


_ORDERS = range(1, _BLEU_ORDER + 1)


def _two_greatest(counts: Sequence[Counter]) -> dict[tuple, tuple[int, int]]:
    """n-gram -> its greatest and second greatest count in any text: the greatest elsewhere follows from them."""
    best: dict[tuple, tuple[int, int]] = {}
    for counter in counts:
        for gram, count in counter.items():
            first, second = best.get(gram, (0, 0))
            best[gram] = (count, first) if count > first else (first, max(second, count))
    return best


def _log_precision(own: Counter, best: Mapping[tuple, tuple[int, int]], *, smooth: bool) -> float:
    matched = 0
    for gram, count in own.items():
        first, second = best[gram]
        matched += min(count, second if count == first else first)
    total = own.total()
    if smooth:
        matched, total = matched + 1, total + 1
    return math.log(matched / total) if matched else -math.inf


def _nearest_other(lengths: Sequence[int], length: int) -> int:
    others = list(lengths)
    others.remove(length)
    return min(others, key=lambda other: (abs(other - length), other))


# Assets and motion.


def asset_distance(a: frozenset[str], b: frozenset[str]) -> float:
    """1 - |a & b| / |a | b|; two tasks without assets are alike."""
    return 1.0 - len(a & b) / len(a | b) if a or b else 0.0


def _motion_distance(a: Sample, b: Sample) -> float:
    if a.behaviour is None or b.behaviour is None or not len(a.behaviour.moves) or not len(b.behaviour.moves):
        return math.nan
    return float(np.linalg.norm(a.behaviour.moves.mean(axis=0) - b.behaviour.moves.mean(axis=0)))


def _pairwise(samples: Sequence[Sample], distance: Callable[[Sample, Sample], float]) -> np.ndarray:
    n = len(samples)
    matrix = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1, n):
            matrix[i, j] = matrix[j, i] = distance(samples[i], samples[j])
    return matrix


def _mean_of_pairs(matrix: np.ndarray, rows: np.ndarray) -> float:
    """Mean over pairs of different tasks: a task that was drawn twice makes no pair with itself."""
    values = matrix[np.ix_(rows, rows)][rows[:, None] != rows]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan
