"""G2: names against cards, and the words of the instruction against the entities."""

from __future__ import annotations

import re

from robostack.errors import RobostackError, SceneError, SpecError, UnknownName
from robostack.paths import find_cards
from robostack.sim.cards import AssetCard, load_asset, load_robot
from robostack.sim.objects import COLORS
from robostack.task.predicate import Atom, atoms_of
from robostack.task.spec import Entity, TaskSpec
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.record import Metric
from simgen.gates.registry import gate
from simgen.grammar.families import PRODUCTIONS
from simgen.grammar.refer import disambiguates, phrases

_SPELLINGS = {"grey": "gray"}
_SPACE = re.compile(r"\s+")


@gate("G2", limit_s=30.0)
def grounding(candidate: Candidate) -> dict[str, Metric]:
    """Robot, cards, colours and joints exist; what a predicate needs of an entity it has; the text is unambiguous."""
    spec = candidate.spec
    try:
        load_robot(spec.robot.name)
    except RobostackError as error:
        raise GateFailure(Code.UNKNOWN_ROBOT, str(error)) from error
    for entity in spec.entities:
        _card(entity)
    for pred in spec.predicates():
        for atom in atoms_of(pred):
            _joint(spec, atom)
    try:
        candidate.env  # noqa: B018  # building is what checks the bindings
    except SceneError:
        pass  # G3 judges what does not compile
    except (SpecError, UnknownName) as error:
        raise GateFailure(Code.BINDING, str(error)) from error
    if spec.instruction.template:
        _slots(spec)
    if spec.instruction.template and spec.family in PRODUCTIONS:
        return {"phrases": _grammar_phrases(spec)}
    return {"phrases": _definite_phrases(spec)}


def _card(entity: Entity) -> None:
    try:
        card = load_asset(entity.card)
    except RobostackError as error:
        raise GateFailure(Code.UNKNOWN_ASSET, f"entity '{entity.id}': {error}") from error
    if entity.color not in COLORS:
        known = ", ".join(sorted(COLORS))
        raise GateFailure(Code.UNKNOWN_COLOR, f"entity '{entity.id}' is '{entity.color}'; known colours: {known}")
    for name in entity.joints:
        _require_joint(entity, card, name)


def _joint(spec: TaskSpec, atom: Atom) -> None:
    entity = next((e for e in spec.entities if e.id == atom.args[0]), None)
    if atom.name == "joint" and entity is not None:  # below a quantifier it is a variable; the typed check knows
        _require_joint(entity, load_asset(entity.card), str(atom.args[1]))


def _require_joint(entity: Entity, card: AssetCard, name: str) -> None:
    if name not in card.joints:
        has = ", ".join(card.joints) or "none"
        raise GateFailure(Code.UNKNOWN_JOINT, f"'{entity.id}' ({entity.card}) has no joint '{name}'; it has {has}")


def _grammar_phrases(spec: TaskSpec) -> int:
    """Phrases of a sentence that the grammar has parsed; each means what it should."""
    try:
        problem = disambiguates(spec.instruction, spec)
        said = phrases(spec.instruction, spec.family)
    except RobostackError as error:
        raise GateFailure(Code.SLOTS, str(error)) from error
    if problem:
        raise GateFailure(Code.UNGROUNDED if problem.endswith("fits nothing") else Code.AMBIGUOUS, problem)
    return len(said)


def _definite_phrases(spec: TaskSpec) -> int:
    """Every "the red block" of a free text means exactly one entity; returns how many such phrases there are."""
    nouns = _nouns()
    colors, known = "|".join([*COLORS, *_SPELLINGS]), "|".join(sorted(nouns, key=len, reverse=True))
    pattern = re.compile(rf"\bthe (?:(?P<color>{colors}) )?(?P<noun>{known})\b")
    found = 0
    for match in pattern.finditer(_SPACE.sub(" ", spec.instruction.text.lower())):
        color, noun = match["color"], match["noun"]
        fitting = [
            e.id for e in spec.entities if e.card in nouns[noun] and color in (None, e.color, _spelt(color, e.color))
        ]
        if not fitting:
            there = ", ".join(f"{e.color} {e.card}" for e in spec.entities)
            raise GateFailure(Code.UNGROUNDED, f"nothing in the scene is '{match[0]}'; there is {there}")
        if len(fitting) > 1:
            raise GateFailure(Code.AMBIGUOUS, f"'{match[0]}' fits {', '.join(fitting)}: name what tells them apart")
        found += 1
    return found


def _spelt(word: str | None, color: str) -> str | None:
    return word if word is not None and _SPELLINGS.get(word) == color else color + "!"


def _nouns() -> dict[str, set[str]]:
    """Noun -> names of the cards that it may mean."""
    nouns: dict[str, set[str]] = {}
    for name in find_cards("assets"):
        for noun in load_asset(name).nouns:
            nouns.setdefault(noun, set()).add(name)
    return nouns


def _slots(spec: TaskSpec) -> None:
    instruction = spec.instruction
    values = {k: v if isinstance(v, str) else ", ".join(v) for k, v in instruction.slots.items()}
    try:
        said = instruction.template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise GateFailure(Code.SLOTS, f"template '{instruction.template}' has no slot for {error}") from error
    if _plain(said) != _plain(instruction.text):
        raise GateFailure(Code.SLOTS, f"the slots say '{said}', the text says '{instruction.text}'")


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip(" .!?").lower()
