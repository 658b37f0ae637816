"""The expert: subgoals of a task -> skills -> an episode, with retries, and a sentence when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robostack.sim.env import TaskEnv
from robostack.sim.observe import environment_state, proprioception
from robostack.sim.scene import state_sha, versions
from robostack.task.evaluate import failure_code
from robostack.types import Episode
from simgen.experts.agenda import Agenda
from simgen.experts.keyframes import Keyframe, Marks
from simgen.experts.method import METHODS, ORDER, Context, Method
from simgen.experts.result import Code, EpisodeOver, Result
from simgen.experts.skills import Skills

_TRIES = 3
_CALM_S = 0.3  # for objects to come to rest, before their hold counts


class Expert:
    """Solves one task, subgoal by subgoal. Everything it does goes through the actuators of ``env``.

    Attributes:
        methods: per subgoal, the method that achieved it in the last episode; empty where none did.
        keyframes: the moments of the last episode that matter, with the tool's pose relative to what it acted on.
        log: what was tried in the last episode, and how it ended.
    """

    def __init__(self, env: TaskEnv, *, methods: Sequence[str] | None = None, folder: Path | None = None):
        """An expert that may use ``methods`` (those of ``method.ORDER`` when None).

        They are tried in that order, whatever order they are given in; those that it does not name come before it.

        Raises:
            UnknownName: a method that does not exist.
        """
        names = [name for name in ORDER if name in METHODS] if methods is None else methods
        chosen = {name: METHODS[name] for name in names}
        extra = [name for name in chosen if name not in ORDER]
        self._chain: list[Method] = [chosen[name]() for name in (*extra, *ORDER) if name in chosen]
        self.env, self.skills, self.folder = env, Skills(env), folder
        self.skills.on_action = self._record
        self.skills.note = lambda event, subject: self._marks.note(event) if self._marks else None
        self.log: list[str] = []
        self._agenda = Agenda(env)
        self._marks: Marks | None = None
        self._foreign: np.ndarray | None = None  # the last action that did not come from the skills
        self.methods: tuple[str, ...] = ()
        self.keyframes: tuple[Keyframe, ...] = ()

    def solve(self, scene_seed: int) -> tuple[Episode, str]:
        """One recorded episode from ``compile(spec, scene_seed)``, and a failure code, empty on success."""
        self.env.reset_scene(scene_seed)
        self.skills.reset()
        self._rows: dict[str, list[np.ndarray]] = {k: [] for k in ("ctrl", "qpos", "state", "env", "action")}
        self._agenda.reset()
        self.log, self.keyframes, self._marks = [], (), None
        self.methods = ("",) * len(self.env.task.subgoals)
        state0 = self.env.scene.get_state()
        code = ""
        try:
            result = self._run(scene_seed)
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

    def _run(self, scene_seed: int) -> Result:
        result, indices = Result(Code.OK), range(len(self.env.task.subgoals))
        for _ in range(_TRIES):
            needed = any(self._agenda.needed(index) for index in indices)
            for index in indices:  # all hold, yet not the goal: do them again
                if needed and not self._agenda.needed(index):
                    continue
                result = self._achieve(index, scene_seed)
                if self._settled():
                    return Result(Code.OK)
                if self._agenda.in_order and not self._agenda.met(index):
                    break
        return result if not result.ok else Result(Code.POST_FALSE, "the skills ended but the goal does not hold")

    def _settled(self) -> bool:
        """Whether the goal holds, and goes on doing so when the arm is back at rest."""
        if self.env.monitor.goal_margin() < 0:
            return False
        self.skills.home()
        self.skills.wait(self.env.task.hold.seconds + _CALM_S)
        return self.env.monitor.goal_margin() >= 0

    def _achieve(self, index: int, scene_seed: int) -> Result:
        """Let one method after the other try a subgoal; stop at the first after which it holds."""
        subgoal, result = self.env.task.subgoals[index], Result(Code.PRECOND_FALSE, "no method is registered")
        ctx = Context(self.env, self.skills, self._send, index, scene_seed, self.folder)
        self._agenda.start(index)
        for method in self._chain:
            self._foreign, achieved = None, False
            self._marks = Marks(self.env, index, subgoal, len(self._rows["action"]))
            try:
                result = method.attempt(ctx, subgoal)
            finally:  # the episode may have ended in success while the method was still withdrawing
                achieved = self._agenda.achieved(index)
                if achieved:
                    self.methods = (*self.methods[:index], method.name, *self.methods[index + 1 :])
                    self.keyframes += self._marks.finished()
                self._marks = None
            self.log.append(f"{subgoal.skill}{subgoal.args} by {method.name}: {result.code} {result.info}")
            if self._foreign is not None:
                self.skills.resume(float(self._foreign[-1]))
            if achieved:
                break
        return result

    def _send(self, action: np.ndarray) -> None:
        if self.env.over:
            raise EpisodeOver
        self._foreign = np.asarray(action, np.float32)
        self._record(self._foreign)

    def _record(self, action: np.ndarray) -> None:
        scene, rows = self.env.scene, self._rows
        rows["qpos"].append(scene.data.qpos.copy())
        rows["state"].append(proprioception(scene))
        rows["env"].append(environment_state(scene))
        rows["action"].append(action)
        if self._marks is not None:
            self._marks.watch(action)
        rows["ctrl"].append(self.env.apply(action))
        self._agenda.update()

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
            methods=self.methods,
        )
