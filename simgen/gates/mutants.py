"""Mutants: states next to the witness in which the task must not count as done.

The operators are those of mutation testing (DeMillo et al. 1978) carried over to predicates: each breaks one thing
that the instruction asks for. What it breaks follows from the meaning of the atoms and skills, never from the
tolerances that the goal happens to have; those are what is being tested. Mutants that the goal's symmetry allows are
left out (``Bench.same``). All are judged with physics standing still, so that none can fall back into place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from simgen.gates.bench import Bench, Operator, Played, edge, spot
from simgen.gates.candidate import Candidate
from simgen.gates.constructors import move_joint, subjects_of
from simgen.gates.grip import touch
from simgen.gates.intents import PLACES, Intent, latched
from simgen.gates.mutants_fine import FINE
from simgen.gates.stage import Stage
from simgen.gates.wishes import Wish
from simgen.gates.witness import Witness, holds

OUT_M = 0.02  # how far outside an object is set
HOVER_M = 0.05
SPEED = 0.2  # [m/s]


def mutants_of(candidate: Candidate, witness: Witness) -> list[Played]:
    """All applicable mutants of a witness, and the exploits that an attack left behind."""
    bench = Bench(candidate, witness)
    made = [mutant for operator in (*COARSE, *FINE) for mutant in operator(bench)]
    return made + [Played("EXPLOIT", e.name, witness.stages, e.state) for e in candidate.exploits]


def _swap_obj(bench: Bench) -> Iterator[Played]:
    """Another object of the same card is where the right one should be."""
    world, shapes = bench.stage.world, bench.stage.scene.shapes
    for intent in bench.places():
        a = intent.subject
        for d, other in world.entities.items():
            same_place = any(i.subject == d and i.reference == intent.reference for i in bench.final)
            if d == a or other.dof < 0 or other.card != world.entities[a].card or same_place or bench.same(a, d):
                continue
            stage = bench.load()
            if _inside_or_on(stage, d, intent):
                continue
            (pos, rot), (other_pos, other_rot) = stage.pose(a), stage.pose(d)
            lift = np.array([0.0, 0.0, shapes[d].rest_z - shapes[a].rest_z])
            stage.put(a, other_pos - lift, other_rot)
            stage.put(d, pos + lift, rot)
            yield bench.made("SWAP_OBJ", f"{a}, {d}")
    yield from _swap_order(bench)


def _swap_order(bench: Bench) -> Iterator[Played]:
    """Two things of a row or of a direction exchange their places."""
    seen = set()
    for intent in bench.final:
        wish = intent.wish
        if wish is None or wish.atom.name not in ("sorted", "left_of", "right_of", "front_of", "behind"):
            continue
        subjects = subjects_of(wish.atom)
        a, b = (subjects[0], subjects[1]) if len(subjects) > 1 else (intent.subject, str(intent.reference))
        stage = bench.load()
        if (a, b) in seen or bench.same(a, b) or not (stage.free(a) and stage.free(b)):
            continue
        seen.add((a, b))
        (pos_a, _), (pos_b, _) = stage.pose(a), stage.pose(b)
        stage.put(a, np.array([*pos_b[:2], pos_a[2]]))
        stage.put(b, np.array([*pos_a[:2], pos_b[2]]))
        yield bench.made("SWAP_OBJ", f"{a}, {b}")


def _swap_dst(bench: Bench) -> Iterator[Played]:
    """The right object at the wrong place of the same kind, or on the opposite side."""
    for intent in bench.places():
        a, b = intent.subject, intent.reference
        for r, other in bench.stage.world.entities.items():
            fits = other.surface is not None if intent.kind == "rest" else other.interior is not None
            chosen = intent.wish.choices if intent.wish else ()
            if r in (a, b) or not fits or r in chosen or (b != "table" and bench.same(str(b), r)):
                continue
            if b == "table" or not _comparable(bench, str(b), r) or _carried_by(bench, r, (a, str(b))):
                continue
            stage = bench.load()
            stage.put(a, spot(stage, r, intent.kind) + [0.0, 0.0, stage.rest_z(a)])
            yield bench.made("SWAP_DST", f"{a}, {r}")
    for intent in bench.final:
        atom = intent.wish.atom if intent.wish else None
        if atom is not None and atom.name in ("left_of", "right_of", "front_of", "behind"):
            stage = bench.load()
            a, b = (str(x) for x in atom.args)
            moved, anchor = (a, b) if stage.free(a) else (b, a)
            if stage.free(moved):
                pos = stage.pose(moved)[0]
                pos[:2] = 2 * stage.pose(anchor)[0][:2] - pos[:2]
                stage.put(moved, pos)
                if not bench.offered(intent):
                    yield bench.made("SWAP_DST", f"{moved} opposite of {anchor}")


def _offset_xy(bench: Bench) -> Iterator[Played]:
    """At the right height, but 2 cm outside."""
    for intent in bench.places():
        b = intent.reference
        if b is None or b == "table" or not bench.alone(intent):
            continue
        stage = bench.load()
        along, reach = edge(stage, b, intent.kind)
        pos, _ = stage.pose(intent.subject)
        pos[:2] = spot(stage, b, intent.kind)[:2] + along * (reach + OUT_M)
        stage.put(intent.subject, pos)
        yield bench.made("OFFSET_XY", intent.subject)


def _hover(bench: Bench) -> Iterator[Played]:
    """In the air over its place."""
    for intent in bench.places():
        stage = bench.load()
        stage.put(intent.subject, stage.pose(intent.subject)[0] + [0.0, 0.0, HOVER_M])
        yield bench.made("HOVER", intent.subject)


def _beside(bench: Bench) -> Iterator[Played]:
    """On the table, touching the outside of what it should be on or in."""
    for intent in bench.places():
        b = intent.reference
        if b is None or b == "table" or not bench.stage.world.entities[b].geoms or not bench.alone(intent):
            continue
        stage, a = bench.load(), intent.subject
        pos, rot = stage.pose(b)
        shape, own = stage.scene.shapes[b], stage.scene.shapes[a]
        yaw = float(np.arctan2(rot[1, 0], rot[0, 0]))
        along = np.array([np.cos(yaw), np.sin(yaw)])
        touching = pos[:2] + along * (shape.footprint[0] + own.footprint[0])
        stage.put(a, np.array([*touching, stage.rest_z(a)]), stage.upright(yaw))
        yield bench.made("BESIDE", f"{a}, {b}")


def _under(bench: Bench) -> Iterator[Played]:
    """At the right spot seen from above, but down on the table."""
    for intent in bench.places():
        if intent.reference == "table" or not bench.alone(intent):
            continue
        stage, a = bench.load(), intent.subject
        pos, _ = stage.pose(a)
        deep = 0.01 if intent.kind == "rest" else 2.0 * stage.world.entities[a].half[2]
        if pos[2] - stage.rest_z(a) > deep:
            stage.put(a, np.array([pos[0], pos[1], stage.rest_z(a)]))
            yield bench.made("UNDER", a)


def _tilt(bench: Bench) -> Iterator[Played]:
    """Leaning by 45 degrees."""
    for intent in bench.final:
        atom = intent.wish.atom if intent.wish else None
        if atom is not None and atom.name == "pose_at":
            yield from _tilted(bench, intent.subject)
        if intent.kind == "fallen":  # leaning is not lying
            yield from _tilted(bench, intent.subject, bench.start_poses[intent.subject])
    for wish in bench.witness.plan.final:
        if wish.positive and wish.atom.name == "upright":
            yield from _tilted(bench, str(wish.atom.args[0]))


def _tilted(bench: Bench, a: str, pose: tuple[np.ndarray, np.ndarray] | None = None) -> Iterator[Played]:
    stage = bench.load()
    if stage.world.entities[a].symmetry == "sphere" or not stage.free(a):
        return
    pos, rot = stage.pose(a) if pose is None else pose
    c = np.sqrt(0.5)
    stage.put(a, pos, np.array([[1, 0, 0], [0, c, -c], [0, c, c]]) @ rot)
    yield bench.made("TILT", a)


def _held(bench: Bench) -> Iterator[Played]:
    """Where it should be, but still between the fingers."""
    held = {i.subject for i in bench.final if i.kind == "held"}
    if held:
        return
    joints = [i.subject for i in bench.final if i.kind == "joint"]
    for subject in [*_moved(bench)[:3], *dict.fromkeys(joints)]:
        stage = bench.load()
        if touch(stage, subject):
            yield bench.made("HELD", subject)


def _moving(bench: Bench) -> Iterator[Played]:
    """Where it should be, but passing through at 0.2 m/s."""
    for subject in _moved(bench)[:3]:
        stage = bench.load()
        stage.push(subject, (SPEED, 0.0, 0.0))
        yield bench.made("MOVING", subject)
    for intent in bench.final:
        if intent.kind == "joint" and intent.wish is not None:
            stage = bench.load()
            joint = stage.world.entities[intent.subject].joints[str(intent.wish.atom.args[1])]
            stage.data.qvel[joint.dof] = SPEED * (joint.open - joint.closed)
            yield bench.made("MOVING", intent.subject)


def _moved(bench: Bench) -> list[str]:
    """Manipulands that the final state speaks of."""
    manipulands = {e.id for e in bench.spec.manipulands()}
    subjects = dict.fromkeys(i.subject for i in bench.final)
    return [s for s in subjects if s in manipulands and bench.stage.free(s)]


def _missing_one(bench: Bench) -> Iterator[Played]:
    """One of several still where it was; or a stage of a sequence left out."""
    places = bench.places()
    if len(places) > 1:
        for intent in places:
            if bench.alone(intent) and not _already_there(bench, intent):
                stage = bench.load()
                stage.put(intent.subject, *bench.start_poses[intent.subject])
                yield bench.made("MISSING_1", intent.subject)
    for intent in bench.final:
        if intent.kind == "fallen":
            stage = bench.load()
            stage.put(intent.subject, *bench.start_poses[intent.subject])
            yield bench.made("MISSING_1", intent.subject)
    yield from _out_of_order(bench)


def _out_of_order(bench: Bench) -> Iterator[Played]:
    """What a sequence wants first left out, or done after what comes next."""
    plan, earlier, final = bench.witness.plan, bench.witness.stages, bench.witness.state
    before: set[str] = set()
    for number, (wishes, after) in enumerate(itertools.pairwise((*plan.stages, plan.final))):
        later = (*earlier[number + 1 :], final)
        if not any(_all_hold(bench.stage, state, wishes) for state in later):
            yield Played("MISSING_1", f"stage {number}", earlier[:number] + earlier[number + 1 :], final)
        subjects = _brought_about(wishes)
        both_last = _all_hold(bench.stage, final, tuple(w for w in (*wishes, *after) if w.positive))
        if both_last and subjects - before and _brought_about(after) - subjects:
            bench.stage.load(later[0])
            for subject in sorted(subjects - before):
                _take_back(bench, subject)
            bench.stage.refresh()
            states = (*earlier[:number], bench.stage.save(), *earlier[number + 1 :])
            yield Played("ORDER", f"stage {number} last", states, final)
        before |= subjects


def _brought_about(wishes: tuple[Wish, ...]) -> set[str]:
    return {s for wish in wishes if wish.positive for s in subjects_of(wish.atom)}


def _take_back(bench: Bench, name: str) -> None:
    """A thing where it was at the start; of furniture, its joints."""
    if bench.stage.free(name):
        bench.stage.put(name, *bench.start_poses[name])
    for joint in bench.stage.world.entities[name].joints:
        move_joint(bench.stage, name, joint, bench.start_fractions[name, joint])


def _all_hold(stage: Stage, state: np.ndarray, wishes: tuple[Wish, ...]) -> bool:
    stage.load(state)
    return all(holds(stage, wish) for wish in wishes)


def _already_there(bench: Bench, intent: Intent) -> bool:
    """Whether the subject started where it is wanted."""
    started = bench.spec.entity(intent.subject).placement.on
    if intent.reference in ("table", None) or started == intent.reference:
        return started == (intent.reference or "table")
    stage = bench.load()
    away = bench.start_poses[intent.subject][0][:2] - spot(stage, str(intent.reference), intent.kind)[:2]
    return float(np.linalg.norm(away)) < edge(stage, str(intent.reference), intent.kind)[1]


def _undone(bench: Bench) -> Iterator[Played]:
    """Done, and then taken back: what was true once is not true now."""
    done = (*bench.witness.stages, bench.witness.state)
    if bench.final and not _all_hold(bench.stage, bench.start, bench.witness.plan.final):
        yield Played("UNDONE", "everything", done, bench.start)
    for name in sorted(latched(bench.spec.goal)):
        if bench.stage.free(name):
            stage = bench.load()
            stage.put(name, *bench.start_poses[name])
            stage.refresh()
            yield Played("UNDONE", name, done, stage.save())


def _passing(bench: Bench) -> Iterator[Played]:
    """True for one control step only."""
    yield Played("PASSING", "goal", bench.witness.stages, bench.witness.state, passing=True)


def _dup(bench: Bench) -> Iterator[Played]:
    """Two things at the place of one."""
    places = bench.places()
    for first, second in zip(places, places[1:], strict=False):
        chosen = second.wish.choices if second.wish else ()
        if first.reference == second.reference or first.reference in chosen or not bench.alone(second):
            continue
        if bench.same(str(first.reference), str(second.reference)) and second.subject == first.reference:
            continue
        stage = bench.load()
        pos, rot = stage.pose(first.subject)
        stage.put(second.subject, pos + [0.008, 0.0, stage.rest_z(second.subject) - stage.rest_z(first.subject)], rot)
        yield bench.made("DUP", f"{second.subject} at {first.subject}")


def _comparable(bench: Bench, b: str, r: str) -> bool:
    """Another place of its kind: zones for zones, things for things."""
    world = bench.stage.world
    return bool(world.entities[b].geoms) == bool(world.entities[r].geoms)


def _carried_by(bench: Bench, r: str, names: tuple[str, ...]) -> bool:
    """Whether ``r`` rests on or in one of the named entities, directly or not."""
    carriers = {i.subject: i.reference for i in bench.final if i.kind in PLACES}
    while r in carriers:
        r = str(carriers[r])
        if r in names:
            return True
    return False


def _inside_or_on(stage: Stage, d: str, intent: Intent) -> bool:
    """Whether another object is at the intent's place as well."""
    if intent.reference is None or intent.reference == "table":
        return intent.reference == "table"
    centre, along = spot(stage, intent.reference, intent.kind), edge(stage, intent.reference, intent.kind)[1]
    away = stage.world.pos(d) - centre
    return float(np.linalg.norm(away[:2])) < along * 1.5 and abs(float(away[2]) - stage.rest_z(d)) < 0.02


COARSE: tuple[Operator, ...] = (
    _swap_obj,
    _swap_dst,
    _offset_xy,
    _hover,
    _beside,
    _under,
    _tilt,
    _held,
    _moving,
    _missing_one,
    _undone,
    _passing,
    _dup,
)
