"""Why a success is no success: what the task's skills promise, and whether the state at hand keeps the promise.

Nothing here reads the goal: it is the defendant. What is meant comes from the skills that the subgoals name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.evaluate import margin, text
from robostack.task.predicate import AnyPred, Count, Exists, any_of, atom, children
from robostack.task.spec import TaskSpec
from robostack.task.world import ROBOT, World

SPEED_SPIKE = 3.0  # nothing that a robot does by intent is faster [m/s]
PENETRATION = -2e-3  # contacts deeper than this are no physics [m]
_SLACK = {"m": 0.01, "frac": 0.1}
_LYING = np.deg2rad(45.0)
_PLACES = {"place_on": "on", "stack": "on", "push_to": "on", "tool_push": "on", "place_in": "in", "insert": "in"}
_RAISED = ("place_on", "stack", "place_in", "insert")


@dataclass(frozen=True)
class Evidence:
    """One way in which the task was not performed.

    Attributes:
        kind: OUTCOME, HELD, MOMENTARY, TOPPLED, SHARED, NUDGED, NOT_LIFTED, PENETRATION, SPEED or FORBIDDEN_CONTACT.
        why: half a sentence: "although ...".
        fix: what to change in the task.
        conjunct: a predicate that the goal should also ask for; None where the fix is another one.
    """

    kind: str
    why: str
    fix: str
    conjunct: AnyPred | None = None


@dataclass
class Track:
    """What happened to the things on the way to success."""

    lifted: set[str]
    grasped: set[str]
    deepest: float = 0.0
    fastest: float = 0.0
    robot_touched: set[str] | None = None

    @classmethod
    def fresh(cls) -> Track:
        """Nothing happened yet."""
        return cls(set(), set(), robot_touched=set())

    def note(self, spec: TaskSpec, world: World) -> None:
        """Take down one control step."""
        assert world.initial is not None
        names, touched = list(world.entities), self.robot_touched
        for name in subjects(spec):
            if geo.bottom(world, name) - world.initial.bottom[name] > 0.01:
                self.lifted.add(name)
            if ATOMS["grasped"].fn(world, name) >= 0:
                self.grasped.add(name)
            self.fastest = max(self.fastest, world.velocity(name)[0])
        if world.data.ncon:
            self.deepest = min(self.deepest, float(world.data.contact.dist.min()))
        for p, q in geo.owners(world):
            if ROBOT in (p, q) and max(p, q) >= 0 and touched is not None:
                touched.add(names[max(p, q)])


def subjects(spec: TaskSpec) -> tuple[str, ...]:
    """What the task moves: the free manipulands and tools."""
    return tuple(e.id for e in spec.entities if e.role in ("manipuland", "tool"))


def promises(spec: TaskSpec) -> Iterator[tuple[str, AnyPred]]:
    """What each skill of the task brings about: (what it acts on, predicate).

    Where the goal lets the choice free (exists, count), any destination that the skills name will do.
    """
    places = [(s, _PLACES[s.skill]) for s in spec.subgoals if s.skill in _PLACES]
    free = _chooses(spec.goal)
    for subgoal, relation in places:
        item, target = (str(a) for a in subgoal.args[-2:])
        targets = dict.fromkeys(str(s.args[-1]) for s, r in places if r == relation) if free else [target]
        parts = [atom(relation, item, t) for t in targets]
        yield item, any_of(*parts)
    for subgoal in spec.subgoals:
        bounds = {"open": (">=", 0.8), "close": ("<=", 0.05), "turn": ("==", subgoal.args[-1])}.get(subgoal.skill)
        if bounds is not None:
            item, joint = (str(a) for a in subgoal.args[:2])
            yield item, atom("joint", item, joint, *bounds)
        if subgoal.skill == "pick":
            yield str(subgoal.args[0]), atom("lifted", str(subgoal.args[0]), 0.03)


def judge(spec: TaskSpec, world: World, *, track: Track | None) -> tuple[Evidence, ...]:
    """Evidence against a state that counts as done.

    Args:
        spec: the task.
        world: the state in which it counts as done.
        track: how the state came about; None for a state that was put up by hand.
    """
    found = (_outcome, _held, _toppled, _shared)
    return tuple([*(e for rule in found for e in rule(spec, world)), *_path(spec, world, track)])


def fleeting(spec: TaskSpec, later: World) -> tuple[Evidence, ...]:
    """Evidence from the state a second after success, the robot having been at rest."""
    if margin(spec.goal, later) >= 0:
        return ()
    return (Evidence("MOMENTARY", "a second later it no longer holds", "raise hold.seconds to 0.5 or more"),)


def _outcome(spec: TaskSpec, world: World) -> Iterator[Evidence]:
    for item, promise in promises(spec):
        unit = "frac" if getattr(promise, "name", "") == "joint" else "m"
        if margin(promise, world) < -_SLACK[unit]:
            words = text(promise)
            yield Evidence("OUTCOME", f"'{item}' is not where its skill puts it: {words}", f"ask for {words}", promise)


def _held(spec: TaskSpec, world: World) -> Iterator[Evidence]:
    if any(s.skill == "pick" for s in spec.subgoals[-1:]):
        return
    for item in subjects(spec):
        if any(other == ROBOT for _, other in geo.contacts(world, item)):
            yield Evidence(
                "HELD", f"the robot still holds '{item}'", "set hold.released, or ask for it", atom("released", item)
            )


def _toppled(spec: TaskSpec, world: World) -> Iterator[Evidence]:
    assert world.initial is not None
    for subgoal in spec.subgoals:
        item = str(subgoal.args[0]) if subgoal.args else ""
        if subgoal.skill not in ("place_on", "stack", "push_to", "place_beside", "place_at"):
            continue
        up = np.asarray(world.entities[item].up)
        stood = float((world.initial.rot[item] @ up)[2]) > np.cos(_LYING)
        if stood and ATOMS["upright"].fn(world, item, angle=_LYING) < 0:
            yield Evidence("TOPPLED", f"'{item}' stood and now lies", "ask for it to stand", atom("upright", item))


def _shared(spec: TaskSpec, world: World) -> Iterator[Evidence]:
    """Skills that fill several places left one of them empty."""
    places = [(str(s.args[-2]), _PLACES[s.skill], str(s.args[-1])) for s in spec.subgoals if s.skill in _PLACES]
    targets = {t: r for _, r, t in places}
    if not _chooses(spec.goal) or len(targets) < 2:
        return
    for target, relation in targets.items():
        if all(ATOMS[relation].fn(world, item, target) < 0 for item, _, _ in places):
            yield Evidence("SHARED", f"'{target}' stays empty", "mark the choice as distinct")


def _path(spec: TaskSpec, world: World, track: Track | None) -> Iterator[Evidence]:
    if track is None:
        return
    for subgoal in spec.subgoals:
        if subgoal.skill in _RAISED and world.entities[str(subgoal.args[-1])].geoms:
            item = str(subgoal.args[0])
            if item not in track.lifted:
                why = f"'{item}' was never lifted" + ("" if item in track.grasped else " nor grasped")
                yield Evidence("NOT_LIFTED", why, "check what the goal says of heights")
    if track.deepest < PENETRATION:
        why = f"things were pressed {-1e3 * track.deepest:.1f} mm into each other"
        yield Evidence("PENETRATION", why, "forbid it, or stiffen the contact")
    if track.fastest > SPEED_SPIKE:
        yield Evidence("SPEED", f"something flew at {track.fastest:.1f} m/s", "forbid throwing")
    for name in sorted(track.robot_touched or ()):
        if spec.entity(name).role == "distractor":
            rule = atom("moved", name, 0.02)
            yield Evidence("FORBIDDEN_CONTACT", f"the robot pushed against '{name}'", f"never {text(rule)}")


def _chooses(pred: AnyPred) -> bool:
    return isinstance(pred, (Exists, Count)) or any(_chooses(part) for part in children(pred))
