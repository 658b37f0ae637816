"""A slot that is filled by a whole sentence of another family."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from robostack.task.spec import Instruction
from simgen.grammar.production import SLOT, Production

STRIDE = 17  # of the fillings of a clause's own slots, each is tried one at a time


@dataclass(frozen=True)
class Clause:
    """What a clause asks for: the production that reads it, and what it read."""

    production: Production
    instruction: Instruction

    @property
    def meanings(self) -> dict[str, object]:
        """The meanings of its slots."""
        return self.production.meanings(self.instruction)


@dataclass(frozen=True)
class ClausePhrase:
    """A sentence in one of the given templates of other families; no slot may occur twice in one of them."""

    parts: tuple[tuple[Production, tuple[str, ...]], ...]

    @property
    def pattern(self) -> str:
        """Any of the templates."""
        wordings = (_open(production, t) for production, templates in self.parts for t in templates)
        return f"(?:{'|'.join(wordings)})"

    def canonical(self, text: str) -> str:
        """As it is."""
        return text

    def read(self, text: str) -> Clause:
        """The clause."""
        for production, _ in self.parts:
            instruction = production.match(text)
            if instruction is not None:
                return Clause(production, instruction)
        raise AssertionError(text)  # the pattern fits only what some part reads

    def fillings(self) -> Iterator[str]:
        """Every template with every few fillings of each of its slots."""
        for production, templates in self.parts:
            first = {name: next(iter(kind.fillings())) for name, kind in production.slots.items()}
            for template in templates:
                for name in SLOT.findall(template):
                    for filling in list(production.slots[name].fillings())[::STRIDE]:
                        yield template.format(**{**first, name: filling})


def _open(production: Production, template: str) -> str:
    parts = SLOT.split(template)
    return "".join(production.slots[part].pattern if i % 2 else re.escape(part) for i, part in enumerate(parts))
