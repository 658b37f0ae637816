"""Expert of Push-T: tries pushes all along the outline in a copy of the scene, and takes the one that pays best.

One decision is a way around the T and a straight push against its outline. Each candidate is rehearsed as it would be
executed, and after every control step of the push the T's misplacement is known, so that all lengths of a push come
from one rehearsal. A push is worth the corner distance that it saves less a price per control step; that price also
keeps a choice once it is made: a step towards the chosen push makes it cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robostack.sim.pusht import PushTEnv, pusht_versions
from robostack.types import Episode
from simgen.experts.pusht_scene import CLEARANCE, Around, Contact, Moment, Point, Rehearsal, contacts, misplacement

_FREE_SPEED = 25.0  # of commands on the way to a push [px per control step]
_PUSH_SPEED, _PUSH_GAIN = (3.0, 12.0), 0.4  # range [px per control step], and its share of the misplacement
_PUSH_STEPS = 12  # the longest push, in control steps after the tip has arrived
_STEP_PRICE = 1.0  # [px of misplacement per control step]
_HOPELESS = 60.0  # a push that has made things worse by so much is not followed further [px]
_NEAR = 8.0  # coverage is computed only below this misplacement [px]; at 8 px it is far from enough
_SOLVED = 1e6


@dataclass(frozen=True)
class _Search:
    """How candidates are drawn.

    Attributes:
        contacts: where the outline is pushed.
        speed: of the push [px per control step]; None is in proportion to the misplacement.
        least: what a push must save [px]; less than nothing to come out of a dead end, as when a scene starts with the
            tip inside the T, which throws it aside.
    """

    contacts: tuple[Contact, ...]
    speed: float | None
    least: float


@dataclass(frozen=True)
class _Push:
    commands: tuple[Point, ...]
    value: float


class PushTExpert:
    """Solves Push-T scenes; the same seed gives the same commands.

    Attributes:
        env: where it acts.
        log: one line per push of the last episode.
    """

    def __init__(self, env: PushTEnv):
        self.env = env
        self.log: list[str] = []
        self._copy = Rehearsal()
        coarse, fine = contacts(12.0), contacts(4.0)
        self._searches = (_Search(coarse, None, 0.3), _Search(fine, 1.5, 0.02), _Search(coarse, 6.0, -math.inf))

    def solve(self, scene_seed: int) -> tuple[Episode, str]:
        """One recorded episode, and a failure code, empty on success."""
        self.env.reset_scene(scene_seed)
        self.log = []
        state0 = self.env.configuration
        rows: dict[str, list[np.ndarray]] = {k: [] for k in ("ctrl", "qpos", "state", "environment_state", "action")}
        code = ""
        while not self.env.over:
            push = self._decide()
            if push is None:
                code = "NO_PUSH"
                break
            self._execute(push, rows)
        code = code or self.env.failure()
        return self._episode(scene_seed, state0, rows), code

    def _execute(self, push: _Push, rows: dict[str, list[np.ndarray]]) -> None:
        for command in push.commands:
            obs, action = self.env.observe(), np.array(command, np.float32)
            rows["qpos"].append(self.env.configuration)
            rows["ctrl"].append(self.env.apply(action))
            rows["state"].append(obs.state)
            rows["environment_state"].append(obs.environment_state)
            rows["action"].append(action)
            if self.env.over:
                return

    def _episode(self, seed: int, state0: np.ndarray, rows: dict[str, list[np.ndarray]]) -> Episode:
        features = self.env.features
        return Episode(
            task_id=self.env.task.id,
            seed=seed,
            language=self.env.task.instruction.text,
            state0=state0,
            ctrl=np.array(rows["ctrl"]).reshape(-1, len(features.action)),
            qpos=np.array(rows["qpos"]).reshape(-1, len(state0)),
            state=np.array(rows["state"]).reshape(-1, len(features.state)),
            environment_state=np.array(rows["environment_state"]).reshape(-1, len(features.environment_state)),
            action=np.array(rows["action"]).reshape(-1, len(features.action)),
            success=self.env.success,
            first_success_s=self.env.first_success_s,
            final_sha=self.env.state_sha(),
            versions=pusht_versions(),
        )

    def _decide(self) -> _Push | None:
        values = [float(v) for v in self.env.configuration]
        moment = Moment((values[0], values[1]), (values[2], values[3]), (values[4], values[5], values[6]))
        before = misplacement(moment.pose)
        for search in self._searches:
            push = self._best(moment, before, search)
            if push is not None:
                self.log.append(f"{before:.1f} px off: {len(push.commands)} steps worth {push.value:.1f}")
                return push
        self.log.append(f"{before:.1f} px off: no push helps")
        return None

    def _best(self, moment: Moment, before: float, search: _Search) -> _Push | None:
        slowest, fastest = _PUSH_SPEED
        speed = search.speed or min(fastest, max(slowest, _PUSH_GAIN * before))
        around, best = Around(moment.pose), None
        for contact in search.contacts:
            way = around.way(moment.tip, contact.approach)
            if way is None:
                continue
            approach = _walk(moment.tip, way, _FREE_SPEED)
            push = self._rehearse(moment, approach, _line(way[-1], around.world(contact.point), speed), search.least)
            if push is not None and (best is None or push.value > best.value):
                best = push
        return best

    def _rehearse(self, moment: Moment, approach: list[Point], line: list[Point], least: float) -> _Push | None:
        """The best length of one push; None when every length saves less than ``least``."""
        before, best = misplacement(moment.pose), None
        self._copy.start(moment)
        for command in approach:
            self._copy.step(command)
        for n, command in enumerate(line, 1):
            after = misplacement(self._copy.step(command).pose)
            solved = after < _NEAR and self._copy.solved()
            value = before - after - _STEP_PRICE * (len(approach) + n) + _SOLVED * solved
            if before - after > least and (best is None or value > best.value):
                best = _Push((*approach, *line[:n]), value)
            if solved or after > before + _HOPELESS:
                break
        return best


def _walk(start: Point, corners: Sequence[Point], speed: float) -> list[Point]:
    """Points ``speed`` apart along a chain of corners, the last at its end."""
    points, here, left = [], start, speed
    for corner in corners:
        while (distance := math.dist(here, corner)) > left:
            here = _towards(here, corner, left / distance)
            points.append(here)
            left = speed
        left, here = left - distance, corner
    return points if left == speed else [*points, here]


def _line(start: Point, contact: Point, speed: float) -> list[Point]:
    """Commands of a push from ``start`` through a point of the outline."""
    arrival = CLEARANCE / speed
    return [
        _towards(start, contact, (k + 1) * speed / math.dist(start, contact))
        for k in range(math.ceil(arrival) + _PUSH_STEPS)
    ]


def _towards(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
