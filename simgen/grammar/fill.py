"""Random fillings of the slots of a production, every object with a colour of its own."""

from __future__ import annotations

from collections import Counter

from robostack.task.spec import Instruction
from simgen.grammar.clauses import ClausePhrase
from simgen.grammar.kinds import Choice, GroupPhrase, Kind, NounPhrase, Phrase, QuantityPhrase
from simgen.grammar.production import SLOT, Production, render
from simgen.grammar.words import COLORS, DIRECTIONS, NUMBERS, plural
from simgen.prng import SplitMix64

BARE = 0.15  # share of noun phrases without a colour, where nothing else has the same noun
GROUP_SIZES = (2, 3, 3, 4)


class Filler:
    """Fills templates; what was used often before is used less, by counts that the filler keeps.

    Attributes:
        used: (family, slot, word) -> how often it was taken.
    """

    def __init__(self, rng: SplitMix64, used: Counter[tuple[str, str, str]] | None = None):
        self.rng = rng
        self.used = Counter() if used is None else used

    def instruction(self, production: Production) -> Instruction:
        """A random sentence of the family."""
        template = self._rare(production.templates, production.family, "template")
        return self.fill(production, template, {})

    def fill(self, production: Production, template: str, given: dict[str, str]) -> Instruction:
        """The template with the given fillings, and random ones for its other slots."""
        slots: dict[str, str | tuple[str, ...]] = {}
        colors = [str(color) for color in self.rng.shuffled(COLORS)]
        for name in dict.fromkeys(SLOT.findall(template)):
            kind = production.slots[name]
            slots[name] = given[name] if name in given else self._filling(kind, production.family, name, colors)
        bare = Instruction(text="-", template=template, slots=slots)
        return bare.model_copy(update={"text": render(bare)})

    def _rare(self, options: tuple[str, ...], family: str, slot: str) -> str:
        weights = [1.0 / (1.0 + self.used[(family, slot, option)]) for option in options]
        return self.rng.weighted(options, weights)

    def _filling(self, kind: Kind, family: str, slot: str, colors: list[str]) -> str:
        if isinstance(kind, NounPhrase):
            return self._noun(kind, family, slot, colors)
        if isinstance(kind, GroupPhrase):
            return self._group(kind, family, slot, colors)
        if isinstance(kind, ClausePhrase):
            return self._clause(kind, family, slot, colors)
        if isinstance(kind, (Choice, Phrase)):
            return self._rare(tuple(kind.fillings()), family, slot)
        assert isinstance(kind, QuantityPhrase), kind
        return self._rare(tuple(kind.fillings()), family, slot)

    def _noun(self, kind: NounPhrase, family: str, slot: str, colors: list[str]) -> str:
        noun = self._rare(tuple(kind.nouns), family, slot)
        words = ["the"]
        if self.rng.unit() >= BARE:
            words.append(colors.pop())
        if kind.directed and (len(words) == 1 or self.rng.unit() < 0.7):
            words.append(self._rare(DIRECTIONS, family, f"{slot}.direction"))
        return " ".join((*words, noun))

    def _group(self, kind: GroupPhrase, family: str, slot: str, colors: list[str]) -> str:
        noun = plural(self._rare(tuple(kind.nouns), family, slot))
        way, n = self.rng.unit(), self.rng.choice(GROUP_SIZES)
        if way < 0.15:
            return f"the {noun}"
        if way < 0.4:
            return f"the {next(w for w, number in NUMBERS.items() if number == n)} {noun}"
        taken = [colors.pop() for _ in range(n)]
        return f"the {', '.join(taken[:-1])} and {taken[-1]} {noun}"

    def _clause(self, kind: ClausePhrase, family: str, slot: str, colors: list[str]) -> str:
        families = tuple(p.family for p, _ in kind.parts)
        chosen = self._rare(families, family, slot)
        production, templates = kind.parts[families.index(chosen)]
        template = self.rng.choice(templates)
        names = dict.fromkeys(SLOT.findall(template))
        slots = {n: self._filling(production.slots[n], family, f"{slot}.{chosen}.{n}", colors) for n in names}
        return template.format(**slots)

    def note(self, instruction: Instruction, production: Production) -> None:
        """Count what an instruction uses."""
        self._note(production, instruction, production.family, "")

    def _note(self, production: Production, instruction: Instruction, family: str, prefix: str) -> None:
        if not prefix:
            self.used[(family, "template", instruction.template)] += 1
        for name, value in instruction.slots.items():
            kind, text = production.slots[name], str(value)
            if isinstance(kind, ClausePhrase):
                clause = kind.read(text)
                self.used[(family, name, clause.production.family)] += 1
                self._note(clause.production, clause.instruction, family, f"{name}.{clause.production.family}.")
            else:
                words = text.split(" ") if isinstance(kind, NounPhrase) else [text]
                for word in words[-1:]:
                    self.used[(family, f"{prefix}{name}", word)] += 1
