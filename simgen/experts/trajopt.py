"""Trajectory optimisation on copies of the simulator: for subgoals that no skill reaches, or of which nothing is known.

Candidates are knots of the tool's pose. They are proposed as strokes around the objects of the subgoal, improved by the
cross-entropy method or by MPPI (one loop, two update rules), and simulated exactly as they would be executed. Planning
goes on in a receding horizon until a plan is found at whose end the subgoal holds; that plan is replayed on a copy of
the environment before it is executed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError
from robostack.task.spec import Subgoal
from simgen.experts.method import Context
from simgen.experts.motion import Pose
from simgen.experts.result import Code, Result
from simgen.experts.trajopt_cost import Judgement, Objective
from simgen.experts.trajopt_moves import Gaussian, Moves, Timing, Update, philox
from simgen.experts.trajopt_rollout import Actions, Rollouts, ToolPath, fork

_STROKES = 0.8  # share of the proposals; the others move on from where the tool is
_BATCH = 16  # candidates between two looks at whether one is good enough


@dataclass(frozen=True)
class Budget:
    """How much is simulated. Counts, not seconds: the result must not depend on the machine.

    Attributes:
        population: candidates per iteration; the first iteration of a plan has twice as many.
        elites: candidates that the next iteration is drawn around.
        iterations: of the first plan; later ones, which continue it, take half as many.
        plans: plans for one subgoal in one episode, over all attempts at it.
        horizon_s: length of a plan, without the way out [s].
        knots: per plan.
        replan_s: how much of a plan that does not reach the subgoal is executed before the next one [s].
        back_s: way out at the end of a plan: the last stretch in reverse, so that success survives letting go [s].
        hold_s: the subgoal must hold this long at the end of a plan [s].
        sigma: first deviation of x, y, z [m], yaw [rad], opening.
        update: "cem" or "mppi".
        threads: of the simulator; None takes all cores. The result does not depend on it.
    """

    population: int = 48
    elites: int = 6
    iterations: int = 4
    plans: int = 8
    horizon_s: float = 2.4
    knots: int = 12
    replan_s: float = 0.6
    back_s: float = 0.5
    hold_s: float = 0.25
    sigma: tuple[float, float, float, float, float] = (0.03, 0.03, 0.015, 0.17, 0.15)
    update: Update = "cem"
    threads: int | None = None

    def __post_init__(self):
        counts = {"population": self.population, "iterations": self.iterations, "plans": self.plans}
        for name, value in counts.items():
            if value < 1:
                raise ConfigError(f"trajopt: {name}={value} must be at least 1")
        if not 1 <= self.elites <= self.population:
            raise ConfigError(f"trajopt: elites={self.elites} must lie between 1 and population={self.population}")
        if self.update not in ("cem", "mppi"):
            raise ConfigError(f"trajopt: update='{self.update}' must be cem or mppi")
        if not 0.0 < self.replan_s <= self.horizon_s or self.knots < 2:
            raise ConfigError(
                f"trajopt: needs 0 < replan_s <= horizon_s and knots >= 2, not replan_s={self.replan_s:g},"
                f" horizon_s={self.horizon_s:g}, knots={self.knots}"
            )


@dataclass(frozen=True)
class Plan:
    """The best candidate of a search: its knots, its path with the way out, the actions, and what they are worth."""

    knots: Float[np.ndarray, "K 5"]
    path: ToolPath
    actions: Float[np.ndarray, "T Da"]
    worth: Judgement


class TrajOpt:
    """The method "trajopt"; ``solves`` holds the simulated control steps of every attempt."""

    name = "trajopt"

    def __init__(self, budget: Budget | None = None):
        self.budget = budget or Budget()
        self.solves: list[int] = []
        self._spent: dict[int, int] = {}  # subgoal -> plans made for it in this episode
        self._last = (-1, 0.0)  # scene seed and time at the end of the last attempt

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """Search, verify, execute; raises EpisodeOver when the episode ends meanwhile."""
        if ctx.scene_seed != self._last[0] or ctx.env.t_s < self._last[1]:  # another episode
            self._spent = {}
        first = self._spent.get(ctx.index, 0)
        if first >= self.budget.plans:
            return Result(Code.TIMEOUT, f"the {self.budget.plans} plans of this episode are spent")
        search = Search(ctx, subgoal, self.budget)
        try:
            return search.run(first)
        finally:
            self._spent[ctx.index] = search.number + 1
            self._last = (ctx.scene_seed, ctx.env.t_s)
            self.solves.append(search.rollouts.control_steps)
            search.rollouts.close()


class Search:
    """One attempt at one subgoal."""

    def __init__(self, ctx: Context, subgoal: Subgoal, budget: Budget):
        self.ctx, self.subgoal, self.budget, env = ctx, subgoal, budget, ctx.env
        self.env, self.planner = env, ctx.skills.planner
        per_knot = max(1, round(budget.horizon_s / budget.knots / env.dt_s))
        self.timing = Timing(budget.knots, per_knot, env.dt_s)
        self.shift = max(1, round(budget.replan_s / (per_knot * env.dt_s)))
        threads = budget.threads or len(os.sched_getaffinity(0))
        self.rollouts = Rollouts(env, threads=threads)
        self.actions = Actions(env, self.planner)
        window = max(2, round(budget.hold_s / env.dt_s))
        self.objective = Objective(env, subgoal.goal, window=window)
        self.back = max(window, round(budget.back_s / env.dt_s))
        self.start = np.array([*ctx.skills.pose.pos, ctx.skills.pose.yaw, ctx.skills.opening])
        self.number = 0

    def run(self, first: int) -> Result:
        """Plan in a receding horizon, from plan ``first`` on, until the subgoal holds or the budget is spent."""
        if not self.objective.entities:
            return Result(Code.PRECOND_FALSE, "the subgoal names nothing that can move")
        prior: Gaussian | None = None
        best = -np.inf
        for number in range(first, self.budget.plans):
            self.number = number
            plan = self.plan(number, prior)
            best = max(best, plan.worth.margin)
            if plan.worth.held and self.verified(plan) and self._execute(plan.path, plan.actions):
                return Result(Code.OK, f"after {number + 1} plans")
            steps = self.shift * self.timing.steps
            if plan.worth.violated:  # rather look again than execute it
                continue
            if self._execute(plan.path[:steps], plan.actions[:steps]):
                return Result(Code.OK, f"on the way of plan {number + 1}")
            prior = Gaussian(plan.knots, np.broadcast_to(self._sigma, plan.knots.shape)).shifted(
                self.shift, self._sigma
            )
        return Result(Code.POST_FALSE, f"none of {self.budget.plans} plans reached it; best margin {best:.3f}")

    def plan(self, number: int, prior: Gaussian | None) -> Plan:
        """The best candidate of the ``number``-th search; ``prior`` is what is left of the one before."""
        moves = Moves(self.env, self.planner, self.subgoal.goal, self.timing)
        key = (self.env.task.id, self.ctx.scene_seed, self.ctx.index, number, self.env.t_s)
        rng, n = philox(*key, 0), self.budget.population
        kinds = [moves.stroke if rng.random() < _STROKES else moves.wiggle for _ in range(n)]
        knots = [propose(self.start, rng) for propose in kinds]
        if prior is None:
            knots += [moves.stroke(self.start, rng) for _ in range(n)]
        else:
            knots = [*prior.sample(n // 2, rng), *knots[: n - n // 2]]
        best, candidates, costs = self._score(moves, np.stack(knots), None)
        # Strokes from different sides must not be averaged: go on around the best one alone.
        belief = Gaussian(best.knots, np.broadcast_to(self._sigma, best.knots.shape))
        rounds = self.budget.iterations if prior is None else max(1, self.budget.iterations // 2)
        for iteration in range(1, rounds):
            if best.worth.held:
                break
            sample = belief.sample(n, philox(*key, iteration))
            best, candidates, costs = self._score(moves, sample, best)
            belief = belief.updated(candidates, costs, elites=self.budget.elites, rule=self.budget.update)
        return best

    def verified(self, plan: Plan) -> bool:
        """Whether the plan, applied to a copy of the environment, makes the subgoal hold as long as it has to."""
        twin, held = fork(self.env), 0
        for action in plan.actions:
            if held >= self.objective.window or twin.over:
                break
            twin.apply(action)
            held = held + 1 if self.objective.reached(twin) else 0
        return held >= self.objective.window

    @property
    def _sigma(self) -> np.ndarray:
        sigma = np.asarray(self.budget.sigma)
        sigma[:3] *= max(0.5, self.env.scene.card.object_scale)
        return sigma

    def _score(
        self, moves: Moves, knots: np.ndarray, best: Plan | None
    ) -> tuple[Plan, Float[np.ndarray, "N K 5"], Float[np.ndarray, " N"]]:
        """Simulate and judge candidates in batches, until one reaches the subgoal.

        Returns the best so far, and those that were judged with their costs.
        """
        plans: list[Plan] = []
        for first in range(0, len(knots), _BATCH):
            feasible = [moves.feasible(self.start, k) for k in knots[first : first + _BATCH]]
            paths = [moves.path(self.start, k).then_back(self.back) for k in feasible]
            actions = [self.actions.of(path, self.env.controller.q) for path in paths]
            states = self.rollouts.simulate(actions)
            worths = [self.objective.judge(self.rollouts, s, p) for s, p in zip(states, paths, strict=True)]
            plans += [Plan(*parts) for parts in zip(feasible, paths, actions, worths, strict=True)]
            if any(w.held for w in worths):
                break
        best = min(plans if best is None else [best, *plans], key=lambda p: (not p.worth.held, p.worth.cost))
        return best, np.stack([p.knots for p in plans]), np.array([p.worth.cost for p in plans])

    def _execute(self, path: ToolPath, actions: np.ndarray) -> bool:
        """Execute a path, or as much of it as it takes; returns whether the subgoal held for the final window."""
        skills, held = self.ctx.skills, 0
        for (pose, opening), action in zip(path.poses(), actions, strict=True):
            self.ctx.send(action)
            skills.pose, skills.opening = Pose(pose.pos.copy(), pose.yaw), opening
            held = held + 1 if self.objective.reached(self.env) else 0
            if held >= self.objective.window:
                break
        self.start = np.array([*skills.pose.pos, skills.pose.yaw, skills.opening])
        return held >= self.objective.window
