"""The method "skill": which skills, on which targets, bring a subgoal about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robostack.sim.env import TaskEnv
from robostack.task.atoms import ATOMS
from robostack.task.spec import Subgoal
from simgen.experts.handles import move
from simgen.experts.method import Context
from simgen.experts.result import Code, Result
from simgen.experts.skills import Skills

_SQUARE = ("cube", "box", "square_prism")
_DROP = 0.004  # height above the support at which an object is let go, at object scale 1 [m]


@dataclass(frozen=True)
class Target:
    """A place for an object's origin [m, world], what it may touch there, and a yaw to align with [rad]."""

    pos: np.ndarray
    touching: frozenset[str]
    yaw: float | None


class SkillMethod:
    """Straight tool paths and grasps from above, by the table of skills."""

    name = "skill"

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """See ``Method.attempt``."""
        skill = subgoal.skill
        if skill == "push_to":
            return _push(ctx.skills, str(subgoal.args[0]), str(subgoal.args[1]))
        if skill in ("open", "close", "press", "turn"):
            return _operate(ctx.skills, subgoal)
        if skill in ("place_on", "place_in", "stack", "place_beside"):
            return _pick_and_place(ctx.env, ctx.skills, subgoal)
        return Result(Code.PRECOND_FALSE, f"no skill for '{skill}'")


def _pick_and_place(env: TaskEnv, skills: Skills, subgoal: Subgoal) -> Result:
    obj = str(subgoal.args[0])
    result = skills.pick(obj)
    if not result.ok:
        return result
    for target in _targets(env, subgoal):
        result = skills.place(obj, target.pos, touching=target.touching, yaw_hint=target.yaw)
        if result.code not in (Code.NO_IK, Code.COLLISION):
            return result
    skills.put_back(obj)
    return result


def _operate(skills: Skills, subgoal: Subgoal) -> Result:
    """Move a joint: pull and turn by the handle, push what is pushed."""
    entity, joint = str(subgoal.args[0]), str(subgoal.args[1])
    target = {"press": 1.0, "open": 0.96, "close": 0.0}.get(subgoal.skill)
    if target is None:
        target = float(subgoal.args[2])
    return move(skills, entity, joint, target, pushing=subgoal.skill in ("press", "close"))


def _targets(env: TaskEnv, subgoal: Subgoal) -> list[Target]:
    """Where the object may be set down, in order of preference."""
    world = env.scene.world
    obj, base = str(subgoal.args[0]), str(subgoal.args[1])
    rest = env.scene.shapes[obj].rest_z
    scale = env.scene.card.object_scale
    pos, rot, binding = world.pos(base), world.rot(base), world.entities[base]
    if subgoal.skill == "place_beside":
        dx, dy = float(subgoal.args[2]), float(subgoal.args[3])
        spot = np.array([pos[0] + dx, pos[1] + dy, rest + _DROP * scale])
        return [Target(spot, frozenset(), 0.0 if binding.symmetry in _SQUARE else None)]
    if subgoal.skill == "stack":
        top = pos + [0, 0, float(np.abs(rot[2]) @ np.asarray(binding.half)) + rest + _DROP * scale]
        edge = int(np.argmin(np.abs(rot[2])))
        yaw = float(np.arctan2(rot[1, edge], rot[0, edge])) if binding.symmetry in _SQUARE else None
        return [Target(top, frozenset({base}), yaw)]
    assert binding.surface is not None, base
    face = pos + rot @ np.asarray(binding.surface.center)
    drops = (0.008, 0.02, 0.03, 0.045, 0.06) if subgoal.skill == "place_in" else (_DROP, 0.012, 0.02)
    return [Target(face + [0, 0, rest + drop * scale], frozenset({base}), None) for drop in drops]


def _push(skills: Skills, obj: str, zone: str) -> Result:
    result = Result(Code.POST_FALSE)
    for _ in range(4):
        result = skills.push(obj, skills.world.pos(zone)[:2].copy())
        if not result.ok or ATOMS["on"].fn(skills.world, obj, zone) >= 0:
            break
    return result
