"""What a sentence claims, read without the grammar: things, relations between them, states, numbers, order.

A shallow reading that also takes sentences which the grammar does not: noun phrases are found by colour and noun, and
each relation word relates the noun phrases beside it. It shares nothing with the productions but the vocabulary, so an
error of a production does not hide itself.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from simgen.grammar import words as w
from simgen.grammar.describe import FRACTIONS
from simgen.grammar.words import plural

RELATIONS = {
    "left_of": ("to the left of", "left of", "on the left side of"),
    "right_of": ("to the right of", "right of", "on the right side of"),
    "front_of": ("in front of",),
    "behind": ("behind",),
    "under": ("under", "below", "beneath", "underneath"),
    "off": ("off the top of", "off of", "down from", "out of", "away from", "off", "from"),
    "was_on": ("which is on",),
    "instead": ("in place of", "instead of"),
    "where": ("where",),
    "on": ("on top of", "onto", "on"),
    "in": ("inside", "into", "in"),
    "to": ("to", "over"),
    "with": ("using", "with"),
}
STATES = {
    "open": ("pull open", "open"),
    "close": ("closed", "close", "push shut", "shut", "away in"),
    "press": ("press", "hit", "push down"),
    "turn": ("turn", "rotate", "twist"),
    "pull": ("pull back", "pull"),
    "push": ("push away", "push", "slide", "shove", "nudge"),
    "carry": ("put", "place", "set", "drop", "pick up", "stack", "grab", "carry", "lift"),
    "line": ("line", "align", "row"),
    "sort": ("sort", "group", "organize", "same color", "their color", "by color"),
    "swap": ("swap", "exchange", "switch", "change places", "where"),
    "clear": ("clear", "empty", "free up", "everything"),
    "tower": ("tower",),
    "replace": ("replace",),
    "cover": ("cover", "cap", "top"),
    "differ": ("different", "on separate", "onto separate", "in separate", "into separate", "over separate"),
    "all": ("everything", "every", "each", "all"),
    "unstack": ("unstack",),
    "topple": ("knock over", "knocked over", "knock down", "tip over", "topple"),
}
TURNED = {**{v: k for k, v in FRACTIONS.items()}, "half way": 0.5, "all the way": 1.0, "to the end": 1.0, "fully": 1.0}
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_BOUND = {"at least": ">=", "at most": "<=", "exactly": "==", "only": "==", "just": "=="}


@dataclass(frozen=True)
class Mention:
    """A noun phrase: colours that it names, cards that it may mean, where it stands."""

    colors: tuple[str, ...]
    cards: frozenset[str]
    words: str
    start: int
    end: int
    several: bool = False
    number: int | None = None


@dataclass(frozen=True)
class Relation:
    """Two noun phrases and what the sentence says of them; a missing one is None."""

    lemma: str
    subject: Mention | None
    target: Mention | None


Found = list[tuple[tuple[int, int], Mention | None]]


@dataclass(frozen=True)
class Claims:
    """What a sentence claims.

    Attributes:
        states: lemmas of ``STATES`` that occur.
        works: (lemma of a verb, the fixture after it).
        quantity: comparison and number of "two of the blocks".
        turned: fraction that something is turned to.
        strange: words after an article that name nothing known.
    """

    mentions: tuple[Mention, ...]
    relations: tuple[Relation, ...]
    states: frozenset[str]
    works: tuple[tuple[str, Mention], ...]
    quantity: tuple[str, int] | None
    turned: float | None
    strange: tuple[str, ...]


@functools.cache
def nouns() -> dict[str, tuple[frozenset[str], bool]]:
    """Noun -> cards that it may mean, and whether it is a plural."""
    tables = [
        v for k, v in vars(w).items() if k.isupper() and isinstance(v, dict) and set(v.values()) <= set(w.PALETTES)
    ]
    cards: dict[str, set[str]] = {"table": {"table"}}
    for table in tables:
        for noun, card in table.items():
            cards.setdefault(noun, set()).add(card)
    single = {noun: (frozenset(found), False) for noun, found in cards.items()}
    return {**{plural(n): (c, True) for n, (c, _) in single.items()}, **single}


def _options(found) -> str:
    return "|".join(re.escape(x) for x in sorted(found, key=len, reverse=True))


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    color = _options(w.COLOR_WORDS)
    colors = rf"(?P<colors>(?:{color})(?:(?:,? and|,)? (?:{color}))*)"
    number = rf"(?:(?P<number>{_options(_NUMBERS)}) )?"
    state = rf"(?:(?:open|closed|{_options(w.DIRECTIONS)}) )?"
    noun = _options(nouns())
    no_verb = rf"(?! (?:the|it|them|an? (?:(?:{color}) )?(?:{noun}))\b)"  # "stick the peg in": it has an object
    thing = rf"{number}(?:{colors} )?{state}(?P<noun>{noun})\b{no_verb}"
    mention = rf"\b(?:{thing}|(?P<it>it|them|there))\b"
    relation = "|".join(rf"(?P<{lemma}>\b(?:{_options(forms)})\b)" for lemma, forms in RELATIONS.items())
    return re.compile(mention), re.compile(relation)


def read_claims(text: str) -> Claims:
    """The claims of a sentence, in the order of what it asks to be done."""
    flat = plain(text)
    pattern, relation_pattern = _patterns()
    found: list[Mention | None] = []
    spans: list[tuple[int, int]] = []
    for m in pattern.finditer(flat):
        spans.append(m.span())
        found.append(None if m["it"] else _mention(m))
    mentions = tuple(m for m in found if m is not None)
    relations: list[Relation] = []
    for m in relation_pattern.finditer(flat):
        lemma = m.lastgroup or ""
        if any(a <= m.start() < b for a, b in spans):
            continue
        relations.append(_related(lemma, m.start(), m.end(), flat, list(zip(spans, found, strict=True)), relations))
    return Claims(
        mentions=mentions,
        relations=tuple(r for r in relations if r.target is not None),
        states=frozenset(s for s, forms in STATES.items() if re.search(rf"\b(?:{_options(forms)})\b", flat)),
        works=_works(flat, mentions),
        quantity=_quantity(flat),
        turned=next((f for word, f in sorted(TURNED.items(), key=lambda p: -len(p[0])) if word in flat), None),
        strange=_strange(flat, spans),
    )


def plain(text: str) -> str:
    """The sentence without courtesies, in the order in which things are to be done: "before you B, A" is A, then B."""
    flat = " ".join(text.lower().replace("colour", "color").split()).rstrip(".!? ")
    flat = re.sub(r"^(?:please|can you|could you) ", "", flat)
    flat = re.sub(r"\bdo not leave (.+?) open\b", r"close \1", flat)
    found = re.fullmatch(r"before you (.+?), (.+)", flat)
    return f"{found[2]}, then {found[1]}" if found else flat


def _mention(m: re.Match[str]) -> Mention:
    cards, several = nouns()[m["noun"]]
    named = re.findall(_options(w.COLOR_WORDS), m["colors"] or "")
    colors = tuple(w.SPELLINGS.get(str(c), str(c)) for c in named)
    number = _NUMBERS[m["number"]] if m["number"] else None
    return Mention(colors, cards, m[0], m.start(), m.end(), several, number if several else None)


def _related(lemma: str, start: int, end: int, flat: str, found: Found, earlier: list[Relation]) -> Relation:
    """The relation word at ``start`` with what stands beside it; "it" is what was named before."""
    before = [(span, m) for span, m in found if span[1] <= start]
    after = [(span, m) for span, m in found if span[0] >= end]
    targets = {r.target for r in earlier if r.lemma not in ("with", "was_on")}
    free = [m for _, m in before if m is not None and m not in targets]
    subject = free[-1] if free else None
    if before and before[-1][1] is not None and flat[before[-1][0][1] : start].strip(" ,") in _COPULAS:
        subject = before[-1][1]
    if not after or not _FILLER.fullmatch(flat[end : after[0][0][0]]):
        return Relation(lemma, subject, None)
    target = after[0][1]
    if target is None and subject is not None and lemma == "with":
        return Relation(lemma, subject, None)
    if target is None and subject is not None:  # "put the block in it": in what was named before the block
        others = [m for _, m in before if m is not None and (m.colors, m.cards) != (subject.colors, subject.cards)]
        holders = [m for m in others if m.cards & HOLDERS]
        target = (holders or others or [None])[-1]
    return Relation(lemma, subject, target)


_COPULAS = ("", "is", "should be", "goes", "go")
_FILLER = re.compile(r" (?:(?:the|a|an|all|different|separate|their|two|three) )*")
HOLDERS = frozenset(("bowl", "plate", "tray", "bin", "box", "drawer", "shelf", "socket", "zone", "mug", "cabinet"))


def _works(flat: str, mentions: tuple[Mention, ...]) -> tuple[tuple[str, Mention], ...]:
    out = []
    for lemma in ("open", "close", "press", "turn", "pull", "push"):
        for m in re.finditer(rf"\b(?:{_options(STATES[lemma])})\b (?:the |a |an )?", flat):
            target = next((x for x in mentions if x.start == m.end()), None)
            if target is not None:
                out.append((lemma, target))
    return tuple(out)


def _quantity(flat: str) -> tuple[str, int] | None:
    m = re.search(rf"(?:({_options(_BOUND)}) )?\b({_options(_NUMBERS)}) of\b", flat) or re.search(
        rf"^of .+, \w+ (?:({_options(_BOUND)}) )?({_options(_NUMBERS)})\b", flat
    )
    return (_BOUND.get(m[1] or "exactly", "=="), _NUMBERS[m[2]]) if m else None


@functools.cache
def _known() -> frozenset[str]:
    from simgen.grammar.explain import vocabulary

    return frozenset((*vocabulary(), *nouns()))


def _strange(flat: str, spans: list[tuple[int, int]]) -> tuple[str, ...]:
    colors = _options(w.COLOR_WORDS)
    found = re.finditer(rf"\b(?:a|an|the)(?: (?:{colors}))? ([a-z]+)\b", flat)
    return tuple(m[1] for m in found if m[1] not in _known() and not any(a <= m.start(1) < b for a, b in spans))
