"""Skills with a thing in the hand that has to meet another one: a peg and its hole, a stick and what it pushes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from robostack.task.atoms import ATOMS
from simgen.experts.motion import PlanFailure, Pose
from simgen.experts.result import Code, Result
from simgen.experts.skills import Skills

_ABOVE = 0.004  # between the fingertips and the rim of the hole at the end, at object scale 1 [m]
_STUCK = 0.006  # a peg this far above its seat did not find the hole [m]
_SPIRAL, _TURNS = 0.0035, 14  # radius of the search for the hole, places to try [m]
_RUN_UP = 0.012  # between the stick and the object before a push, at object scale 1 [m]
_PUSHES = 4
_SLIDE = 0.001  # height of a pushing stick over the table [m]


def insert(skills: Skills, obj: str, hole: str) -> Result:
    """Pick ``obj`` near its top, align it with the hole modulo its symmetry, lower it; search when it gets stuck."""
    world, binding = skills.world, skills.world.entities[hole]
    assert binding.interior is not None, hole
    result = skills.pick(obj, above=2 * binding.interior.half[2] + _ABOVE * skills.scale)
    if not result.ok:
        return result
    skills.attach(obj)
    rot = world.rot(hole)
    floor = np.asarray(binding.interior.center) - [0.0, 0.0, binding.interior.half[2]]
    seat = world.pos(hole) + rot @ floor + [0.0, 0.0, skills.scene.shapes[obj].rest_z + 0.001]
    facing = float(np.arctan2(rot[1, 0], rot[0, 0]))
    for yaw in skills.place_yaws(obj, facing):
        try:
            reach, down = skills.plan_place(obj, seat, [hole], yaw)
        except PlanFailure as failure:
            result = Result(Code(failure.code), str(failure))
            continue
        skills.follow([*reach.poses, *down.poses])
        skills.settle()
        found = _sunk(skills, obj, seat) or _search(skills, obj, seat)
        released = skills.release(obj)
        return released if found else Result(Code.POST_FALSE, f"'{obj}' did not find the hole of '{hole}'")
    skills.put_back(obj)
    return result


def _sunk(skills: Skills, obj: str, seat: Float[np.ndarray, "3"]) -> bool:
    return float(skills.world.pos(obj)[2] - seat[2]) < _STUCK * skills.scale


def _search(skills: Skills, obj: str, seat: Float[np.ndarray, "3"]) -> bool:
    """Lift a little and come down again along a spiral around the expected place."""
    down = skills.pose
    for k in range(1, _TURNS + 1):
        radius, angle = _SPIRAL * skills.scale * np.sqrt(k / _TURNS), 2.4 * k  # the golden angle covers a disc evenly
        shifted = down.moved([radius * np.cos(angle), radius * np.sin(angle), 0.0])
        lifted = shifted.lifted(float(skills.scene.tcp()[0][2]) + 0.004 * skills.scale)
        skills.follow(skills.planner.samples([skills.pose, lifted, shifted], slow=0.5))
        skills.settle()
        if _sunk(skills, obj, seat):
            return True
    return False


def tool_push(skills: Skills, tool: str, obj: str, zone: str) -> Result:
    """Take the stick, push ``obj`` onto ``zone`` with its cross bar, put the stick down where it was."""
    result = skills.pick(tool)
    if not result.ok:
        return result
    for _ in range(_PUSHES):
        if ATOMS["on"].fn(skills.world, obj, zone) >= 0:
            break
        result = _push_once(skills, tool, obj, skills.world.pos(zone)[:2].copy())
        if not result.ok:
            break
    back = skills.put_back(tool)
    return back if result.ok else result


def _push_once(skills: Skills, tool: str, obj: str, goal: Float[np.ndarray, "2"]) -> Result:
    """One stroke: the bar behind the object, along the line to the goal, a little back and up."""
    if skills.held is None or not skills.grasped(tool):
        return Result(Code.SLIP, f"'{tool}' slipped out of the gripper")
    skills.attach(tool)
    center = skills.world.pos(obj)[:2].copy()
    ahead = (goal - center) / max(1e-9, float(np.linalg.norm(goal - center)))
    result = Result(Code.UNREACHABLE, f"no stroke of '{tool}' was tried")
    for face in (1.0, -1.0):  # push with the outer face of the bar, or rake with the inner one
        try:
            over, start, end = _stroke(skills, tool, obj, (center, goal, ahead), face)
            reach = skills.reach(over, touching=[tool])
            down = skills.plan([over, start], touching=[tool], slow=0.6, q0=reach.q)
            push = skills.plan([start, end], touching=[tool, obj], slow=0.4, q0=down.q)
        except PlanFailure as failure:
            result = Result(Code(failure.code), str(failure))
            continue
        skills.follow([*reach.poses, *down.poses, *push.poses])
        skills.settle()
        gap = _RUN_UP * skills.scale * np.array([*-ahead, 0.0])
        clear = end.moved(gap)
        return skills.go([clear, clear.lifted(skills.transit_height())], touching=[tool, obj])
    return result


def _stroke(
    skills: Skills, tool: str, obj: str, line: tuple[np.ndarray, np.ndarray, np.ndarray], face: float
) -> tuple[Pose, Pose, Pose]:
    """Tool poses over the start, at the start and at the end of a stroke."""
    assert skills.held is not None, tool
    center, goal, ahead = line
    length, width = 2 * skills.world.entities[tool].half[0], 2 * skills.world.entities[tool].half[2]
    heading = float(np.arctan2(ahead[1], ahead[0])) + (0.0 if face > 0 else np.pi)
    rot = np.array([[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1]])
    # The bar is four widths long from the handle's outer side on; its faces are at the end and a width before it.
    bar = np.array([0.5 * length - (0.0 if face > 0 else width), 1.5 * width, 0.0])
    turned = skills.world.rot(obj).T @ [*ahead, 0.0]
    reach = _extent(skills, obj, turned)
    z = skills.scene.shapes[tool].rest_z + _SLIDE
    poses = []
    for spot, gap in ((center, reach + _RUN_UP * skills.scale), (goal, reach)):
        origin = np.array([*(spot - ahead * gap), z]) - rot @ bar
        tip = rot @ skills.held.rot.T  # rotation of the tool that holds the stick so
        poses.append(skills.planner.pose_of(origin - tip @ skills.held.pos, tip))
    start, end = poses
    start = replace(start, yaw=skills.nearest_turn(start.yaw))
    end = replace(end, yaw=start.yaw)
    return start.lifted(max(skills.pose.pos[2], skills.transit_height())), start, end


def _extent(skills: Skills, obj: str, way: Float[np.ndarray, "3"]) -> float:
    """Half extent of an object along a direction in its own frame [m]."""
    binding = skills.world.entities[obj]
    if binding.symmetry in ("axial", "sphere"):
        return binding.half[0]
    return float(np.abs(way) @ np.asarray(binding.half))
