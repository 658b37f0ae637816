"""Counterfactual siblings: other instructions for the very same scene, and what makes a task hard.

A policy that ignores the words cannot do a task and its siblings: everything that it sees at the start is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from robostack.errors import RobostackError, SceneError, SentenceError
from robostack.sim.cards import load_robot
from robostack.task.check import check
from robostack.task.predicate import AnyPred, Atom, Pred
from robostack.task.profile import RobotProfile
from robostack.task.spec import Entity, Instruction, Subgoal, TaskSpec
from simgen.grammar.families import PRODUCTIONS
from simgen.grammar.kinds import NounPhrase
from simgen.grammar.production import Production, render
from simgen.grammar.refer import disambiguates
from simgen.grammar.rooms import JOINTS
from simgen.grammar.vary import spoils

_PLAIN = ("name", "var", "cmp", "n", "distinct", "tol")  # fields that hold no entity ids
_PRED: TypeAdapter[Any] = TypeAdapter(Pred)


def siblings(spec: TaskSpec, *, profile: RobotProfile | None = None) -> tuple[TaskSpec, ...]:
    """Tasks on the same scene whose instructions differ in one slot, or in two things that changed places.

    Entities and their placements are those of ``spec``; roles, goal, never and subgoals are the sibling's. Only such
    siblings are made whose start state the scene gives.
    """
    production = PRODUCTIONS[spec.family]
    profile = profile or load_robot(spec.robot.name).profile
    found: dict[str, TaskSpec] = {}
    for slots in _edits(production, spec):
        bare = spec.instruction.model_copy(update={"slots": slots, "paraphrases": ()})
        instruction = bare.model_copy(update={"text": render(bare)})
        other = _on_scene(production, instruction, spec, profile)
        if other is not None and other.goal != spec.goal:
            found.setdefault(other.id, other)
    return tuple(found.values())


def _edits(production: Production, spec: TaskSpec) -> Iterator[dict[str, str | tuple[str, ...]]]:
    """Fillings of the same template that may mean something else here."""
    slots = dict(spec.instruction.slots)
    nouns = [n for n in slots if isinstance(production.slots[n], NounPhrase)]
    for i, a in enumerate(nouns):
        for b in nouns[i + 1 :]:
            if _takes(production, a, str(slots[b])) and _takes(production, b, str(slots[a])):
                yield {**slots, a: slots[b], b: slots[a]}
    said = {str(v) for v in slots.values()}
    for name in nouns:
        for entity in spec.entities:
            phrase = f"the {entity.color} {_noun(production, name, entity, str(slots[name]))}"
            if _takes(production, name, phrase) and phrase not in said:
                yield {**slots, name: phrase}
    plain = {name: str(value) for name, value in slots.items()}
    for changed in production.contrast(plain, spec):
        yield dict(changed)


def _noun(production: Production, slot: str, entity: Entity, said: str) -> str:
    """A noun for the entity's card: the one that the slot has now where that fits."""
    kind, now = production.slots[slot], said.rsplit(" ", 1)[-1]
    assert isinstance(kind, NounPhrase), slot
    if kind.nouns.get(now) == entity.card:
        return now
    return next((noun for noun, card in kind.nouns.items() if card == entity.card), "")


def _takes(production: Production, slot: str, phrase: str) -> bool:
    return re.fullmatch(production.slots[slot].pattern, phrase) is not None


def _on_scene(
    production: Production, instruction: Instruction, spec: TaskSpec, profile: RobotProfile
) -> TaskSpec | None:
    """The instruction's task with the entities of the scene; None where the scene does not fit."""
    try:
        made = production.build(instruction, spec.robot.name, profile)
    except (SentenceError, SceneError):
        return None
    names: dict[str, str] = {}
    for entity in made.entities:
        twin = next((e for e in spec.entities if (e.card, e.color) == (entity.card, entity.color)), None)
        if twin is None or twin.id in names.values():
            return None
        names[entity.id] = twin.id
    init = tuple(renamed(p, names) for p in made.init)
    if not all(_holds_at_start(p, spec) for p in init):
        return None
    roles = {names[e.id]: e.role for e in made.entities}
    entities = tuple(e.model_copy(update={"role": roles.get(e.id, "distractor")}) for e in spec.entities)
    sibling = made.model_copy(
        update={
            "entities": entities,
            "init": init,
            "goal": renamed(made.goal, names),
            "never": (*(renamed(p, names) for p in made.never), *_left_alone(entities)),
            "subgoals": tuple(_subgoal(s, names) for s in made.subgoals),
            "name": "_".join((spec.family, *(e.id for e in entities))),
        }
    )
    try:
        check(sibling)
    except RobostackError:
        return None
    return None if disambiguates(instruction, sibling) else sibling


def _holds_at_start(pred: AnyPred, spec: TaskSpec) -> bool:
    """Whether an atom of ``init`` follows from where things are put."""
    if not isinstance(pred, Atom):
        return False
    made = spec.entity(str(pred.args[0]))
    if pred.name == "joint":
        low, high = made.joints.get(str(pred.args[1]), (0.0, 0.0))
        value = float(str(pred.args[3]))
        return low >= value if pred.args[2] == ">=" else pred.args[2] == "<=" and high <= value
    return pred.name in ("on", "in") and made.placement.on == pred.args[1]


def _left_alone(entities: tuple[Entity, ...]) -> tuple[AnyPred, ...]:
    """What spoils an episode by touching what the sibling does not speak of."""
    return tuple(spoils(e) for e in entities if e.role == "distractor" and not (e.card in JOINTS and e.joints))


def _subgoal(subgoal: Subgoal, names: Mapping[str, str]) -> Subgoal:
    args = tuple(names.get(a, a) if isinstance(a, str) else a for a in subgoal.args)
    return Subgoal(skill=subgoal.skill, args=args, goal=renamed(subgoal.goal, names))


def renamed(pred: AnyPred, names: Mapping[str, str]) -> AnyPred:
    """The predicate with other entity ids."""
    return _PRED.validate_python(_renamed(pred.model_dump(by_alias=True), names))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        kept = {k for k, v in value.items() if k in _PLAIN or (k == "among" and isinstance(v, dict))}
        return {k: v if k in kept else _renamed(v, names) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_renamed(v, names) for v in value)
    return names.get(value, value) if isinstance(value, str) else value


def difficulty(spec: TaskSpec) -> dict[str, float]:
    """Features of a task that make it hard: subgoals, things in the way, least free space, precision asked for [m]."""
    clearances = [e.placement.clearance for e in spec.entities if e.placement.on == "table" and e.role != "zone"]
    moved = spec.manipulands()
    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (e.placement.box for e in moved)) / max(1, len(moved))
    return {
        "subgoals": float(len(spec.subgoals)),
        "distractors": float(sum(e.role == "distractor" for e in spec.entities)),
        "entities": float(len(spec.entities)),
        "clearance_m": min(clearances, default=0.0),
        "start_area_m2": round(area, 4),
        "contact_rich": float(any(s.skill in ("insert", "push_to", "tool_push", "turn") for s in spec.subgoals)),
    }
