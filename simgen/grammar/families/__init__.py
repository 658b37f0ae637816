"""The families of tasks, one file each."""

from __future__ import annotations

from robostack.registry import Registry
from robostack.task.spec import Instruction
from simgen.grammar.families.articulated import CLOSE_IT, OPEN_IT, PRESS, PULL_LEVER, TURN
from simgen.grammar.families.clear import CLEAR
from simgen.grammar.families.count import COUNT
from simgen.grammar.families.cover import COVER
from simgen.grammar.families.distinct import DISTINCT
from simgen.grammar.families.drawer import OPEN_AND_PUT, PUT_AWAY, STORE, TAKE_OUT
from simgen.grammar.families.insert import INSERT
from simgen.grammar.families.line_up import LINE_UP
from simgen.grammar.families.push_to import PUSH_TO
from simgen.grammar.families.put_in import PUT_IN
from simgen.grammar.families.put_on import PUT_ON
from simgen.grammar.families.relative_place import RELATIVE_PLACE
from simgen.grammar.families.relocate import RELOCATE
from simgen.grammar.families.sequence import SEQUENCE
from simgen.grammar.families.shelf import SHELF
from simgen.grammar.families.sort import SORT
from simgen.grammar.families.stack import STACK
from simgen.grammar.families.swap import SWAP
from simgen.grammar.families.tool_push import TOOL_PUSH
from simgen.grammar.families.unstack import UNSTACK
from simgen.grammar.production import Production

_ALL = (
    *(PUT_IN, PUT_ON, STACK, PUSH_TO, SORT, LINE_UP),
    *(UNSTACK, RELATIVE_PLACE, INSERT, SHELF, COVER, TOOL_PUSH, SWAP, CLEAR, COUNT, DISTINCT, RELOCATE),
    *(OPEN_IT, CLOSE_IT, PRESS, TURN, PULL_LEVER, STORE, OPEN_AND_PUT, PUT_AWAY, TAKE_OUT, SEQUENCE),
)

PRODUCTIONS: Registry[Production] = Registry("family")
for _production in _ALL:
    PRODUCTIONS.add(_production.family, _production)


def read(flat: str) -> tuple[Production, Instruction] | None:
    """The first production that reads a normalised sentence, with what it read."""
    for family in PRODUCTIONS:
        instruction = PRODUCTIONS[family].match(flat)
        if instruction is not None:
            return PRODUCTIONS[family], instruction
    return None
