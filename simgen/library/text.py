"""Likeness of instructions without a model: TF-IDF over words, pairs of words and runs of four letters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_WORD = re.compile(r"[a-z0-9]+")
_RUN = 4


def words(text: str) -> list[str]:
    """Lower-case words and numbers in order."""
    return _WORD.findall(text.lower())


def features(text: str) -> Counter[str]:
    """Counts of words, of pairs of neighbouring words, and of runs of four characters within padded words."""
    found = words(text)
    counts: Counter[str] = Counter(f"w:{word}" for word in found)
    counts.update(f"b:{a} {b}" for a, b in zip(found, found[1:], strict=False))
    for word in found:
        padded = f" {word} "
        counts.update(f"c:{padded[i : i + _RUN]}" for i in range(max(1, len(padded) - _RUN + 1)))
    return counts


def tfidf(texts: Sequence[str]) -> Float[np.ndarray, "N F"]:
    """Unit rows: (1 + log count) * (1 + log((1 + N) / (1 + document frequency))); Salton and Buckley (1988).

    A text without any word has a row of zeros.
    """
    counted = [features(text) for text in texts]
    frequency = Counter(name for counts in counted for name in counts)
    column = {name: i for i, name in enumerate(sorted(frequency))}
    idf = 1.0 + np.log((1 + len(texts)) / (1 + np.array([frequency[name] for name in column], float)))
    rows = np.zeros((len(texts), len(column)))
    for row, counts in zip(rows, counted, strict=True):
        for name, count in counts.items():
            row[column[name]] = 1.0 + np.log(count)
    rows *= idf
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def cosine(texts: Sequence[str]) -> Float[np.ndarray, "N N"]:
    """Pairwise cosine of the TF-IDF rows, in [0, 1]; a wordless text is like nothing but itself."""
    rows = tfidf(texts)
    kernel = np.clip(rows @ rows.T, 0.0, 1.0)
    np.fill_diagonal(kernel, 1.0)
    return kernel
