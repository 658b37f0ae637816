"""What the noun phrases of an instruction refer to, and whether each can mean only one thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from robostack.task.spec import Entity, Instruction, TaskSpec
from simgen.grammar.clauses import Clause
from simgen.grammar.families import PRODUCTIONS
from simgen.grammar.kinds import Group, Thing


def phrases(instruction: Instruction, family: str) -> tuple[Thing | Group, ...]:
    """The noun phrases of an instruction, those of its clauses included."""
    return tuple(_phrases(PRODUCTIONS[family].meanings(instruction)))


def _phrases(meanings: Mapping[str, object]) -> Iterable[Thing | Group]:
    for meaning in meanings.values():
        if isinstance(meaning, (Thing, Group)):
            yield meaning
        elif isinstance(meaning, Clause):
            yield from _phrases(meaning.meanings)


def referents(phrase: Thing | Group, spec: TaskSpec, taken: frozenset[str] = frozenset()) -> tuple[Entity, ...]:
    """The entities that fit a phrase; ``taken`` are ids that more specific phrases of the sentence name."""
    if isinstance(phrase, Group):
        fits = (e for e in spec.entities if e.card == phrase.card and e.role != "distractor")
        return tuple(e for e in fits if not phrase.colors or e.color in phrase.colors)
    fits = tuple(e for e in spec.entities if e.card == phrase.card)
    if phrase.color is not None:
        return tuple(e for e in fits if e.color == phrase.color)
    return tuple(e for e in fits if e.id not in taken)


def disambiguates(instruction: Instruction, spec: TaskSpec, *, strict: bool = False) -> str:
    """Why a phrase of the instruction does not single out what it means in this scene; empty when all do.

    A phrase with a colour must fit exactly one entity; one without must fit exactly one that no phrase with a colour
    names, or when ``strict`` exactly one of all; a plural must fit as many as it says, and nothing but what the task
    moves.
    """
    if not instruction.template or spec.family not in PRODUCTIONS:
        return ""
    said = phrases(instruction, spec.family)
    colored = (p for p in said if isinstance(p, Thing) and p.color is not None)
    taken = frozenset(e.id for p in colored for e in referents(p, spec) if not strict)
    for phrase in dict.fromkeys(said):
        problem = _problem(phrase, spec, taken)
        if problem:
            return problem
    return ""


def _problem(phrase: Thing | Group, spec: TaskSpec, taken: frozenset[str]) -> str:
    fits = referents(phrase, spec, taken)
    names = ", ".join(e.id for e in fits) or "nothing"
    if isinstance(phrase, Thing):
        return "" if len(fits) == 1 else f"'the {phrase.words}' fits {names}"
    strange = [e.id for e in spec.entities if e.card == phrase.card and e.role == "distractor"]
    loose = [i for i in strange if not phrase.colors or spec.entity(i).color in phrase.colors]
    if loose:
        return f"'the {phrase.noun}s' also fits {', '.join(loose)}, which the task leaves alone"
    wanted = len(phrase.colors) or phrase.count
    if wanted is not None and len(fits) < wanted:
        return f"'{wanted} {phrase.noun}s' fits {names}"
    return "" if len(fits) > 1 or (wanted == 1 and fits) else f"'the {phrase.noun}s' fits {names}"
