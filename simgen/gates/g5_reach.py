"""G5: the robot and the things. Nothing overlaps, everything to be grasped can be, and its place can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

import mujoco
import numpy as np

from simgen.experts.grasps import grasps
from simgen.experts.motion import Pose
from simgen.experts.skills import Skills
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.g4_settle import judge_resets
from simgen.gates.grip import width
from simgen.gates.intents import PLACES, intents_of
from simgen.gates.record import Metric
from simgen.gates.registry import gate
from simgen.gates.stage import Stage

GRASPING = ("pick", "place_on", "place_in", "stack", "place_beside", "place_at", "insert", "tool_push")
TURNING = ("open", "close", "press", "turn")
DEEPEST_M = 1e-3
_POSITION_M = 3e-3
_SEEDS, _MOST_GRASPS, _MOST_TILTED = 3, 40, 160
_TORQUE_SHARE = 0.7  # of the arm's limits, the rest is for moving
_GRAVITY = 9.81


@gate("G5", limit_s=60.0)
def reach(candidate: Candidate) -> dict[str, Metric]:
    """Contacts at reset, grasps, places, handles, and what the arm can carry."""
    failed = judge_resets(candidate, "G5")
    depth = max((_depth(candidate, start.seed) for start in candidate.starts), default=0.0)
    subgoals = candidate.spec.subgoals
    grasped = sorted({str(s.args[0]) for s in subgoals if s.skill in GRASPING})
    turned = sorted({(str(s.args[0]), str(s.args[1])) for s in subgoals if s.skill in TURNING})
    load, places = probe(candidate, grasped, turned)
    return {
        "penetration_mm": round(1e3 * depth, 2),
        "unreachable": failed,
        "grasped": len(grasped),
        "places": places,
        "torque_share": round(load, 3),
    }


def probe(candidate: Candidate, grasped: list[str], turned: list[tuple[str, str]]) -> tuple[float, int]:
    """Whether these things can be grasped where they start, and where the witness has them, and these joints reached.

    Returns the largest share of a torque limit that carrying takes, and how many places were reached; raises
    GateFailure for the first one that is not.
    """
    stage, skills = Stage(candidate.env), Skills(candidate.env)
    load = max((_graspable(candidate, stage, skills, entity) for entity in grasped), default=0.0)
    for entity, joint in turned:
        _handle(candidate, stage, skills, entity, joint)
    return load, _places(candidate, skills, grasped)


def _depth(candidate: Candidate, seed: int) -> float:
    """Deepest contact at reset [m]; raises GateFailure beyond 1 mm."""
    candidate.env.reset_scene(seed)
    scene = candidate.scene
    mujoco.mj_forward(scene.model, scene.data)
    if not scene.data.ncon:
        return 0.0
    deepest = int(np.argmin(scene.data.contact.dist))
    depth = -float(scene.data.contact.dist[deepest])
    if depth > DEEPEST_M:
        pair = scene.data.contact.geom[deepest]
        names = " and ".join(scene.model.body(scene.model.geom_bodyid[g]).name for g in pair)
        raise GateFailure(Code.PENETRATION, f"{names} overlap by {depth * 1e3:.1f} mm at reset of seed {seed}")
    return max(0.0, depth)


def _graspable(candidate: Candidate, stage: Stage, skills: Skills, entity: str) -> float:
    """Largest share of a torque limit that holding the entity takes; raises GateFailure when nothing can take it."""
    why = "no grasp was found"
    if not candidate.starts:
        return 0.0  # the gate of what kept the resets from ending well tells
    for start, thorough in product(candidate.starts[:_SEEDS], (False, True)):  # planned motion comes tilted as well
        stage.restart(start.seed)
        skills.reset()
        skills.thorough = thorough
        found = list(islice(grasps(skills, entity), _MOST_TILTED if thorough else _MOST_GRASPS))
        opening = candidate.scene.card.gripper.max_opening
        if not found and width(stage, entity) > 0.97 * opening:
            raise GateFailure(
                Code.TOO_WIDE,
                f"'{entity}' is {width(stage, entity) * 1e3:.0f} mm wide, the gripper opens {opening * 1e3:.0f} mm",
            )
        for grasp in found:
            q, why = _joints_at(skills, grasp.pose, grasp.opening, frozenset((entity,)))
            if q is not None:
                return _payload(stage, entity, q)
    raise GateFailure(Code.NO_GRASP, f"'{entity}' cannot be grasped at reset of {_SEEDS} seeds: {why}")


def _joints_at(
    skills: Skills, pose: Pose, opening: float, touching: frozenset[str] | None
) -> tuple[np.ndarray | None, str]:
    """Arm joints [rad] at a tool pose, free of collisions unless ``touching`` is None; or why there are none."""
    scene = skills.scene
    found = scene.ik.solve(pose.pos, skills.planner.rotation(pose), scene.ik.home, iterations=200)
    if found.position_error > _POSITION_M or found.rotation_error > scene.card.tilt_tolerance:
        return None, f"NO_IK, {found.position_error * 1e3:.0f} mm off at {np.round(pose.pos, 3).tolist()}"
    hit = None if touching is None else skills.planner.collision(found.q, opening, None, touching)
    return (found.q, "") if hit is None else (None, f"COLLISION of {hit}")


def _payload(stage: Stage, entity: str, q: np.ndarray) -> float:
    """Static torques of the entity's weight at the tool, against the arm's limits."""
    scene = stage.scene
    weight = float(scene.model.body_mass[stage.world.entities[entity].body]) * _GRAVITY
    saved = stage.save()
    stage.data.qpos[scene.arm.qpos] = q
    mujoco.mj_kinematics(scene.model, stage.data)
    mujoco.mj_comPos(scene.model, stage.data)
    jac = np.zeros((3, scene.model.nv))
    mujoco.mj_jacSite(scene.model, stage.data, jac, None, stage.world.robot.ee_site)
    dofs = [int(scene.model.joint(f"robot/{name}").dofadr[0]) for name in scene.card.arm.joints]
    share = float(np.max(np.abs(jac[2, dofs]) * weight / np.asarray(scene.card.arm.force)))
    stage.load(saved)
    if share > _TORQUE_SHARE:
        raise GateFailure(
            Code.PAYLOAD,
            f"holding '{entity}' ({weight / _GRAVITY:.2f} kg) takes {share:.0%} of a joint's torque, "
            f"{_TORQUE_SHARE:.0%} is the limit",
        )
    return share


def _handle(candidate: Candidate, stage: Stage, skills: Skills, entity: str, joint: str) -> None:
    """Some tool pose at the handle is within reach where the joint starts."""
    why = ""
    if not candidate.starts:
        return
    for start in candidate.starts[:_SEEDS]:
        stage.restart(start.seed)
        for pose in _handle_poses(stage, skills, entity, joint):
            q, why = _joints_at(skills, pose, 0.0, None)
            if q is not None:
                return
    raise GateFailure(Code.HANDLE_UNREACHABLE, f"the handle of '{entity}.{joint}' is out of reach: {why}")


def _handle_poses(stage: Stage, skills: Skills, entity: str, joint: str) -> Iterator[Pose]:
    site = stage.world.entities[entity].joints[joint].handle
    pos, rot = stage.data.site_xpos[site].copy(), stage.data.site_xmat[site].reshape(3, 3)
    for sign in (1.0, -1.0):
        tool = np.stack([np.cross(sign * rot[:, 0], -rot[:, 2]), sign * rot[:, 0], -rot[:, 2]], axis=1)
        yield skills.planner.pose_of(pos, tool)
    for lift in (0.0, 0.01):
        for k in (0, 1, -1, 2, -2):
            yield Pose(pos + [0.0, 0.0, lift], k * np.pi / 4)


def _places(candidate: Candidate, skills: Skills, grasped: list[str]) -> int:
    """The tool reaches every grasped thing where the witness has it; returns how many places there are.

    What ends inside something with a door or a drawer was put there while that was open; its place is not judged.
    """
    witness = candidate.witness
    if witness is None:
        return 0  # G6 tells
    stage = Stage(candidate.env)
    stage.restart(witness.seed)
    stage.load(witness.state)
    checked = set()
    for intent in intents_of(candidate.spec, witness):
        hidden = intent.reference in stage.world.entities and bool(stage.world.entities[str(intent.reference)].joints)
        if intent.subject not in grasped or intent.stage != -1 or intent.kind not in PLACES or hidden:
            continue
        poses = [g.pose for g in islice(grasps(skills, intent.subject), _MOST_GRASPS)]
        poses += [pose.lifted(pose.pos[2] + 0.03) for pose in poses[:4]]
        results = (_joints_at(skills, pose, 1.0, None) for pose in poses)
        if poses and all(q is None for q, _ in results):
            spot = np.round(stage.world.pos(intent.subject), 3).tolist()
            raise GateFailure(Code.NO_GOAL_IK, f"the tool does not reach '{intent.subject}' at its goal {spot}")
        checked.add(intent.subject)
    return len(checked)
