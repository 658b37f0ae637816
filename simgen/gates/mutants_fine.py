"""Mutants just beyond a tolerance, and joints half way: what coarse ones do not see."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.predicate import Atom
from simgen.gates.bench import Bench, Operator, Played, edge, spot
from simgen.gates.constructors import move_joint, subjects_of
from simgen.gates.intents import Intent
from simgen.gates.stage import Stage
from simgen.gates.witness import holds

BEYOND = 1.5  # times the tolerance that the atom has by itself
_JOINT_TOL = 0.07  # of the range


def _joint_half(bench: Bench) -> Iterator[Played]:
    """A joint half way to where it should be."""
    half = {">=": lambda v: v / 2, "<=": lambda v: (1 + v) / 2, "==": _quarter_off}
    if any(s.skill in ("open", "close", "press") for s in bench.spec.subgoals):  # these mean all the way
        half |= {">=": lambda v: 0.5, "<=": lambda v: 0.5}
    yield from _joints(bench, "JOINT_HALF", half)


def _joint_other_end(bench: Bench) -> Iterator[Played]:
    """A joint at the opposite end."""
    yield from _joints(bench, "SWAP_DST", {">=": lambda v: 0.0, "<=": lambda v: 1.0, "==": lambda v: float(v < 0.5)})


def _joint_eps(bench: Bench) -> Iterator[Played]:
    """A joint that stopped a little too early, or went a little too far."""
    step = BEYOND * _JOINT_TOL
    yield from _joints(
        bench, "EPS", {">=": lambda v: v - step, "<=": lambda v: v + step, "==": lambda v: _quarter_off(v, step)}
    )


def _quarter_off(value: float, step: float = 0.25) -> float:
    return value + step if value + step <= 1.0 else value - step


def _joints(bench: Bench, operator: str, amount) -> Iterator[Played]:
    for intent in bench.intents:
        if intent.kind != "joint" or intent.wish is None:
            continue
        o, name, cmp, value = (str(a) for a in intent.wish.atom.args)
        fraction = min(1.0, max(0.0, amount[cmp](float(value))))
        states = [*bench.witness.stages, bench.witness.state]
        first = intent.stage % len(states)
        for number in range(first, len(states)):  # where it stayed as it was put, it did not get there later either
            bench.stage.load(states[number])
            if number == first or holds(bench.stage, intent.wish):
                move_joint(bench.stage, o, name, fraction)
                states[number] = bench.stage.save()
        yield Played(operator, f"{o}.{name}", tuple(states[:-1]), states[-1])


def _eps(bench: Bench) -> Iterator[Played]:
    """1.5 tolerances outside, one term of the atom at a time."""
    for intent in bench.final:
        atom = intent.wish.atom if intent.wish else None
        edit = _EDITS.get(atom.name) if atom is not None else None
        if atom is None or edit is None:
            continue
        for what in edit(bench, intent, atom):
            yield bench.made("EPS", f"{atom.name} {intent.subject}: {what}")


def _tolerance(atom: Atom, name: str) -> float:
    """The atom's own tolerance, or up to twice that where the task asks for a wider one."""
    own = ATOMS[atom.name].tol[name]
    return min(2.0 * own, max(own, atom.tol.get(name, own)))


def _eps_on(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    a, b = intent.subject, str(intent.reference)
    stage = bench.load()
    if not stage.free(a):
        return
    pos, _ = stage.pose(a)
    stage.put(a, pos + [0.0, 0.0, BEYOND * _tolerance(atom, "z")])
    yield "too high"
    if b != "table" and bench.alone(intent):
        stage = bench.load()
        along, reach = edge(stage, b, "rest")
        outside = spot(stage, b, "rest")[:2] + along * (reach + BEYOND * _tolerance(atom, "inset"))
        stage.put(a, np.array([*outside, pos[2]]))
        yield "over the edge"


def _eps_in(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    a, b = intent.subject, str(intent.reference)
    stage = bench.load()
    interior = stage.world.entities[b].interior
    if interior is None or not stage.free(a):
        return
    pos, _ = stage.pose(a)
    top = spot(stage, b, "inside")[2] + 2 * interior.half[2]
    middle = geo.com(stage.world, a)[2] - pos[2]
    stage.put(a, np.array([pos[0], pos[1], top - middle + 0.005]))
    del atom  # Unused: being in has no tolerance that a person would name.
    yield "above the rim"


def _eps_near(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    a, b, d = str(atom.args[0]), str(atom.args[1]), float(str(atom.args[2]))
    stage = bench.load()
    if b == "table" or intent.subject != a:
        return
    moved, anchor = (a, b) if stage.free(a) else (b, a)
    if not stage.free(moved):
        return
    away = stage.pose(moved)[0] - stage.pose(anchor)[0]
    away[2] = 0.0
    away /= max(1e-6, float(np.linalg.norm(away)))
    missing = BEYOND * d + 0.01 - geo.surface_distance(stage.world, a, b)
    far = atom.name == "far"
    if far:  # as near as half of what is asked for
        missing = 0.5 * d - geo.surface_distance(stage.world, a, b)
    stage.put(moved, stage.pose(moved)[0] + away * missing)
    yield "too near" if far else "too far"


def _eps_beside(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    a, b = str(atom.args[0]), str(atom.args[1])
    stage = bench.load()
    if not stage.free(a) or intent.subject != a:
        return
    sideways = atom.name in ("left_of", "right_of")
    sign = 1.0 if atom.name in ("left_of", "front_of") else -1.0
    gap, lateral = _tolerance(atom, "gap"), _tolerance(atom, "lateral")
    for what, along, across in (("level", sign * gap / BEYOND, 0.0), ("too far aside", None, BEYOND * lateral)):
        stage = bench.load()
        pos, centre = stage.pose(a)[0], np.asarray(geo.com(stage.world, b))
        own = pos - np.asarray(geo.com(stage.world, a))
        axis = 1 if sideways else 0
        if along is None:
            pos[1 - axis] = centre[1 - axis] + across + own[1 - axis]
        else:
            pos[axis] = centre[axis] + along + own[axis]
        stage.put(a, pos)
        if not bench.offered(intent):
            yield what


def _eps_pose(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    stage = bench.load()
    target = np.asarray(atom.args[1], float)[:3]
    stage.put(intent.subject, target + [BEYOND * _tolerance(atom, "pos"), 0.0, 0.0])
    yield "aside"


def _eps_lifted(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    stage = bench.load()
    pos, _ = stage.pose(intent.subject)
    low = bench.start_poses[intent.subject][0][2] + float(str(atom.args[1])) / BEYOND
    stage.put(intent.subject, np.array([pos[0], pos[1], low]))
    yield "too low"


def _eps_aligned(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    items = subjects_of(atom)
    stage = bench.load()
    if len(items) < 3 or intent.subject != items[0]:
        return
    spots = np.stack([stage.pose(i)[0][:2] for i in items])
    along = np.linalg.svd(spots - spots.mean(0))[2][0]
    order = sorted(items, key=lambda i: float(stage.pose(i)[0][:2] @ along))
    middle = next((i for i in order[1:-1] if stage.free(i)), None)
    if middle is None:
        return
    # One of three points d off the line of the others lies d / 2 off the line that fits all best.
    shift = 2.0 * BEYOND * _tolerance(atom, "dist") + _tolerance(atom, "dist")
    stage.put(middle, stage.pose(middle)[0] + shift * np.array([-along[1], along[0], 0.0]))
    yield f"{middle} out of line"


def _eps_sorted(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    items, direction = subjects_of(atom), np.asarray(atom.args[1], float)
    stage = bench.load()
    if intent.subject != items[0] or not stage.free(items[1]):
        return
    along = direction / math.hypot(*direction)
    step = _tolerance(atom, "gap") / BEYOND
    now = float((stage.pose(items[1])[0] - stage.pose(items[0])[0])[:2] @ along)
    shift = (step - now) * along
    stage.put(items[1], stage.pose(items[1])[0] + [*shift, 0.0])
    yield "level with its neighbour"


def _eps_spread(bench: Bench, intent: Intent, atom: Atom) -> Iterator[str]:
    items, d = subjects_of(atom), float(str(atom.args[1]))
    stage = bench.load()
    if intent.subject != items[0] or not stage.free(items[0]):
        return
    _apart(stage, items, BEYOND * d + 0.05)
    yield f"{items[0]} apart"


def _apart(stage: Stage, items: tuple[str, ...], distance: float) -> None:
    rest = np.mean([stage.pose(i)[0][:2] for i in items[1:]], axis=0)
    pos = stage.pose(items[0])[0]
    away = pos[:2] - rest
    away /= max(1e-6, float(np.linalg.norm(away)))
    farthest = max(float(np.linalg.norm(stage.pose(i)[0][:2] - rest)) for i in items[1:])
    alone = rest + away * (farthest + distance + sum(stage.radius(i) for i in items))
    stage.put(items[0], np.array([*alone, pos[2]]))


_EDITS = {
    "on": _eps_on,
    "in": _eps_in,
    "near": _eps_near,
    "far": _eps_near,
    "left_of": _eps_beside,
    "right_of": _eps_beside,
    "front_of": _eps_beside,
    "behind": _eps_beside,
    "pose_at": _eps_pose,
    "lifted": _eps_lifted,
    "aligned": _eps_aligned,
    "sorted": _eps_sorted,
    "spread": _eps_spread,
}
FINE: tuple[Operator, ...] = (_joint_half, _joint_other_end, _joint_eps, _eps)
