"""Metamorphic tests (Chen et al. 1998) of a predicate: what does not change the task must not change the verdict.

The scene moves on the table, is seen in a mirror, gets other names and colours, equal objects change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robostack.sim.objects import COLORS
from robostack.task.predicate import AnyPred
from robostack.task.spec import Subgoal, TaskSpec
from simgen.gates.bench import Bench, Played
from simgen.gates.candidate import Candidate
from simgen.gates.stage import Stage

SHIFT = np.array([0.03, -0.04, 0.0])  # 5 cm
_MOST = 8  # states that are judged besides the witness
_UNFIT = ("HELD", "MOVING", "PASSING", "EXPLOIT")  # these depend on the robot, which stays, or on velocities
_MIRROR = {"left_of": "right_of", "right_of": "left_of"}

Move = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def violations(candidate: Candidate, bench: Bench, mutants: list[Played]) -> Iterator[str]:
    """What changed its verdict, one line each; nothing when the predicate is sound."""
    if any(i.kind == "held" for i in bench.intents):
        return  # what the robot holds cannot be moved without it
    witness = bench.witness
    states = [Played("WITNESS", "", witness.stages, witness.state)]
    states += [Played("RESET", "", (), bench.start)]
    states += [m for m in mutants if m.operator not in _UNFIT][:_MOST]
    bench.stage.restart(witness.seed)
    verdicts = [bench.stage.holds_frozen(s.stages, s.state) for s in states]
    for name, judge in (
        ("translated", _translated),
        ("translated the other way", _translated_back),
        ("mirrored", _mirrored),
        ("equal objects exchanged", _exchanged),
        ("renamed and recoloured", _renamed),
    ):
        bench.stage.restart(witness.seed)
        for state, before, after in zip(states, verdicts, judge(candidate, bench, states), strict=False):
            if before != after:
                yield f"{name}: {state.name} was {before}, then {after}"
    bench.stage.restart(witness.seed)


def _translated(candidate: Candidate, bench: Bench, states: list[Played]) -> Iterator[bool]:
    yield from _shifted(candidate, bench, states, SHIFT)


def _translated_back(candidate: Candidate, bench: Bench, states: list[Played]) -> Iterator[bool]:
    yield from _shifted(candidate, bench, states, -SHIFT)


def _shifted(candidate: Candidate, bench: Bench, states: list[Played], shift: np.ndarray) -> Iterator[bool]:
    task = with_predicates(candidate.spec, lambda p: _moved_poses(p, lambda pose: [*(pose[:3] + shift), *pose[3:]]))
    yield from _edited(bench, states, task, _everything(bench.stage, lambda pos, rot: (pos + shift, rot)))


def _mirrored(candidate: Candidate, bench: Bench, states: list[Played]) -> Iterator[bool]:
    if any(b.symmetry == "none" and b.geoms for b in bench.stage.world.entities.values()):
        return  # its mirror image is another object
    flip = np.diag([1.0, -1.0, 1.0])
    task = with_predicates(candidate.spec, _mirror_pred)
    yield from _edited(bench, states, task, _everything(bench.stage, lambda pos, rot: (flip @ pos, flip @ rot @ flip)))


def _exchanged(candidate: Candidate, bench: Bench, states: list[Played]) -> Iterator[bool]:
    names, world = list(bench.stage.world.entities), bench.stage.world
    spec = candidate.spec
    pair = next(
        (
            (a, b)
            for k, a in enumerate(names)
            for b in names[k + 1 :]
            if world.entities[a].card == world.entities[b].card
            and spec.entity(a).size == spec.entity(b).size
            and bench.stage.free(a)
            and bench.stage.free(b)
            and bench.same(a, b)
        ),
        None,
    )
    if pair is None:
        return
    a, b = pair
    yield from _edited(bench, states, None, lambda: _swap_poses(bench.stage, a, b))


def _swap_poses(stage: Stage, a: str, b: str) -> None:
    first, second = stage.pose(a), stage.pose(b)
    stage.put(a, *second)
    stage.put(b, *first)


def _renamed(candidate: Candidate, bench: Bench, states: list[Played]) -> Iterator[bool]:
    spec = candidate.spec
    names = sorted((e.id for e in spec.entities), reverse=True)  # so that the alphabet runs the other way
    ids = {name: f"thing_{k:02d}" for k, name in enumerate(names)}
    palette = sorted(COLORS)
    colors = {c: palette[(k + 5) % len(palette)] for k, c in enumerate(palette)}
    other = Stage(candidate.build(_other_names(spec, ids, colors)))
    other.load(bench.start)
    other.start, other.world.initial = bench.start, other.scene.snapshot()
    for state in states:
        yield other.holds_frozen(state.stages, state.state)


# Scenes.


def _edited(bench: Bench, states: list[Played], task: TaskSpec | None, edit: Callable[[], None]) -> Iterator[bool]:
    """Verdicts when the states, and the one at reset, are edited."""
    stage = bench.stage
    stage.load(bench.start)
    edit()
    stage.refresh()
    stage.start, stage.world.initial = stage.save(), stage.scene.snapshot()
    for state in states:
        yield _judged(stage, state, edit, task)


def _everything(stage: Stage, move: Move) -> Callable[[], None]:
    def edit() -> None:
        for name in stage.world.entities:
            stage.put(name, *move(*stage.pose(name)))

    return edit


def _judged(stage: Stage, state: Played, edit: Callable[[], None], task: TaskSpec | None) -> bool:
    edited = []
    for one in (*state.stages, state.state):
        stage.load(one)
        edit()
        stage.refresh()
        edited.append(stage.save())
    return stage.holds_frozen(tuple(edited[:-1]), edited[-1], task=task)


# Predicates.


def with_predicates(spec: TaskSpec, edit: Callable[[dict], dict]) -> TaskSpec:
    """The same task with every atom edited as JSON, and without subgoals."""

    def all_atoms(value):
        if isinstance(value, dict):
            value = edit(value) if "args" in value else value
            return {k: all_atoms(v) for k, v in value.items()}
        return [all_atoms(v) for v in value] if isinstance(value, list) else value

    def pred(node: AnyPred):
        return all_atoms(node.model_dump(mode="json", by_alias=True))

    values = spec.model_dump(mode="json", by_alias=True)
    values["goal"], values["init"] = pred(spec.goal), [pred(p) for p in spec.init]
    values["never"], values["subgoals"] = [pred(p) for p in spec.never], []
    return TaskSpec.model_validate(values)


def _moved_poses(atom: dict, move: Callable[[np.ndarray], list]) -> dict:
    if atom["name"] != "pose_at":
        return atom
    return {**atom, "args": [atom["args"][0], [float(v) for v in move(np.asarray(atom["args"][1], float))]]}


def _mirror_pred(atom: dict) -> dict:
    name = atom["name"]
    if name == "sorted":
        dx, dy = atom["args"][1]
        return {**atom, "args": [atom["args"][0], [dx, -dy]]}
    if name == "pose_at":  # the mirror image of a rotation by q is one by (w, -x, y, -z)
        return _moved_poses(atom, lambda p: [p[0], -p[1], p[2], p[3], -p[4], p[5], -p[6]])
    return {**atom, "name": _MIRROR.get(name, name)}


def _other_names(spec: TaskSpec, ids: dict[str, str], colors: dict[str, str]) -> TaskSpec:
    def pred(value):
        if isinstance(value, dict):
            out = {k: pred(v) for k, v in value.items()}
            if "args" in value:
                whole = value["args"] if value["name"] != "joint" else value["args"][:1]
                out["args"] = [name(a) for a in whole] + value["args"][len(whole) :]
            if "among" in value:
                among = value["among"]
                out["among"] = name(among) if isinstance(among, list) else {**among, "color": color(among["color"])}
            return out
        return [pred(v) for v in value] if isinstance(value, list) else value

    def name(value):
        if isinstance(value, list):
            return [name(v) for v in value]
        return ids.get(value, value) if isinstance(value, str) else value

    def color(value):
        return colors.get(value, value)

    values = spec.model_dump(mode="json", by_alias=True)
    for entity in values["entities"]:
        entity["id"], entity["color"] = ids[entity["id"]], color(entity["color"])
        entity["placement"]["on"] = name(entity["placement"]["on"])
    for key in ("goal", "init", "never"):
        values[key] = pred(values[key])
    values["subgoals"] = list[Subgoal]()
    return TaskSpec.model_validate(values)
