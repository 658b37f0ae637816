"""Is a task new? Four levels: the same spec, the same meaning, like words, the same behaviour.

D1 content hash and D2 semantic signature merge. D3, the likeness of the words, only nominates: genuinely different
tasks can read alike. A nominated pair merges when D4, what the demonstrations do, agrees as well; otherwise the new
task stays, as a variant of the one that it resembles, and diversity counts the two once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robostack.task.spec import TaskSpec
from simgen.gates.record import GateRecord, Metric
from simgen.library.behaviour import Behaviour, similarity
from simgen.library.entry import Entry
from simgen.library.text import cosine

NOMINATE = 0.6  # cosine of the instructions from which a pair is looked at more closely
SAME_BEHAVIOUR = 0.95

Level = Literal["D1", "D2", "D4"]


@dataclass(frozen=True)
class Known:
    """What novelty needs to know of a task.

    Attributes:
        behaviour: None where no demonstration was measured; such a pair cannot merge at D4.
    """

    id: str
    signature: str
    text: str
    behaviour: Behaviour | None = None


@dataclass(frozen=True)
class Decision:
    """Outcome for one task.

    Attributes:
        merged: the level at which it is the same as ``parent``; None when it is kept.
        parent: the task that it repeats, or of which it is a variant; None for a novelty.
        text_cosine: greatest cosine with the text of a known task.
        behaviour: likeness of behaviour with the parent, where both were measured.
    """

    merged: Level | None = None
    parent: str | None = None
    text_cosine: float = 0.0
    behaviour: float | None = None


def known(spec: TaskSpec, behaviour: Behaviour | None = None, *, signer: Callable[[TaskSpec], str]) -> Known:
    """The facts of a task; ``signer`` computes its semantic signature."""
    return Known(spec.id, signer(spec), spec.instruction.text, behaviour)


def known_entries(entries: Iterable[Entry], *, signer: Callable[[TaskSpec], str]) -> list[Known]:
    """The facts of the tasks of a library."""
    return [known(entry.spec, entry_behaviour(entry), signer=signer) for entry in entries]


def entry_behaviour(entry: Entry) -> Behaviour | None:
    """What the demonstrations of a library task do, as measured when it was certified."""
    values = entry.note("behaviour")
    return Behaviour.from_dict(values) if values is not None else None


def decide(task: Known, others: Sequence[Known]) -> Decision:
    """Compare with all known tasks, level by level."""
    for level in ("D1", "D2"):
        same = next((other for other in others if _key(other, level) == _key(task, level)), None)
        if same is not None:
            return Decision(level, same.id, 1.0)
    if not others:
        return Decision()
    likeness = cosine([task.text, *(other.text for other in others)])[0, 1:]
    nominated = [i for i in np.argsort(-likeness, kind="stable") if likeness[i] >= NOMINATE]
    top = float(likeness.max())
    if not nominated:
        return Decision(text_cosine=top)
    behaviours = {int(i): _behaviour_likeness(task, others[i]) for i in nominated}
    for i, value in behaviours.items():
        if value is not None and value >= SAME_BEHAVIOUR:
            return Decision("D4", others[i].id, top, value)
    first = int(nominated[0])
    return Decision(None, others[first].id, top, behaviours[first])


def novelty_record(task: Known, others: Sequence[Known]) -> GateRecord:
    """Gate G10: refused as DUPLICATE, or let in, as a variant where ``metrics["parent"]`` names another task."""
    start = time.process_time()
    decision = decide(task, others)
    metrics: dict[str, Metric] = {"text_cosine": round(decision.text_cosine, 4)}
    if decision.behaviour is not None:
        metrics["behaviour"] = round(decision.behaviour, 4)
    if decision.merged is not None:
        metrics |= {"level": decision.merged, "same_as": str(decision.parent)}
        detail = f"the same as {decision.parent} ({_WHY[decision.merged]}): nothing to add"
    else:
        metrics |= {"parent": decision.parent} if decision.parent else {}
        detail = f"reads like {decision.parent}, acts differently: a variant" if decision.parent else ""
    return GateRecord(
        task=task.id,
        gate="G10",
        ok=decision.merged is None,
        code="OK" if decision.merged is None else "DUPLICATE",
        detail=detail,
        metrics=metrics,
        cost_s=time.process_time() - start,
    )


_WHY = {"D1": "equal content", "D2": "equal meaning", "D4": "like words and the same behaviour"}


def _key(task: Known, level: str) -> str:
    return task.id if level == "D1" else task.signature


def _behaviour_likeness(a: Known, b: Known) -> float | None:
    return similarity(a.behaviour, b.behaviour) if a.behaviour is not None and b.behaviour is not None else None
