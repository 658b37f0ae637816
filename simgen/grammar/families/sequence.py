"""Two or three things to do, one after another: sentences of other families joined by "then"."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from robostack.errors import SentenceError
from robostack.task.predicate import AnyPred, Once, Seq, all_of, atom, negation
from robostack.task.profile import RobotProfile
from robostack.task.spec import Entity
from simgen.grammar.clauses import Clause, ClausePhrase
from simgen.grammar.families.articulated import CLOSE_IT, OPEN_IT, PRESS, PULL_LEVER, TURN
from simgen.grammar.families.put_in import PUT_IN
from simgen.grammar.families.put_on import PUT_ON
from simgen.grammar.families.relative_place import RELATIVE_PLACE
from simgen.grammar.kinds import Thing
from simgen.grammar.layout import too_small
from simgen.grammar.production import Draft, Meanings, Needs, Production
from simgen.grammar.rooms import JOINTS, rooms

SHARED = (0.24, 0.34)  # least room for the objects of two clauses, along x and y [m at scale 1]
RELEASED = 0.2  # fraction below which a button has come back up

_FIXED = (OPEN_IT, CLOSE_IT, PRESS, TURN, PULL_LEVER)
_CLAUSE = ClausePhrase(
    (
        (PRESS, ("{verb} {obj}",)),
        (OPEN_IT, ("{verb} {obj}",)),
        (CLOSE_IT, ("{verb} {obj}",)),
        (TURN, ("{verb} {obj} {way}", "{verb} {obj}")),
        (PULL_LEVER, ("{way} {obj}",)),
        (PUT_IN, ("{verb} {obj} {prep} {dst}",)),
        (PUT_ON, ("{verb} {obj} {prep} {dst}", "{verb} {obj} {to} {zone}")),
        (RELATIVE_PLACE, ("{verb} {obj} {side} {ref}",)),
    )
)


def _draft(slots: Meanings, profile: RobotProfile) -> Draft:
    """Each fixture gets a room of its own, the objects of all clauses share the rest.

    What a clause brings about still holds at the end, save that a button comes back up: where pressing it comes last,
    its coming back is the end.
    """
    clauses = [c for name in ("first", "second", "third") if isinstance(c := slots.get(name), Clause)]
    fixed = [c for c in clauses if c.production.family in {p.family for p in _FIXED}]
    things = [c.meanings["obj"] for c in fixed]
    named = tuple(t for t in things if isinstance(t, Thing))
    if len({t.words for t in named}) < len(named):
        raise SentenceError("it works one fixture twice; name two different ones")
    berths, rest = rooms(named, profile)
    if named and any("zone" in c.instruction.slots for c in clauses):  # a region may stand out of its room
        x0, y0, x1, y1 = rest.workspace
        y1 -= 0.5 * profile.size("zone")[1]
        if y1 <= y0:
            raise too_small(profile, "a region beside what else there is")
        rest = replace(rest, workspace=(x0, y0, x1, y1))
    _check_room([c for c in clauses if not any(c is f for f in fixed)], rest)
    berth = iter(berths)
    drafts = [c.production.draft(c.meanings, next(berth) if any(c is f for f in fixed) else rest) for c in clauses]
    return Draft(
        entities=_merged([d.entities for d in drafts]),
        goal=_in_order(drafts),
        subgoals=tuple(s for d in drafts for s in d.subgoals),
        never=_once_each(p for d in drafts for p in d.never),
        init=tuple(p for d in drafts for p in d.init),
    )


def _check_room(clauses: Sequence[Clause], profile: RobotProfile) -> None:
    """A region, or a place beside something, takes all the room that there is for objects; so does a small one.

    Raises:
        SceneError: there is no room for all clauses.
    """
    alone = any(c.production.family == "relative_place" or "zone" in c.instruction.slots for c in clauses)
    x0, y0, x1, y1 = profile.workspace
    narrow = y1 - y0 < SHARED[1] * profile.object_scale or x1 - x0 < SHARED[0] * profile.object_scale
    if len(clauses) > 1 and (alone or narrow):
        raise too_small(profile, "the objects of all parts of the sentence")


def _once_each(preds: Iterable[AnyPred]) -> tuple[AnyPred, ...]:
    found: list[AnyPred] = []
    for pred in preds:
        if pred not in found:
            found.append(pred)
    return tuple(found)


def _merged(parts: Sequence[tuple[Entity, ...]]) -> tuple[Entity, ...]:
    """All entities, fixtures first; a receptacle that two clauses name is one.

    Raises:
        SentenceError: two clauses move the same thing, or a thing of the same looks under another name.
    """
    found: dict[str, Entity] = {}
    for made in (e for entities in parts for e in entities):
        twin = found.get(made.id) or next(
            (e for e in found.values() if (e.card, e.color) == (made.card, made.color)), None
        )
        if twin is None:
            found[made.id] = made
        elif twin != made or made.role == "manipuland":
            raise SentenceError(f"it speaks of '{twin.id}' and '{made.id}', which look alike; give them colours")
    order = {"fixture": 0, "zone": 1, "receptacle": 2}
    return tuple(sorted(found.values(), key=lambda e: order.get(e.role, 3)))


def _in_order(drafts: Sequence[Draft]) -> AnyPred:
    """A stage per clause: what was brought about so far holds, and what comes next does not yet.

    A button's press is no state that can be there beforehand.
    """
    stages: list[AnyPred] = []
    kept: list[AnyPred] = []
    for draft, after in itertools.zip_longest(drafts, drafts[1:]):
        goal = draft.goal
        not_yet = [] if after is None or isinstance(after.goal, Once) else [negation(after.goal)]
        if isinstance(goal, Once):
            stages.append(all_of(*kept, goal.part, *not_yet))
            continue
        kept.append(goal)
        stages.append(all_of(*kept, *not_yet))
    last = drafts[-1].goal
    if isinstance(last, Once):
        pressed = drafts[-1].subgoals[0].args[0]
        stages.append(all_of(*kept, atom("joint", pressed, JOINTS["button"], "<=", RELEASED)))
    return Seq(parts=tuple(stages))  # pyright: ignore[reportCallIssue]  # populate_by_name


SEQUENCE = Production(
    family="sequence",
    summary="do two or three things one after another",
    slots={"first": _CLAUSE, "second": _CLAUSE, "third": _CLAUSE},
    templates=(
        "{first}, then {second}",
        "{first} and then {second}",
        "first {first}, then {second}",
        "please {first} and then {second}",
        "after you {first}, {second}",
        "before you {second}, {first}",
        "{first}, then {second}, then {third}",
        "{first}, {second} and then {third}",
        "first {first}, then {second} and then {third}",
    ),
    examples=(
        "press the red button, then put the cube in the bowl",
        "open the drawer and then put the red block on the plate",
        "press the red button, then open the cabinet, then put the can on the plate",
    ),
    draft=_draft,
    needs=Needs(depth=0.16, width=0.4, handle=True),
)
