"""Where candidates come from: strokes around an object to begin with, then noise around the best (CEM or MPPI).

A candidate is a table of knots (K, 5): tool position [m, world], yaw [rad], gripper opening, evenly spaced in time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from robostack.sim.env import TaskEnv
from robostack.task.evaluate import ground
from robostack.task.geometry import extent_z
from robostack.task.predicate import AnyPred
from simgen.experts.motion import Planner
from simgen.experts.trajopt_cost import anchors, destination, movables
from simgen.experts.trajopt_rollout import ToolPath

Knots = Float[np.ndarray, "K 5"]
Update = Literal["cem", "mppi"]

_OVER = 0.015  # between fingertips and what they pass over [m]
_FLOOR = 0.004  # between fingertips and table [m]
_MIN_SIGMA = np.array([0.004, 0.004, 0.004, 0.03, 0.03])


def philox(*key: object) -> np.random.Generator:
    """A generator that depends on the key alone, in every process."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


@dataclass(frozen=True)
class Timing:
    """Knots of a candidate, control steps between two of them, and the speed limit of the tool."""

    knots: int
    steps: int
    dt_s: float
    speed: float = 0.5

    @property
    def stride(self) -> float:
        """Farthest that the tool moves from one knot to the next [m]."""
        return self.speed * self.steps * self.dt_s


class Moves:
    """Proposals for one subgoal of one environment, in its present state."""

    def __init__(self, env: TaskEnv, planner: Planner, goal: AnyPred, timing: Timing):
        self.env, self.planner, self.timing = env, planner, timing
        world, goal = env.scene.world, ground(goal, env.task)
        self.entities = movables(goal, world)
        self._aims = {e: destination(goal, e, world) for e in self.entities}
        x0, y0, x1, y1 = env.scene.card.workspace
        self._floor = planner.tip_below + _FLOOR
        self._low = np.array([x0 - 0.1, y0 - 0.1, self._floor, -np.pi / 2, 0.0])
        self._high = np.array([x1 + 0.1, y1 + 0.1, 0.45, np.pi / 2, 1.0])

    def feasible(self, start: Float[np.ndarray, "5"], knots: Knots) -> Knots:
        """The knots within workspace and speed limit."""
        out, last = np.clip(knots, self._low, self._high), start
        turn = 2.5 * self.timing.steps * self.timing.dt_s
        for knot in out:
            step = knot[:3] - last[:3]
            length = float(np.linalg.norm(step))
            if length > self.timing.stride:
                knot[:3] = last[:3] + step * (self.timing.stride / length)
            knot[3] = last[3] + np.clip(knot[3] - last[3], -turn, turn)
            last = knot
        return out

    def path(self, start: Float[np.ndarray, "5"], knots: Knots) -> ToolPath:
        """Straight lines through the knots at the control rate."""
        rows = np.concatenate([start[None], knots])
        n = self.timing.steps
        at = np.arange(1, self.timing.knots * n + 1) / n
        fine = np.stack([np.interp(at, np.arange(len(rows)), column) for column in rows.T], axis=1)
        return ToolPath(fine[:, :3], fine[:, 3], fine[:, 4])

    def stroke(self, start: Float[np.ndarray, "5"], rng: np.random.Generator) -> Knots:
        """Go to a random side or to the top of an object and push from there, rather towards where it shall be."""
        world = self.env.scene.world
        entity = self.entities[int(rng.integers(len(self.entities)))]
        points = anchors(world, (entity,))
        center, binding = points[int(rng.integers(len(points)))], world.entities[entity]
        aim, angle, length = self._aims[entity], rng.uniform(-np.pi, np.pi), rng.uniform(0.03, 0.2)
        if aim is not None and rng.random() < 0.6:
            way = aim[:2] - center[:2]
            angle = float(np.arctan2(way[1], way[0])) + 0.35 * rng.standard_normal()
            length = float(np.linalg.norm(way)) * rng.uniform(0.5, 1.2)
        ahead = np.array([np.cos(angle), np.sin(angle), 0.0])
        left = np.array([-ahead[1], ahead[0], 0.0])
        low, high = (center[2], center[2]) if binding.joints else extent_z(world, entity)
        half = np.zeros(3) if binding.joints else np.asarray(binding.half)
        reach, width = (float(np.abs(world.rot(entity).T @ d) @ half) for d in (ahead, left))
        wrist, opening = rng.uniform(-np.pi / 2, np.pi / 2), float(rng.choice([0.0, 0.0, rng.random()]))
        contact = center + left * width * rng.uniform(-0.9, 0.9)
        if rng.random() < 0.25:  # from above: press, then drag
            contact[2] = high + self.planner.tip_below + 0.01
            legs = [contact, contact - [0, 0, 0.014], contact - [0, 0, 0.014] + ahead * length]
        else:
            contact = contact - ahead * (reach + self.planner.pad_half_width + 0.012)
            contact[2] = max(self._floor, low + self.planner.tip_below + rng.uniform(0.0, 1.0) * (high - low))
            legs = [contact, contact + ahead * (length + 0.012)]
        return self._through(start, legs, wrist, opening)

    def wiggle(self, start: Float[np.ndarray, "5"], rng: np.random.Generator) -> Knots:
        """From where the tool is: a small detour, a stroke in any direction, and perhaps a change of the opening."""
        end = start[:3] + rng.standard_normal(3) * [0.05, 0.05, 0.04]
        legs = [start[:3] + rng.standard_normal(3) * 0.008, end]
        knots = np.repeat(start[None], self.timing.knots, axis=0)
        split = int(rng.integers(1, self.timing.knots))
        knots[:split, :3] = np.linspace(start[:3], legs[0], split + 1)[1:]
        knots[split:, :3] = np.linspace(legs[0], legs[1], self.timing.knots - split)
        knots[:, 3] += np.linspace(0, 0.3 * rng.standard_normal(), self.timing.knots)
        if rng.random() < 0.5:
            knots[int(rng.integers(self.timing.knots)) :, 4] = rng.random()
        return knots

    def _through(self, start: np.ndarray, legs: list[np.ndarray], wrist: float, opening: float) -> Knots:
        """Over everything to the first point unless it is near, then along the legs."""
        tops = [extent_z(self.env.scene.world, e)[1] for e in self.env.scene.world.entities]
        high = max([*tops, 0.0]) + self.planner.tip_below + _OVER
        first, waypoints = legs[0], list(legs)
        if np.linalg.norm(first - start[:3]) > 0.04:
            up = [np.array([*start[:2], high])] if start[2] < high - 0.005 else []
            waypoints = [*up, np.array([*first[:2], max(high, first[2])]), *legs]
        rows, last = [], start[:3]
        for point in waypoints:
            n = max(1, int(np.ceil(np.linalg.norm(point - last) / self.timing.stride)))
            rows += [last + (point - last) * (k + 1) / n for k in range(n)]
            last = point
        rows = (rows + [rows[-1]] * self.timing.knots)[: self.timing.knots]
        return np.column_stack([rows, np.full(len(rows), wrist), np.full(len(rows), opening)])


@dataclass(frozen=True)
class Gaussian:
    """A distribution over knots with independent elements."""

    mean: Knots
    sigma: Knots

    def sample(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "N K 5"]:
        """``n`` candidates, the mean itself first. Noise is smoothed over time: jitter pushes nothing."""
        noise = rng.standard_normal((n, *self.mean.shape))
        noise[:, 1:] = 0.6 * noise[:, 1:] + 0.8 * noise[:, :-1]
        noise[0] = 0.0
        return self.mean + self.sigma * noise

    def updated(
        self, candidates: Float[np.ndarray, "N K 5"], costs: Float[np.ndarray, " N"], *, elites: int, rule: Update
    ) -> Gaussian:
        """CEM: mean and deviation of the elites (Rubinstein 1999). MPPI: exponential weights (Williams et al. 2017).

        MPPI is CEM's step with soft elites: the weights are exp(-(J - min J) / temperature), where the temperature is
        the spread of the costs of the best ``elites`` candidates.
        """
        order = np.argsort(costs, kind="stable")[:elites]
        best = costs[order]
        weights = np.full(len(order), 1.0 / len(order))
        if rule == "mppi":
            weights = np.exp(-(best - best[0]) / max(1e-9, float(best[-1] - best[0]) / 3.0))
            weights /= weights.sum()
        chosen = candidates[order]
        mean = np.tensordot(weights, chosen, axes=1)
        spread = np.sqrt(np.tensordot(weights, (chosen - mean) ** 2, axes=1))
        return Gaussian(mean, np.maximum(0.2 * self.sigma + 0.8 * spread, _MIN_SIGMA))

    def shifted(self, knots: int, sigma: Float[np.ndarray, "5"]) -> Gaussian:
        """The rest of a plan of which ``knots`` knots were executed; its end is held."""
        tail = np.repeat(self.mean[-1:], knots, axis=0)
        mean = np.concatenate([self.mean[knots:], tail])
        return Gaussian(mean, np.broadcast_to(sigma, mean.shape))
