"""The methods "skill" and "motion": which skills, on which targets, bring a subgoal about."""

from __future__ import annotations

from robostack.task.atoms import ATOMS
from robostack.task.spec import Subgoal
from simgen.experts.handles import move
from simgen.experts.method import Context
from simgen.experts.result import PLANNING, Code, Result
from simgen.experts.skills import Skills
from simgen.experts.targets import targets
from simgen.experts.tools import insert, tool_push

_SEARCHES = 10  # detours that one attempt may search for


class SkillMethod:
    """Straight tool paths and grasps from above, by the table of skills."""

    name = "skill"

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """See ``Method.attempt``."""
        skills, names = ctx.skills, [str(arg) for arg in subgoal.args]
        match subgoal.skill:
            case "open" | "close" | "press" | "turn":
                return _operate(skills, subgoal)
            case "push_to":
                return _push(skills, *names)
            case "tool_push":
                return tool_push(skills, *names)
            case "insert":
                return insert(skills, *names)
            case "pick":
                return skills.pick(*names)
            case "place_on" | "place_in" | "stack" | "place_beside" | "place_at":
                return _pick_and_place(skills, subgoal)
        return Result(Code.PRECOND_FALSE, f"no skill for '{subgoal.skill}'")


class MotionMethod:
    """The same skills with detours planned in joint space, and with grasps that come tilted or over an edge."""

    name = "motion"

    def __init__(self):
        self._skills = SkillMethod()

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """See ``Method.attempt``."""
        arm = ctx.skills
        arm.thorough = True
        try:
            for arm.detours.budget in (0, _SEARCHES):  # what needs no search first
                result = self._skills.attempt(ctx, subgoal)
                if result.ok or result.code not in PLANNING:
                    break
            return result
        finally:
            arm.thorough, arm.detours.budget = False, 0


def _pick_and_place(skills: Skills, subgoal: Subgoal) -> Result:
    obj = str(subgoal.args[0])
    result = skills.pick(obj)
    if not result.ok:
        return result
    for target in targets(skills, subgoal):
        result = skills.place(obj, target.pos, touching=target.touching, yaw_hint=target.yaw)
        if result.code not in PLANNING:
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


def _push(skills: Skills, obj: str, zone: str) -> Result:
    result = Result(Code.POST_FALSE)
    for _ in range(4):
        result = skills.push(obj, skills.world.pos(zone)[:2].copy())
        if not result.ok or ATOMS["on"].fn(skills.world, obj, zone) >= 0:
            break
    return result
