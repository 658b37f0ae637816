"""Frames that keyframes are written in, and the turns that leave an object as it is.

A frame's name is one of::

    ""                the world
    cup               the entity's body
    cup@              its origin, turned as the world is: where the turn means nothing, as of a ball
    drawer.slide      the handle of a joint, which moves with it
    cube>zone         the origin of the first, x level towards the second: a push
    cube>zone@        the same directions at the origin of the second
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
from jaxtyping import Float

from robostack.sim.env import TaskEnv
from robostack.task.spec import Subgoal
from robostack.task.world import Symmetry, World

_TURNS = 24  # of a round thing about its axis


@dataclass(frozen=True)
class Frame:
    """A frame at rest: origin [m, world] and rotation."""

    pos: Float[np.ndarray, "3"]
    rot: Float[np.ndarray, "3 3"]


def frame_of(env: TaskEnv, name: str) -> Frame:
    """Where a frame is now."""
    world, data = env.scene.world, env.scene.data
    origin, aligned = name.removesuffix("@"), name.endswith("@")
    first, push, second = origin.partition(">")
    if push:
        way = world.pos(second) - world.pos(first)
        x = np.array([way[0], way[1], 0.0]) / max(1e-9, float(np.hypot(*way[:2])))
        rot = np.stack([x, [-x[1], x[0], 0.0], [0.0, 0.0, 1.0]], axis=1)
        return Frame(world.pos(second if aligned else first).copy(), rot)
    if not origin:
        return Frame(np.zeros(3), np.eye(3))
    entity, _, joint = origin.partition(".")
    if joint:
        site = world.entities[entity].joints[joint].handle
        return Frame(data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy())
    return Frame(world.pos(entity).copy(), np.eye(3) if aligned else world.rot(entity).copy())


def frames_for(world: World, subgoal: Subgoal) -> tuple[str, str]:
    """The frames of the two halves of a subgoal: of what is taken, and of where it is brought to."""
    names = [str(arg) for arg in subgoal.args if str(arg) in world.entities]
    if not names:
        return "", ""
    first, last = names[0], names[-1]
    joint = str(subgoal.args[1]) if len(subgoal.args) > 1 else ""
    if joint in world.entities[first].joints:
        return f"{first}.{joint}", f"{first}.{joint}"
    if subgoal.skill == "push_to":
        return f"{first}>{last}", f"{first}>{last}@"
    taken = _round(world, first)
    if subgoal.skill == "place_at":
        return taken, ""
    if last == first:
        return taken, taken if subgoal.skill == "pick" else f"{first}@"
    binding = world.entities[last]
    if subgoal.skill == "place_beside":
        return taken, f"{last}@"
    moving = next((name for name, joint in binding.joints.items() if joint.body == binding.interior_body), None)
    return taken, f"{last}.{moving}" if subgoal.skill == "place_in" and moving else _round(world, last)


def _round(world: World, entity: str) -> str:
    return f"{entity}@" if world.entities[entity].symmetry == "sphere" else entity


def turns_of(world: World, frame: str) -> Float[np.ndarray, "K 3 3"]:
    """Rotations in a frame that leave what it belongs to as it is; the identity first."""
    if frame in world.entities:
        return symmetry_turns(world.entities[frame].symmetry)
    if frame.endswith("@") and frame[:-1] in world.entities and world.entities[frame[:-1]].symmetry == "sphere":
        return symmetry_turns("axial")
    return np.eye(3)[None]


@cache
def symmetry_turns(symmetry: Symmetry) -> Float[np.ndarray, "K 3 3"]:
    """The rotation group of a symmetry, the continuous one in steps of 15 degrees; the identity first."""
    signed = [np.eye(3)[list(p)] * np.array(s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]
    cube = sorted((m for m in signed if np.linalg.det(m) > 0), key=lambda m: -float(np.trace(m)))
    match symmetry:
        case "none":
            kept = [np.eye(3)]
        case "cube":
            kept = cube
        case "box":
            kept = [m for m in cube if np.count_nonzero(np.diag(m)) == 3]
        case "square_prism":
            kept = [m for m in cube if m[2, 2] != 0]
        case _:
            angles = sorted((2 * np.pi * k / _TURNS for k in range(_TURNS)), key=lambda a: 1 - np.cos(a))
            about = [np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) for a in angles]
            kept = about if symmetry == "sphere" else [*about, *(m @ np.diag([1.0, -1.0, -1.0]) for m in about)]
    return np.stack(kept)
