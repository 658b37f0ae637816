"""Reading a sentence with all productions."""

from __future__ import annotations

from typing import NamedTuple

from robostack.task.spec import Instruction
from simgen.grammar.explain import sentence_error
from simgen.grammar.families import PRODUCTIONS, read
from simgen.grammar.production import Production
from simgen.grammar.words import normalise


class Parsed(NamedTuple):
    """The production that reads a sentence, and what it read."""

    production: Production
    instruction: Instruction


def parse(text: str) -> Parsed:
    """Read a sentence.

    Case, white space, articles, commas and final punctuation are free; ``instruction.text`` keeps the words.

    Raises:
        SentenceError: no production reads it; the message says which word is unknown and what can be read.
    """
    flat = normalise(text)
    found = read(flat) if flat is not None else None
    if found is None:
        raise sentence_error(text)
    return Parsed(*found)


def examples() -> dict[str, tuple[str, ...]]:
    """Family -> a few sentences that it reads, the most typical first."""
    return {family: PRODUCTIONS[family].examples for family in PRODUCTIONS}
