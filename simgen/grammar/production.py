"""A production of the grammar: templates with slots on one side, a TaskSpec on the other."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from robostack.errors import SentenceError
from robostack.task.predicate import AnyPred
from robostack.task.profile import RobotProfile
from robostack.task.spec import Entity, Instruction, RobotRef, Subgoal, TaskSpec
from simgen.grammar.kinds import Group, Kind, Thing

Meanings = Mapping[str, str | Thing | Group]
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Draft:
    """What a production says about a task; the rest of the TaskSpec follows from it."""

    entities: tuple[Entity, ...]
    goal: AnyPred
    subgoals: tuple[Subgoal, ...]
    never: tuple[AnyPred, ...] = ()


@dataclass(frozen=True)
class Production:
    """One family of tasks.

    Attributes:
        summary: what the family asks for, in a few words.
        slots: kind of every slot that occurs in the templates.
        templates: wordings; a slot that occurs twice must be filled alike. Commas are optional when reading.
        examples: readable sentences, the most typical first.
        draft: meaning of the slots and profile of the robot -> the task.
    """

    family: str
    summary: str
    slots: Mapping[str, Kind]
    templates: tuple[str, ...]
    examples: tuple[str, ...]
    draft: Callable[[Meanings, RobotProfile], Draft]

    def match(self, text: str) -> Instruction | None:
        """Read a normalised sentence; None when no template fits."""
        for template, pattern in zip(self.templates, _patterns(self), strict=True):
            found = pattern.fullmatch(text)
            if found:
                slots: dict[str, str | tuple[str, ...]] = {
                    name: self.slots[name].canonical(value) for name, value in found.groupdict().items()
                }
                return Instruction(text=_substitute(template, slots), template=template, slots=slots)
        return None

    def build(self, instruction: Instruction, robot: str, profile: RobotProfile) -> TaskSpec:
        """The task that an instruction of this family asks for.

        Raises:
            SentenceError: the instruction contradicts itself, e.g. names one object twice.
        """
        meanings = {name: self.slots[name].read(str(value)) for name, value in instruction.slots.items()}
        try:
            draft = self.draft(meanings, profile)
        except SentenceError as error:
            raise SentenceError(f"'{instruction.text}' cannot be a task: {error}") from error
        moved = sum(e.role == "manipuland" for e in draft.entities)
        return TaskSpec(
            name="_".join((self.family, *(e.id for e in draft.entities))),
            family=self.family,
            instruction=instruction,
            robot=RobotRef(name=robot, control_hz=profile.control_hz),
            entities=draft.entities,
            goal=draft.goal,
            never=draft.never,
            subgoals=draft.subgoals,
            horizon_s=12.0 if moved == 1 else 15.0 * moved,
            provenance={"generator": "grammar", "grammar": "1"},
        )


@functools.cache
def _compiled(templates: tuple[str, ...], patterns: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], ...]:
    kinds = dict(patterns)
    return tuple(re.compile(_regex(template, kinds)) for template in templates)


def _patterns(production: Production) -> tuple[re.Pattern[str], ...]:
    return _compiled(production.templates, tuple((n, k.pattern) for n, k in production.slots.items()))


def _regex(template: str, kinds: Mapping[str, str]) -> str:
    seen: set[str] = set()

    def slot(name: str) -> str:
        first = name not in seen
        seen.add(name)
        return f"(?P<{name}>{kinds[name]})" if first else f"(?P={name})"

    parts = _SLOT.split(template)
    literals = [re.escape(part).replace(",", ",?") for part in parts[::2]]
    slots = [slot(name) for name in parts[1::2]]
    return "".join(piece for pair in zip(literals, [*slots, ""], strict=True) for piece in pair)


def _substitute(template: str, slots: Mapping[str, str | tuple[str, ...]]) -> str:
    return _SLOT.sub(lambda m: str(slots[m[1]]), template)


def render(instruction: Instruction) -> str:
    """The sentence of an instruction: its template with the slots filled in."""
    return _substitute(instruction.template, instruction.slots)
