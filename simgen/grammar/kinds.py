"""Kinds of slots: what may fill them, what a filling means.

A slot holds the words of the sentence, so that rendering is plain substitution; ``read`` gives their meaning.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from robostack.task.predicate import Cmp
from simgen.grammar.words import (
    ARTICLES,
    BOUNDS,
    COLOR_WORDS,
    DIRECTIONS,
    NUMBERS,
    QUANTITIES,
    SPELLINGS,
    plural,
)


@dataclass(frozen=True)
class Thing:
    """An object that a sentence speaks of; ``color`` is None where the sentence leaves it open."""

    card: str
    noun: str
    color: str | None = None
    direction: str | None = None

    @property
    def words(self) -> str:
        """Its words without article."""
        return " ".join(w for w in (self.color, self.direction, self.noun) if w)

    @property
    def id(self) -> str:
        """Its entity id, e.g. ``red_cube``."""
        return self.words.replace(" ", "_")


@dataclass(frozen=True)
class Group:
    """Several objects of one noun, e.g. "the red and blue blocks"; without colours and count both are open."""

    card: str
    noun: str
    colors: tuple[str, ...] = ()
    count: int | None = None

    def things(self, default: int, palette: tuple[str, ...]) -> tuple[Thing, ...]:
        """Its members; colours that the sentence leaves open come from the palette."""
        colors = self.colors or tuple(palette[: self.count or default])
        return tuple(Thing(self.card, self.noun, color) for color in colors)


@dataclass(frozen=True)
class Quantity:
    """How many, e.g. "at least two"; a bare number means exactly that many."""

    cmp: Cmp
    n: int


class Kind(Protocol):
    """What may fill a slot."""

    @property
    def pattern(self) -> str:
        """Regular expression of the fillings, without groups."""
        ...

    def canonical(self, text: str) -> str:
        """The filling with canonical punctuation."""
        ...

    def read(self, text: str) -> object:
        """The meaning of a filling."""
        ...

    def fillings(self) -> Iterator[str]:
        """Enough fillings to try every word of the kind; all of them where they are few."""
        ...


def _any(words: tuple[str, ...]) -> str:
    return f"(?:{'|'.join(re.escape(w) for w in words)})"


_ARTICLE = f"(?:{_any(ARTICLES)} )?"
_COLOR = _any(COLOR_WORDS)


@dataclass(frozen=True)
class Choice:
    """One of several wordings that mean the same; ``read`` gives the first."""

    options: tuple[str, ...]

    @property
    def pattern(self) -> str:
        """Any of the options."""
        return _any(self.options)

    def canonical(self, text: str) -> str:
        """As it is."""
        return text

    def read(self, text: str) -> str:
        """The first option."""
        return self.options[0]

    def fillings(self) -> Iterator[str]:
        """All options."""
        return iter(self.options)


@dataclass(frozen=True)
class Phrase:
    """Wordings with a meaning each."""

    options: Mapping[str, str]

    @property
    def pattern(self) -> str:
        """Any of the wordings, the longest first."""
        return _any(tuple(sorted(self.options, key=len, reverse=True)))

    def canonical(self, text: str) -> str:
        """As it is."""
        return text

    def read(self, text: str) -> str:
        """Its meaning."""
        return self.options[text]

    def fillings(self) -> Iterator[str]:
        """All wordings."""
        return iter(self.options)


@dataclass(frozen=True)
class QuantityPhrase:
    """[exactly | only | just | at least | at most] one | two | three."""

    bounds: tuple[str, ...] = tuple(BOUNDS)

    @property
    def pattern(self) -> str:
        """The bound is optional."""
        return f"(?:{_any(self.bounds)} )?{_any(tuple(QUANTITIES))}"

    def canonical(self, text: str) -> str:
        """As it is."""
        return text

    def read(self, text: str) -> Quantity:
        """Comparison and number."""
        bound, _, number = text.rpartition(" ")
        cmp: Cmp = ">=" if BOUNDS.get(bound) == ">=" else "<=" if BOUNDS.get(bound) == "<=" else "=="
        return Quantity(cmp, QUANTITIES[number])

    def fillings(self) -> Iterator[str]:
        """All of them."""
        for parts in itertools.product(("", *self.bounds), QUANTITIES):
            yield " ".join(p for p in parts if p)


@dataclass(frozen=True)
class NounPhrase:
    """[article] [colour] [direction] noun, e.g. "the red cube"; directions only where ``directed``."""

    nouns: Mapping[str, str]
    directed: bool = False

    @property
    def pattern(self) -> str:
        """Article and colour are optional."""
        direction = f"(?:{_any(DIRECTIONS)} )?" if self.directed else ""
        return f"{_ARTICLE}(?:{_COLOR} )?{direction}{_any(tuple(self.nouns))}"

    def canonical(self, text: str) -> str:
        """As it is."""
        return text

    def read(self, text: str) -> Thing:
        """Card, colour and direction."""
        words = [w for w in text.split(" ") if w not in ARTICLES]
        color = next((SPELLINGS.get(w, w) for w in words if w in COLOR_WORDS), None)
        direction = next((w for w in words if w in DIRECTIONS), None)
        return Thing(self.nouns[words[-1]], words[-1], color, direction)

    def fillings(self) -> Iterator[str]:
        """All of them."""
        directions = ("", *DIRECTIONS) if self.directed else ("",)
        for parts in itertools.product(("", *ARTICLES), ("", *COLOR_WORDS), directions, self.nouns):
            yield " ".join(p for p in parts if p)


@dataclass(frozen=True)
class GroupPhrase:
    """[the | all the | all] [two | red and blue | red, green and blue] plural noun."""

    nouns: Mapping[str, str]

    @property
    def pattern(self) -> str:
        """Commas are optional."""
        colors = f"{_COLOR}(?:,? {_COLOR}){{0,10}},? and {_COLOR}"
        return f"(?:(?:all the|all|the) )?(?:(?:{colors}|{_any(tuple(NUMBERS))}) )?{_any(self._plurals())}"

    def _plurals(self) -> tuple[str, ...]:
        return tuple(plural(noun) for noun in self.nouns)

    def canonical(self, text: str) -> str:
        """Commas between colours, none before "and"."""
        words = text.replace(",", "").split(" ")
        for i, word in enumerate(words[:-1]):
            if word in COLOR_WORDS and words[i + 1] in COLOR_WORDS:
                words[i] = f"{word},"
        return " ".join(words)

    def read(self, text: str) -> Group:
        """Card, colours and count."""
        words = text.replace(",", "").split(" ")
        noun = next(n for n in self.nouns if plural(n) == words[-1])
        colors = tuple(SPELLINGS.get(w, w) for w in words if w in COLOR_WORDS)
        count = next((NUMBERS[w] for w in words if w in NUMBERS), None)
        return Group(self.nouns[noun], noun, colors, count)

    def fillings(self) -> Iterator[str]:
        """Every colour word in pairs, triples and quadruples of neighbours, every number, every noun."""
        ring = (*COLOR_WORDS, *COLOR_WORDS)
        lists = ["", *NUMBERS]
        for n in (2, 3, 4):
            lists += [f"{', '.join(ring[i : i + n - 1])} and {ring[i + n - 1]}" for i in range(len(COLOR_WORDS))]
        for parts in itertools.product(("", "the", "all", "all the"), lists, self._plurals()):
            yield " ".join(p for p in parts if p)
