"""The expert: subgoals of a task -> skills -> an episode, with retries, and a sentence when it fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robostack.sim.env import TaskEnv
from robostack.sim.observe import environment_state, proprioception
from robostack.sim.scene import state_sha, versions
from robostack.task.atoms import ATOMS
from robostack.task.evaluate import failure_code, margin
from robostack.task.spec import Subgoal
from robostack.types import Episode
from simgen.experts.skills import Code, EpisodeOver, Result, Skills

_TRIES = 3
_SQUARE = ("cube", "box", "square_prism")
_DROP = 0.004  # height above the support at which an object is let go, at object scale 1 [m]


@dataclass(frozen=True)
class Target:
    """A place for an object's origin [m, world], what it may touch there, and a yaw to align with [rad]."""

    pos: np.ndarray
    touching: frozenset[str]
    yaw: float | None


class Expert:
    """Solves one task by skills. Everything it does goes through the actuators of ``env``."""

    def __init__(self, env: TaskEnv):
        self.env, self.skills = env, Skills(env)
        self.skills.on_action = self._record
        self.log: list[str] = []

    def solve(self, scene_seed: int) -> tuple[Episode, str]:
        """One recorded episode from ``compile(spec, scene_seed)``, and a failure code, empty on success."""
        self.env.reset_scene(scene_seed)
        self.skills.reset()
        self._rows: dict[str, list[np.ndarray]] = {k: [] for k in ("ctrl", "qpos", "state", "env", "action")}
        self.log = []
        state0 = self.env.scene.get_state()
        code = ""
        try:
            result = self._run()
            code = "" if result.ok else result.code.value
            while not self.env.over:
                self.skills.wait(self.env.dt_s)
        except EpisodeOver:
            code = "" if self.env.monitor.violated else Code.TIMEOUT.value  # a violation has a code of its own
        if not self.env.success:
            code = code or str(failure_code(self.env.task, self.env.scene.world, self.env.monitor))
        else:
            code = ""
        return self._episode(scene_seed, state0), code

    def _run(self) -> Result:
        result = Result(Code.OK)
        for _ in range(_TRIES):
            open_goals = [s for s in self.env.task.subgoals if margin(s.goal, self.env.scene.world) < 0]
            for subgoal in open_goals or self.env.task.subgoals:  # all hold, yet not the goal: do them again
                result = self._achieve(subgoal)
                self.log.append(f"{subgoal.skill}{subgoal.args}: {result.code} {result.info}")
                if margin(self.env.task.goal, self.env.scene.world) >= 0:
                    self.skills.home()
                    return Result(Code.OK)
        return result if not result.ok else Result(Code.POST_FALSE, "the skills ended but the goal does not hold")

    def _achieve(self, subgoal: Subgoal) -> Result:
        obj = str(subgoal.args[0])
        if subgoal.skill == "push_to":
            return self._push(obj, str(subgoal.args[1]))
        result = self.skills.pick(obj)
        if not result.ok:
            return result
        for target in self._targets(subgoal):
            result = self.skills.place(obj, target.pos, touching=target.touching, yaw_hint=target.yaw)
            if result.code not in (Code.NO_IK, Code.COLLISION):
                return result
        self.skills.put_back(obj)
        return result

    def _targets(self, subgoal: Subgoal) -> list[Target]:
        """Where the object may be set down, in order of preference."""
        world = self.env.scene.world
        obj, base = str(subgoal.args[0]), str(subgoal.args[1])
        rest = self.env.scene.shapes[obj].rest_z
        scale = self.env.scene.card.object_scale
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

    def _push(self, obj: str, zone: str) -> Result:
        world = self.env.scene.world
        result = Result(Code.POST_FALSE)
        for _ in range(4):
            result = self.skills.push(obj, world.pos(zone)[:2].copy())
            if not result.ok or ATOMS["on"].fn(world, obj, zone) >= 0:
                break
        return result

    def _record(self, action: np.ndarray) -> None:
        scene, rows = self.env.scene, self._rows
        rows["qpos"].append(scene.data.qpos.copy())
        rows["state"].append(proprioception(scene))
        rows["env"].append(environment_state(scene))
        rows["action"].append(action)
        rows["ctrl"].append(self.env.apply(action))

    def _episode(self, scene_seed: int, state0: np.ndarray) -> Episode:
        spec, rows = self.env.task, {k: np.stack(v) for k, v in self._rows.items()}
        return Episode(
            task_id=spec.id,
            seed=scene_seed,
            language=spec.instruction.text,
            state0=state0,
            ctrl=rows["ctrl"],
            qpos=rows["qpos"],
            state=rows["state"],
            environment_state=rows["env"],
            action=rows["action"],
            success=self.env.success,
            first_success_s=self.env.monitor.first_success_s,
            final_sha=state_sha(self.env.scene.get_state()),
            versions=versions(),
        )
