"""A production of the grammar: templates with slots on one side, a TaskSpec on the other."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from robostack.errors import SceneError, SentenceError
from robostack.task.predicate import AnyPred
from robostack.task.profile import RobotProfile
from robostack.task.spec import Entity, Instruction, RobotRef, Subgoal, TaskSpec
from simgen.grammar.kinds import Group, Kind, Quantity, Thing

Meanings = Mapping[str, object]
Slots = Mapping[str, str]
Meaning = TypeVar("Meaning", str, Thing, Group, Quantity)
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Draft:
    """What a production says about a task; the rest of the TaskSpec follows from it."""

    entities: tuple[Entity, ...]
    goal: AnyPred
    subgoals: tuple[Subgoal, ...]
    never: tuple[AnyPred, ...] = ()
    init: tuple[AnyPred, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What a family asks of a robot, at object scale 1.

    Attributes:
        depth, width: least extents of the workspace along x and y [m].
        grip: widest thing that is taken between the fingers [m]; 0 where nothing is grasped.
        mass: heaviest thing that is carried [kg].
        handle: it pulls, presses or turns something that is bolted down.
    """

    depth: float = 0.14
    width: float = 0.2
    grip: float = 0.04
    mass: float = 0.06
    handle: bool = False

    def lacking(self, profile: RobotProfile, *, payload: float = math.inf, handles: bool = True) -> str:
        """What the robot lacks, in words; empty when nothing.

        Args:
            profile: the robot.
            payload: what it can carry [kg].
            handles: whether it can work handles.
        """
        s, (x0, y0, x1, y1) = profile.object_scale, profile.workspace
        if x1 - x0 < self.depth * s or y1 - y0 < self.width * s:
            return f"a workspace of {self.depth * s:g} by {self.width * s:g} m"
        if self.grip and profile.gripper_max_opening_m < 0.01:
            return "a gripper that opens by more than 10 mm"
        if self.mass * s**3 > payload:
            return f"a payload of {self.mass * s**3:g} kg"
        return "a way to work handles" if self.handle and not handles else ""


def meaning(meanings: Meanings, name: str, kind: type[Meaning]) -> Meaning:
    """The meaning of a slot, which its kind says is of that type."""
    value = meanings[name]
    assert isinstance(value, kind), (name, value)
    return value


def no_contrast(slots: Slots, spec: TaskSpec) -> Iterator[Slots]:
    """No other fillings of the same template that would be a contrast on the same scene."""
    del slots, spec
    return iter(())


@dataclass(frozen=True)
class Production:
    """One family of tasks.

    Attributes:
        summary: what the family asks for, in a few words.
        slots: kind of every slot that occurs in the templates.
        templates: wordings; a slot that occurs twice must be filled alike. Commas are optional when reading.
        examples: readable sentences, the most typical first.
        draft: meaning of the slots and profile of the robot -> the task.
        needs: what it asks of a robot.
        contrast: slots of an instruction -> other fillings of its template that ask for something else of the same
            scene, beyond exchanging what the sentence names for a distractor.
    """

    family: str
    summary: str
    slots: Mapping[str, Kind]
    templates: tuple[str, ...]
    examples: tuple[str, ...]
    draft: Callable[[Meanings, RobotProfile], Draft]
    needs: Needs = Needs()
    contrast: Callable[[Slots, TaskSpec], Iterator[Slots]] = no_contrast

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

    def meanings(self, instruction: Instruction) -> dict[str, object]:
        """The meaning of every slot that an instruction of this family fills."""
        return {name: self.slots[name].read(str(value)) for name, value in instruction.slots.items()}

    def build(self, instruction: Instruction, robot: str, profile: RobotProfile) -> TaskSpec:
        """The task that an instruction of this family asks for.

        Raises:
            SentenceError: the instruction contradicts itself, e.g. names one object twice.
            SceneError: the robot cannot do such tasks, or its workspace does not hold this one.
        """
        lacking = self.needs.lacking(profile)
        if lacking:
            raise SceneError(
                "PLACEMENT_INFEASIBLE",
                f"robot '{profile.name}' is too small for '{self.family}', which needs {lacking}: use another robot",
            )
        try:
            draft = self.draft(self.meanings(instruction), profile)
        except SentenceError as error:
            raise SentenceError(f"'{instruction.text}' cannot be a task: {error}") from error
        steps = max(len(draft.subgoals), sum(e.role == "manipuland" for e in draft.entities))
        return TaskSpec(
            name="_".join((self.family, *(e.id for e in draft.entities))),
            family=self.family,
            instruction=instruction,
            robot=RobotRef(name=robot, control_hz=profile.control_hz),
            entities=draft.entities,
            init=draft.init,
            goal=draft.goal,
            never=draft.never,
            subgoals=draft.subgoals,
            horizon_s=_horizon_s(steps, draft.subgoals),
            provenance={"generator": "grammar", "grammar": "1"},
        )


def _horizon_s(steps: int, subgoals: Sequence[Subgoal]) -> float:
    """Time for the slowest robot; a dial takes it several grips."""
    if steps > 1:
        return 15.0 * steps
    return 20.0 if any(subgoal.skill == "turn" for subgoal in subgoals) else 12.0


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

    parts = SLOT.split(template)
    literals = [re.escape(part).replace(",", ",?") for part in parts[::2]]
    slots = [slot(name) for name in parts[1::2]]
    return "".join(piece for pair in zip(literals, [*slots, ""], strict=True) for piece in pair)


def _substitute(template: str, slots: Mapping[str, str | tuple[str, ...]]) -> str:
    return SLOT.sub(lambda m: str(slots[m[1]]), template)


def render(instruction: Instruction) -> str:
    """The sentence of an instruction: its template with the slots filled in."""
    return _substitute(instruction.template, instruction.slots)
