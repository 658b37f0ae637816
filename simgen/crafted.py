"""Tasks of the library that the grammar does not make: one or more per method that a skill is not enough for.

``python -m simgen.crafted <folder>`` writes a folder with a ``task.json`` for each; ``simgen.experts.rl_train`` learns
what needs learning, ``simgen.library.admit`` proves them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from robostack.data.atomic import write_atomic
from robostack.task.predicate import AnyPred, Atom, Bound, ForAll, Select, atom, negation
from robostack.task.spec import Entity, Hold, Instruction, Physics, Placement, RobotRef, Subgoal, TaskSpec
from simgen.experts.drills import drill

Box = tuple[float, float, float, float]

_PEGS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan", "brown", "white")
_FALLEN_RAD, _LYING_RAD = 0.8, 1.2  # how far a thing leans that was knocked over; further where nothing may prop it up


def crafted() -> dict[str, TaskSpec]:
    """Name -> task."""
    return {name: make() for name, make in _TASKS.items()}


def write(folder: Path) -> None:
    """Write every task into a folder of its name."""
    for name, spec in crafted().items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name / "task.json", f"{spec.to_json()}\n".encode())


def _beside_shelf() -> TaskSpec:
    """The block stands where no hand fits from above: a tilted grasp is needed."""
    return _retold("beside_shelf", "panda", "put the red block on the green region")


def _around_wall() -> TaskSpec:
    """A wall higher than the arm can carry: the way leads around it."""
    return _retold("around_wall", "ur5e", "move the red block onto the green region")


def _retold(name: str, robot: str, text: str) -> TaskSpec:
    spec = drill(name, robot)
    return spec.model_copy(update={"family": "put_on", "instruction": Instruction(text=text)})


def _roll_ball() -> TaskSpec:
    """Too big to grasp, and it does not stay where the skill's straight push leaves it."""
    ball = _thing("orange_ball", "ball", (0.45, -0.16, 0.53, -0.10), size=(0.045,))
    zone = _thing("green_region", "zone", (0.46, 0.12, 0.54, 0.16), size=(0.12, 0.12), clearance=0.0)
    goal = atom("on", ball.id, zone.id)
    return _contact(
        "roll_ball",
        "push_to",
        "push the orange ball to the green region",
        (ball, zone),
        goal,
        _achieve(goal),
        never=(atom("lifted", ball.id, 0.03),),
        hold=Hold(seconds=0.5, max_lin=0.02, max_ang=0.5),
        horizon_s=14.0,
    )


def _topple_can() -> TaskSpec:
    can = _thing("red_can", "cylinder", (0.45, -0.1, 0.55, 0.1), size=(0.03, 0.12))
    goal = negation(atom("upright", can.id, angle=_LYING_RAD))
    return _contact("topple_can", "topple", "knock over the red can", (can,), goal, _achieve(goal), horizon_s=12.0)


def _knock_over_pegs() -> TaskSpec:
    """Ten of them: more than a search of a few seconds ahead gets done."""
    spots = [(x, y) for x in (0.42, 0.58) for y in (-0.22, -0.11, 0.0, 0.11, 0.22)]
    around = {"yaw": 0.7, "clearance": 0.03}
    pegs = tuple(
        _thing(f"{color}_peg", "peg", (x - 0.025, y - 0.02, x + 0.025, y + 0.02), size=(0.026, 0.09), **around)
        for color, (x, y) in zip(_PEGS, spots, strict=True)
    )
    standing = Atom(name="upright", args=("$p",), tol={"angle": _FALLEN_RAD})
    goal = ForAll(forall=Bound(var="p", among=Select(card="peg"), pred=negation(standing)))
    return _contact(
        "knock_over_every_peg",
        "topple",
        "knock over every peg",
        pegs,
        goal,
        _achieve(goal),
        horizon_s=20.0,
        physics=Physics(timestep=0.005),
    )


def _achieve(goal: AnyPred) -> Subgoal:
    return Subgoal(skill="achieve", args=(), goal=goal)


def _thing(
    name: str, card: str, box: Box, *, size: tuple[float, ...], yaw: float = 0.0, clearance: float = 0.02
) -> Entity:
    """An entity of the colour with which its name begins."""
    where = Placement(box=tuple(round(v, 3) for v in box), yaw=(-yaw, yaw), clearance=clearance)  # pyright: ignore[reportArgumentType]  # four numbers stay four
    role = "zone" if card == "zone" else "manipuland"
    return Entity(id=name, card=card, color=name.split("_")[0], role=role, placement=where, size=size)


def _contact(
    name: str, family: str, text: str, entities: tuple[Entity, ...], goal: AnyPred, subgoal: Subgoal, **others
) -> TaskSpec:
    """A task that contact decides, on the Panda."""
    return TaskSpec(
        name=name,
        family=family,
        instruction=Instruction(text=text),
        robot=RobotRef(name="panda"),
        entities=entities,
        goal=goal,
        subgoals=(subgoal,),
        **others,
    )


_TASKS: dict[str, Callable[[], TaskSpec]] = {
    "beside_shelf": _beside_shelf,
    "around_wall": _around_wall,
    "roll_ball": _roll_ball,
    "topple_can": _topple_can,
    "knock_over_pegs": _knock_over_pegs,
}

if __name__ == "__main__":
    write(Path(sys.argv[1]))
