"""Learns one subgoal with soft actor-critic (Haarnoja et al. 2018): ``python -m simgen.experts.rl_train --help``.

Training goes in rounds. A round is a pure function of the checkpoint before it and of (task, subgoal, seed): a training
that was interrupted and started again ends with the same bits as one that was not, on one machine and one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robostack.data.atomic import read_json, write_json
from robostack.errors import CheckpointError, ConfigError, MissingExtra
from robostack.sim.env import TaskEnv
from robostack.sim.scene import eval_seed
from robostack.task.spec import TaskSpec
from simgen.experts.rl import Actor, success_rate
from simgen.experts.rl_env import Moves, Scout, SubgoalEnv

_UNSEEN = 500_000  # first evaluation seed of the final figure; the curve uses later ones
_CURVE_SEEDS, _CURVE_FIRST = 8, 600_000
_NOISES = (0.0, 0.3, 0.5)  # that the actor may run with; the curve is with the second
_WARM_UP = 400  # random decisions from which the normalisation is taken


@dataclass(frozen=True)
class RlBudget:
    """How long and how the actor learns.

    Attributes:
        rounds, steps: at most so many rounds of so many decisions each.
        test: unseen seeds for the final figure.
        stop: share of the curve's seeds that ends training when two rounds in a row reach it.
        explore: decisions of the scout to begin with.
        hidden: width of the two layers.
    """

    rounds: int = 12
    steps: int = 2500
    test: int = 32
    stop: float = 0.99
    explore: int = 2500
    hidden: int = 64
    batch: int = 256
    rate: float = 1e-3  # of learning, to begin with; falls to a tenth
    moves: Moves = field(default_factory=Moves)

    def __post_init__(self):
        if min(self.rounds, self.steps, self.test, self.explore, self.hidden, self.batch) < 1 or self.rate <= 0:
            raise ConfigError(f"rl: every number of the budget must be positive, not {self}")


@dataclass(frozen=True)
class RlReport:
    """What came out.

    Attributes:
        k, n: solved and tried seeds, none of which training saw.
        steps: decisions taken while learning.
        wall_s: seconds spent, over all sessions.
        curve: (decisions, solved share of 8 seeds) after each round.
        actor: where the weights are.
    """

    k: int
    n: int
    steps: int
    wall_s: float
    curve: tuple[tuple[int, float], ...]
    actor: Path


def train_rl(spec: TaskSpec, index: int, *, seed: int, budget: RlBudget, out: Path) -> RlReport:
    """Learn subgoal ``index`` of a task; writes ``rl_<index>.npz`` into ``out``, and goes on where it was stopped.

    The actor is that of the best round by the curve, the last of equals; the noise with which it runs is chosen on the
    curve's seeds as well. The final figure is on other seeds.

    Raises:
        ConfigError: the task has no such subgoal.
        MissingExtra: stable-baselines3 is not installed.
        CheckpointError: ``out`` holds the training of another task, seed or budget, or a damaged one.
    """
    if not 0 <= index < len(spec.subgoals):
        raise ConfigError(f"rl: task '{spec.name}' has subgoals 0 to {len(spec.subgoals) - 1}, not {index}")
    run = _Run(spec, index, seed, budget, out)
    while not run.finished:
        run.round()
    actor = run.steadied(Actor.load(run.folder / "best.npz"))
    actor.save(out / f"rl_{index}.npz")
    k = success_rate(TaskEnv(spec), actor, index, [eval_seed(_UNSEEN + i) for i in range(budget.test)])
    steps = run.curve[-1][0] if run.curve else 0
    return RlReport(k, budget.test, steps, run.wall_s, tuple(run.curve), out / f"rl_{index}.npz")


class _Run:
    """A training in progress, with its checkpoint in ``out/rl_<index>_training``."""

    def __init__(self, spec: TaskSpec, index: int, seed: int, budget: RlBudget, out: Path):
        try:
            from stable_baselines3 import SAC
        except ImportError as error:
            raise MissingExtra("stable-baselines3", "gen") from error
        import torch

        torch.set_num_threads(1)
        self.torch, self.budget, self.index, self.seed, self.spec = torch, budget, index, seed, spec
        self.folder = out / f"rl_{index}_training"
        self.env = SubgoalEnv(spec, index, budget.moves)
        self.mean, self.scale = self._statistics()
        self.test_env = TaskEnv(spec)
        self.model: Any = SAC(
            "MlpPolicy",
            _Scaled(self.env, self.mean, self.scale),
            learning_rate=budget.rate,
            buffer_size=budget.explore + budget.rounds * budget.steps + 1,
            batch_size=budget.batch,
            learning_starts=0,
            gamma=0.95,
            tau=0.02,
            train_freq=1,
            gradient_steps=1,
            policy_kwargs={"net_arch": [budget.hidden, budget.hidden]},
            seed=seed,
            device="cpu",
        )
        self.curve: list[tuple[int, float]] = []
        self.wall_s = 0.0
        self.key = json.dumps({"task": spec.id, "index": index, "seed": seed, **asdict(budget)}, sort_keys=True)
        if (self.folder / "state.json").is_file():
            self._load()

    @property
    def finished(self) -> bool:
        """All rounds are done, or two in a row were good enough."""
        good = [share >= self.budget.stop for _, share in self.curve[-2:]]
        return len(self.curve) >= self.budget.rounds or (len(good) == 2 and all(good))

    def round(self) -> None:
        """Learn ``budget.steps`` decisions, test, write the checkpoint."""
        from stable_baselines3.common.utils import set_random_seed

        start, number = time.monotonic(), len(self.curve)
        set_random_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]) % 2**31)
        self.model.action_space.seed(self.seed + number)
        if number == 0:
            self._explore()
        self.model._last_obs = None  # every round begins with a fresh episode, as it does after an interruption
        left = 1.0 - number / self.budget.rounds
        self.model.lr_schedule = lambda _: self.budget.rate * (0.1 + 0.9 * left)
        self.model.learn(self.budget.steps, reset_num_timesteps=False)
        actor = self.actor()
        share = self._curve_share(actor)
        if share >= max((before for _, before in self.curve), default=0.0):
            actor.save(self.folder / "best.npz")
        self.curve.append((self.budget.explore + self.model.num_timesteps, share))
        self.wall_s += time.monotonic() - start
        self._save()

    def _explore(self) -> None:
        """Fill the buffer with what the scout does."""
        env, obs = self.env, self.env.reset()[0]
        scout = Scout(env, np.random.Generator(np.random.Philox(key=[self.seed, 2])))
        scout.begin()
        for _ in range(self.budget.explore):
            decision = scout.decide()
            after, reward, over, late, _ = env.step(decision)
            pair = ((obs - self.mean) * self.scale)[None], ((after - self.mean) * self.scale)[None]
            flags = np.array([reward]), np.array([over or late]), [{"TimeLimit.truncated": late}]
            self.model.replay_buffer.add(*pair, decision[None], *flags)
            obs = after
            if over or late:
                obs = env.reset()[0]
                scout.begin()

    def actor(self) -> Actor:
        """The deterministic part of the policy, as numpy arrays."""
        policy = self.model.policy.actor
        layers = [m for m in policy.latent_pi if hasattr(m, "weight")] + [policy.mu]
        arrays = [(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in layers]
        weights, biases = tuple(w for w, _ in arrays), tuple(b for _, b in arrays)
        return Actor(weights, biases, self.mean, self.scale, self.budget.moves, _NOISES[1])

    def steadied(self, actor: Actor) -> Actor:
        """The actor with the noise that does best on the curve's seeds, the least of equals."""
        rates = {noise: self._curve_share(replace(actor, noise=noise)) for noise in _NOISES}
        return replace(actor, noise=max(_NOISES, key=lambda noise: rates[noise]))

    def _curve_share(self, actor: Actor) -> float:
        seeds = [eval_seed(_CURVE_FIRST + i) for i in range(_CURVE_SEEDS)]
        return success_rate(self.test_env, actor, self.index, seeds) / len(seeds)

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and inverse spread of what random decisions see: the normalisation, fixed for the whole training."""
        rng, seen = np.random.Generator(np.random.Philox(key=[self.seed, 1])), []
        self.env.next_seed = 2**20
        seen.append(self.env.reset()[0])
        for _ in range(min(_WARM_UP, self.budget.explore)):
            obs, _, over, late, _ = self.env.step(rng.uniform(-1, 1, self.env.action_space.shape))
            seen.append(self.env.reset()[0] if over or late else obs)
        self.env.next_seed = 0
        table = np.stack(seen)
        return table.mean(axis=0), (1.0 / np.maximum(table.std(axis=0), 0.02)).astype(np.float32)

    # Checkpoint: no pickles; torch reads with weights_only.

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number, model, buffer = len(self.curve), self.model, self.model.replay_buffer
        params: dict[str, Any] = model.get_parameters()
        params["log_ent_coef"] = model.log_ent_coef.detach()
        self.torch.save(params, self.folder / f"params_{number}.pt")
        end = buffer.pos
        names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
        np.savez(self.folder / f"buffer_{number}.npz", **{n: getattr(buffer, n)[:end] for n in names})
        state = {
            "key": self.key,
            "curve": self.curve,
            "wall_s": self.wall_s,
            "next_seed": self.env.next_seed,
            "updates": model._n_updates,
        }
        write_json(self.folder / "state.json", state)  # last: it names the round whose files are complete
        for old in self.folder.glob(f"*_{number - 1}.*"):
            old.unlink()

    def _load(self) -> None:
        state = read_json(self.folder / "state.json", f"delete {self.folder}")
        if state["key"] != self.key:
            raise CheckpointError(
                f"{self.folder} belongs to a training of another task, seed or budget: delete it or choose another out"
            )
        self.curve = [(int(steps), float(share)) for steps, share in state["curve"]]
        self.wall_s, self.env.next_seed = float(state["wall_s"]), int(state["next_seed"])
        number, model = len(self.curve), self.model
        try:
            params = self.torch.load(self.folder / f"params_{number}.pt", weights_only=True)
            with (self.folder / f"buffer_{number}.npz").open("rb") as handle, np.load(handle) as file:
                columns = {name: file[name] for name in file.files}
            model.log_ent_coef.data.copy_(params.pop("log_ent_coef"))
            model.set_parameters(params)
        except Exception as error:
            raise CheckpointError(f"{self.folder} is damaged ({error}): delete it to start again") from error
        buffer = model.replay_buffer
        for name, column in columns.items():
            getattr(buffer, name)[: len(column)] = column
        buffer.pos = len(columns["actions"])
        model.num_timesteps = self.curve[-1][0] - self.budget.explore
        model._n_updates = int(state["updates"])
        model._episode_num = 1


def _Scaled(env: SubgoalEnv, mean: np.ndarray, scale: np.ndarray):  # noqa: N802  # a wrapper class in all but name
    import gymnasium

    box = env.observation_space
    return gymnasium.wrappers.TransformObservation(env, lambda obs: (obs - mean) * scale, box)


def main(args: list[str]) -> int:
    """Train from the command line and print the report as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m simgen.experts.rl_train", description="Learn one subgoal of a task."
    )
    parser.add_argument("task", type=Path, help="a task.json")
    parser.add_argument("--subgoal", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=RlBudget.rounds)
    parser.add_argument("--stop", type=float, default=RlBudget.stop)
    parser.add_argument("--steps", type=int, default=RlBudget.steps)
    parser.add_argument("--step", type=float, nargs=3, default=Moves.step[:3], help="farthest move per decision [m]")
    parser.add_argument("--height", type=float, default=Moves.height, help="of the tool to begin with [m]")
    parser.add_argument("--out", type=Path, help="default: the task's folder")
    options = parser.parse_args(args)
    moves = Moves(step=(*options.step, 0.0, 0.0), height=options.height)
    budget = replace(RlBudget(), rounds=options.rounds, steps=options.steps, stop=options.stop, moves=moves)
    report = train_rl(
        TaskSpec.load(options.task),
        options.subgoal,
        seed=options.seed,
        budget=budget,
        out=options.out or options.task.parent,
    )
    summary: dict[str, Any] = {**asdict(report), "actor": str(report.actor)}
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
