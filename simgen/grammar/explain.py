"""What is wrong with a sentence that nothing reads, and what could be said instead."""

from __future__ import annotations

import difflib
import functools
import re

from robostack.errors import SentenceError
from simgen.grammar.families import PRODUCTIONS, read
from simgen.grammar.words import MAX_CHARS, normalise

SHOWN = 80
MAX_UNKNOWN = 5
LLM_HINT = (
    "Free text needs a language model (llm=openai-compatible or llm=anthropic, with a server or a key), which comes "
    "with a later version: until then use these forms, or write the task.json yourself."
)
_WORD = re.compile(r"[a-z]+")


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """All words that occur in some readable sentence, sorted."""
    words: set[str] = set()
    for family in PRODUCTIONS:
        production = PRODUCTIONS[family]
        for template in production.templates:
            words.update(_WORD.findall(re.sub(r"\{\w+\}", " ", template)))
        for kind in production.slots.values():
            for filling in kind.fillings():
                words.update(_WORD.findall(filling))
    return tuple(sorted(words))


def sentence_error(text: str) -> SentenceError:
    """The error for a sentence that cannot be read: one line, bounded in length, whatever the input."""
    flat = normalise(text)
    if flat is None:
        reason, corrected = _unfit(text), ""
    else:
        reason, corrected = _diagnose(flat)
    end = "" if reason.endswith("?") else "."
    families = ", ".join(PRODUCTIONS)
    nearest = "; ".join(f"'{example}'" for example in _nearest(corrected))
    return SentenceError(f"cannot read {_shown(text)}: {reason}{end} Try: {nearest}. Families: {families}. {LLM_HINT}")


def _shown(text: str) -> str:
    """ASCII with escapes, on one line: look-alikes and control characters become visible."""
    return ascii(text) if len(text) <= SHOWN else f"{ascii(text[:SHOWN])}... ({len(text)} characters)"


def _unfit(text: str) -> str:
    if len(text) > MAX_CHARS:
        return f"it is longer than {MAX_CHARS} characters"
    if not text.strip(" \t\r\n.!?"):
        return "it is empty"
    strange = next(c for c in text if not (c.isascii() and (c.isprintable() or c in "\t\r\n")))
    return f"the character {ascii(strange)} is not plain text"


def _diagnose(flat: str) -> tuple[str, str]:
    """What is not understood, and the sentence with unknown words replaced by the nearest known ones."""
    known, notes, corrected = vocabulary(), [], flat
    for word in dict.fromkeys(_WORD.findall(flat)):
        if word in known:
            continue
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.6) if len(word) <= 20 else []
        notes.append(f"'{word[:20]}' is unknown" + (f", did you mean '{close[0]}'?" if close else ""))
        if close:
            corrected = re.sub(rf"\b{word}\b", close[0], corrected)
        if len(notes) == MAX_UNKNOWN:
            break
    return "; ".join(notes) or "every word is known, but no sentence of the grammar has this form", corrected


def _nearest(corrected: str, count: int = 3) -> list[str]:
    """Readable sentences, the one most like the corrected sentence first."""
    found = read(corrected)
    first = [found[1].text] if found else []
    words = set(_WORD.findall(corrected))
    scored = []
    for number, family in enumerate(PRODUCTIONS):
        for place, example in enumerate(PRODUCTIONS[family].examples):
            other = set(_WORD.findall(example))
            scored.append((-len(words & other) / len(words | other), place, number, example))
    ranked = [example for *_, example in sorted(scored)]
    return [*first, *(e for e in ranked if e not in first)][:count]
