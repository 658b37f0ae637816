"""The families of tasks, one file each."""

from __future__ import annotations

from robostack.registry import Registry
from robostack.task.spec import Instruction
from simgen.grammar.families.line_up import LINE_UP
from simgen.grammar.families.push_to import PUSH_TO
from simgen.grammar.families.put_in import PUT_IN
from simgen.grammar.families.put_on import PUT_ON
from simgen.grammar.families.sort import SORT
from simgen.grammar.families.stack import STACK
from simgen.grammar.production import Production

PRODUCTIONS: Registry[Production] = Registry("family")
for _production in (PUT_IN, PUT_ON, STACK, PUSH_TO, SORT, LINE_UP):
    PRODUCTIONS.add(_production.family, _production)


def read(flat: str) -> tuple[Production, Instruction] | None:
    """The first production that reads a normalised sentence, with what it read."""
    for family in PRODUCTIONS:
        instruction = PRODUCTIONS[family].match(flat)
        if instruction is not None:
            return PRODUCTIONS[family], instruction
    return None
