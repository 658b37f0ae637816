"""What a task means by its goal, read from the witness and from the skills that its subgoals name.

The skills matter: where the goal says less than "stack", what stacking means must hold all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from robostack.task.predicate import AnyPred, Once, Seq, atoms_of, children
from robostack.task.spec import TaskSpec
from simgen.gates.constructors import reference_of, subjects_of
from simgen.gates.wishes import Wish
from simgen.gates.witness import Witness

Kind = Literal["rest", "inside", "relation", "pose", "line", "joint", "held", "fallen"]
KINDS: dict[str, Kind] = {
    "on": "rest",
    "in": "inside",
    "contains_count": "inside",
    "joint": "joint",
    "pose_at": "pose",
    "grasped": "held",
    "lifted": "held",
    "aligned": "line",
    "sorted": "line",
    "spread": "line",
    **dict.fromkeys(("left_of", "right_of", "front_of", "behind", "near", "far", "above", "touching"), "relation"),
}
_SKILLS: dict[str, tuple[Kind, int, int]] = {  # kind, and which arguments are what is moved and where to
    "place_on": ("rest", 0, 1),
    "stack": ("rest", 0, 1),
    "push_to": ("rest", 0, 1),
    "tool_push": ("rest", 1, 2),
    "place_in": ("inside", 0, 1),
    "insert": ("inside", 0, 1),
}
PLACES = ("rest", "inside")


@dataclass(frozen=True)
class Intent:
    """One thing that the witness brings about.

    Attributes:
        reference: what ``subject`` is put in relation to; "table", or None where there is nothing.
        wish: the ground atom; None when only the skill says so.
        stage: index of the passing stage that it belongs to; -1 for the final state.
    """

    kind: Kind
    subject: str
    reference: str | None
    wish: Wish | None
    stage: int = -1


def intents_of(spec: TaskSpec, witness: Witness) -> list[Intent]:
    """The intents of a witness; a skill sharpens what is meant where the goal's atom is weaker."""
    found = [i for wish in witness.plan.final for i in _of_wish(wish, -1)]
    for number, stage in enumerate(witness.plan.stages):
        found += [i for wish in stage for i in _of_wish(wish, number)]
    skills = _last_skills(spec)
    out = []
    for intent in found:
        meant = skills.get(intent.subject)
        if intent.kind == "relation" and intent.stage == -1 and meant is not None:
            out.append(replace(intent, kind=meant[0], reference=meant[1]))
        out.append(intent)
    return out


def _of_wish(wish: Wish, stage: int) -> list[Intent]:
    if wish.atom.name == "upright" and not wish.positive:
        return [Intent("fallen", str(wish.atom.args[0]), None, wish, stage)]
    kind = KINDS.get(wish.atom.name)
    if kind is None or not wish.positive:
        return []
    return [Intent(kind, s, _reference(wish), wish, stage) for s in subjects_of(wish.atom)]


def _reference(wish: Wish) -> str | None:
    return "table" if "table" in wish.atom.args[1:2] else reference_of(wish.atom)


def _last_skills(spec: TaskSpec) -> dict[str, tuple[Kind, str]]:
    """Subject -> kind and destination of the last subgoal that moves it."""
    out: dict[str, tuple[Kind, str]] = {}
    for subgoal in spec.subgoals:
        if subgoal.skill in _SKILLS:
            kind, subject, target = _SKILLS[subgoal.skill]
            out[str(subgoal.args[subject])] = (kind, str(subgoal.args[target]))
        else:
            out.pop(str(subgoal.args[0]) if subgoal.args else "", None)
    return out


def latched(pred: AnyPred) -> set[str]:
    """Subjects of places below a ``once`` that is no stage of a sequence: it must not outlast their removal."""
    if isinstance(pred, Once):
        return {s for a in atoms_of(pred) if KINDS.get(a.name) in ("rest", "inside", "pose") for s in subjects_of(a)}
    if isinstance(pred, Seq):
        return latched(pred.parts[-1])
    return {name for part in children(pred) for name in latched(part)}
