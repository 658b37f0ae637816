"""What planted faults are made of: sound tasks, environments that lie, judges and demonstrations not to be trusted."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from gate_specs import (
    BLUE,
    BOWL,
    GREEN,
    RED,
    atom,
    opened,
    spec,
    sub,
    thing,
)

from robostack.sim.env import TaskEnv
from robostack.sim.scene import Scene
from robostack.task.atoms import ATOMS
from robostack.task.predicate import Atom
from robostack.task.spec import TaskSpec
from simgen.gates import g8_alignment
from simgen.gates.candidate import Candidate, Mutant
from simgen.gates.codes import Code

Prepare = Callable[[Candidate], None]


@dataclass(frozen=True)
class Fault:
    """A broken task.

    Attributes:
        make: the spec.
        build: makes its environment, where the fault is not in the spec.
        before: run on the candidate just before the gate that must catch it.
        patched: a context in which the gate runs.
    """

    code: Code
    make: Callable[[], TaskSpec]
    build: Callable[[TaskSpec], TaskEnv] = TaskEnv
    before: Prepare | None = None
    patched: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def stack(**more) -> TaskSpec:
    """A sound task: one block on another."""
    goal = more.pop("goal", atom("on", "red_block", "blue_block"))
    entities = more.pop("entities", [RED, BLUE])
    text = more.pop("text", "stack the red block on the blue block")
    rest = atom("on", "red_block", "blue_block")
    subgoals = more.pop("subgoals", [sub("stack", "red_block", "blue_block", goal=rest)])
    return spec(text, entities, goal, subgoals, **more)


def put_in(**more) -> TaskSpec:
    """A sound task: a block into a bowl."""
    goal = more.pop("goal", atom("in", "red_block", "bowl"))
    subgoals = [sub("place_in", "red_block", "bowl", goal=atom("in", "red_block", "bowl"))]
    text = more.pop("text", "put the red block in the blue bowl")
    return spec(text, more.pop("entities", [RED, BOWL]), goal, more.pop("subgoals", subgoals), **more)


def changed(**values) -> TaskSpec:
    """The stack with fields replaced unseen by the validator, as a careless program would."""
    return stack().model_copy(update=values)


def red(**values) -> dict:
    return {**RED, **values}


def at(box: list[float]) -> dict:
    return {"box": box, "yaw": [0.0, 0.0], "clearance": 0.01}


def nested(levels: int) -> dict:
    goal = atom("on", "red_block", "blue_block")
    for _ in range(levels):
        goal = {"and": [goal]}
    return goal


def zones() -> list[dict]:
    return [
        thing(f"{c}_region", "zone", c, "zone", placement=at([x, -0.05, x, 0.05]))
        for c, x in (("red", 0.38), ("green", 0.6))
    ]


def crowd() -> list[dict]:
    return [RED, BLUE, *({**GREEN, "id": f"block_{k}", "role": "distractor"} for k in range(15))]


# Environments that lie.


def tampered(edit: Callable[[Scene], None]) -> Callable[[TaskSpec], TaskEnv]:
    """An environment whose model or placement is edited after it was compiled."""

    def build(task: TaskSpec) -> TaskEnv:
        env = TaskEnv(task)
        edit(env.scene)
        env.scene._nominal = {name: getattr(env.scene.model, name).copy() for name in env.scene._nominal}
        return env

    return build


def stiff_spring(scene: Scene) -> None:
    """A return spring that no time step of MuJoCo can follow."""
    joint = scene.world.entities["button"].joints["press"]
    scene.model.jnt_stiffness[scene.model.dof_jntid[joint.dof]] = 1e7
    scene.model.qpos_spring[joint.qpos] = -0.01


@contextlib.contextmanager
def log_aside() -> Iterator[None]:
    """MuJoCo writes of its warnings to a file of the working directory."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


def few_starts(scene: Scene) -> None:
    """A cache of start states that holds eight, as many as are looked at before anyone acts."""
    real = scene.reset
    scene.reset = lambda seed: real(seed % 16)  # pyright: ignore[reportAttributeAccessIssue]


def nine_seeds(candidate: Candidate) -> None:
    candidate.seeds = 9


def inertia(value: float) -> Callable[[Scene], None]:
    def edit(scene: Scene) -> None:
        scene.model.body_inertia[scene.model.body("red_block").id] = value

    return edit


def floats(scene: Scene) -> None:
    scene.model.body_gravcomp[scene.model.body("red_block").id] = 1.0
    scene.shapes["red_block"] = replace(scene.shapes["red_block"], rest_z=0.15)


def lying_footprint(scene: Scene) -> None:
    for name in ("red_block", "blue_block"):
        scene.shapes[name] = replace(scene.shapes[name], footprint=(1e-4, 1e-4))


def one_seed(scene: Scene) -> None:
    real = scene.reset
    scene.reset = lambda seed: real(123)  # pyright: ignore[reportAttributeAccessIssue]


def clock_seed(scene: Scene) -> None:
    real, calls = scene.reset, iter(range(10_000))
    scene.reset = lambda seed: real(seed + 2 * next(calls))  # pyright: ignore[reportAttributeAccessIssue]


def tipsy(scene: Scene) -> None:
    scene.model.opt.gravity[:] = [9.0, 0.0, -6.0]


def restless(task: TaskSpec) -> TaskEnv:
    env = TaskEnv(task)
    real = env.reset_scene

    def reset(seed: int) -> None:
        real(seed)
        dof = env.scene.world.entities["red_block"].dof
        env.scene.data.qvel[dof : dof + 3] = [0.0, 0.5, 1.0]

    env.reset_scene = reset  # pyright: ignore[reportAttributeAccessIssue]
    return env


def shaky(task: TaskSpec) -> TaskEnv:
    env, noise = TaskEnv(task), np.random.default_rng(0)
    real = env.scene.step

    def step(ctrl: np.ndarray) -> None:
        env.scene.data.qvel += noise.normal(0.0, 1e-6, env.scene.model.nv)
        real(ctrl)

    env.scene.step = step  # pyright: ignore[reportAttributeAccessIssue]
    return env


@contextlib.contextmanager
def atom_replaced(name: str, fn: Callable[..., float]) -> Iterator[None]:
    """An atom that means something else."""
    before = ATOMS._records[name]
    ATOMS._records[name] = replace(before, fn=fn)
    try:
        yield
    finally:
        ATOMS._records[name] = before


def on_a_grid(world, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """A direction that holds in every other stripe of the table only."""
    del lateral  # Unused.
    (_, y, _), (_, q, _) = world.pos(a).tolist(), world.pos(b).tolist()
    return min(y - q - gap, 0.05 - y % 0.1)


def by_the_alphabet(world, a: str, b: str, *, gap: float = 0.02, lateral: float = 0.1) -> float:
    """A direction that depends on what the things are called."""
    del lateral  # Unused.
    return float(world.pos(a)[1] - world.pos(b)[1]) - gap if a > b else -1.0


@contextlib.contextmanager
def judge_replaced(fn: Callable) -> Iterator[None]:
    """Another comparison of text and goal."""
    before = g8_alignment.compare
    g8_alignment.compare = fn
    try:
        yield
    finally:
        g8_alignment.compare = before


def outage(text: str, task: TaskSpec) -> None:
    raise ConnectionError(f"no answer about '{text}' of {task.name}")


def exploit(candidate: Candidate) -> None:
    witness = candidate.witness
    assert witness is not None
    candidate.exploits = (Mutant("wedged", witness.state),)


# Demonstrations that are not what they say.


def edit_demo(edit: Callable[[np.ndarray], np.ndarray]) -> Prepare:
    def prepare(candidate: Candidate) -> None:
        first = candidate.episodes[0]
        candidate.episodes[0] = replace(first, action=edit(first.action.copy()))

    return prepare


def nudged(action: np.ndarray) -> np.ndarray:
    action[len(action) // 2, 0] += 1e-3
    return action


def frozen(action: np.ndarray) -> np.ndarray:
    """A demonstration that stops half way and claims to have arrived."""
    action[len(action) // 2 :] = action[len(action) // 2]
    return action


def kinematic(action: np.ndarray) -> np.ndarray:
    """A path of the object that no actuator followed: the robot stays at rest."""
    return np.repeat(action[:1], len(action), axis=0)


def other_version(candidate: Candidate) -> None:
    assert candidate.certificate is not None
    candidate.certificate = candidate.certificate.model_copy(update={"versions": {"mujoco": "2.0.0"}})


def other_start(candidate: Candidate) -> None:
    assert candidate.certificate is not None
    first, *others = candidate.certificate.episodes
    elsewhere = first.model_copy(update={"state0_sha": "0" * 64})
    candidate.certificate = candidate.certificate.model_copy(update={"episodes": (elsewhere, *others)})


def red_alone(goal: dict) -> TaskSpec:
    return spec("move the red block", [RED], goal)


def a_bin() -> dict:
    return thing("bowl", "bin", "gray", "receptacle")


def unsized(entity: dict, **values) -> dict:
    return {**entity, "size": None, **values}


def near(entity: dict) -> dict:
    return {**entity, "placement": {**entity["placement"], "box": [0.2, -0.1, 0.27, 0.1]}}


def hinge() -> Atom:
    return Atom(name="joint", args=("drawer", "hinge", ">=", 0.8))


def zone_too() -> dict:
    return {"and": [atom("on", "red_block", "blue_block"), atom("on", "red_block", "red_region")]}


def far_drawer() -> TaskSpec:
    base = opened("drawer", "slide")
    entity = base.entities[0]
    placement = entity.placement.model_copy(update={"box": (1.25, 0.0, 1.25, 0.0)})
    return base.model_copy(
        update={"entities": (entity.model_copy(update={"role": "distractor", "placement": placement}),)}
    )


def bumped() -> TaskSpec:
    blocks = [{**GREEN, "id": f"block_{k}", "size": [0.06, 0.06, 0.16], "mass": 0.2} for k in range(7)]
    body = {"var": "x", "among": {"card": "block"}, "pred": atom("moved", "$x", 0.002)}
    return spec("move one of the green blocks", blocks, {"exists": body}, hold={"seconds": 0.1})


def loose_sequence():
    from robostack.task.predicate import And, Seq

    first, second = (Atom(name="in", args=(f"{c}_block", "bowl")) for c in ("red", "green"))
    return Seq(parts=(first, And(parts=(first, second))))  # pyright: ignore[reportCallIssue]


def opened_first() -> TaskSpec:
    """Text that asks for an order, and a goal that takes either: the second stage can be had before the first."""
    slide, red_on = atom("joint", "drawer", "slide", ">=", 0.8), atom("on", "red_block", "blue_block")
    drawer = thing("drawer", "drawer", "gray", "fixture", joints={"slide": [0.0, 0.0]})
    return spec(
        "open the drawer, then put the red block on the blue block",
        [RED, BLUE, drawer],
        {"seq": [slide, {"and": [slide, red_on]}]},
        [sub("open", "drawer", "slide", goal=slide), sub("stack", "red_block", "blue_block", goal=red_on)],
    )
