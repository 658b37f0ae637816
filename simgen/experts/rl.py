"""A learned actor for one subgoal: weights in an npz beside the task, run with numpy alone.

Training (``simgen.experts.rl_train``) needs torch and stable-baselines3; using the result needs neither.
``python -m simgen.experts.rl_train <task.json> ...`` makes ``rl_<subgoal>.npz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from robostack.errors import CheckpointError
from robostack.sim.env import TaskEnv
from robostack.task.spec import Subgoal
from simgen.experts.method import Context, weights_path
from simgen.experts.result import Code, Result
from simgen.experts.rl_env import Eye, Limb, Moves, Send
from simgen.experts.skills import Skills
from simgen.experts.trajopt_cost import Objective
from simgen.experts.trajopt_moves import philox

FORMAT = 2


@dataclass(frozen=True)
class Actor:
    """Observation -> decision in [-1, 1]: ReLU layers, then tanh; float32 throughout.

    Attributes:
        weights, biases: per layer (out, in) and (out,).
        mean, scale: the observation is normalised to (observation - mean) * scale.
        moves: what a decision does.
        noise: spread of what is added to every decision when the actor is run. A policy that soft actor-critic learns
            is stochastic: without noise it may stay for ever between two things that attract it alike.
    """

    weights: tuple[Float[np.ndarray, "_ _"], ...]
    biases: tuple[Float[np.ndarray, " _"], ...]
    mean: Float[np.ndarray, " Do"]
    scale: Float[np.ndarray, " Do"]
    moves: Moves
    noise: float = 0.0

    def decide(self, observation: Float[np.ndarray, " Do"]) -> Float[np.ndarray, " A"]:
        """The decision for one observation; the same bits in every process."""
        x = (observation - self.mean) * self.scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum((weight * x).sum(axis=1) + bias, np.float32(0.0))
        return np.tanh((self.weights[-1] * x).sum(axis=1) + self.biases[-1])

    def save(self, path: Path) -> None:
        """Write an npz."""
        layers: dict[str, Any] = {f"w{i}": w for i, w in enumerate(self.weights)}
        layers |= {f"b{i}": b for i, b in enumerate(self.biases)}
        moves = np.array([self.moves.repeat, self.moves.window, self.moves.grip, self.moves.height, *self.moves.step])
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"format": FORMAT, "mean": self.mean, "scale": self.scale, "moves": moves, "noise": self.noise}
        np.savez_compressed(path, **whole, **layers)

    @classmethod
    def load(cls, path: Path) -> Actor:
        """Read an npz; raises CheckpointError when it is missing, corrupt, of another format or holds NaN."""
        try:
            with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
            depth = sum(name.startswith("w") for name in values)
            if int(values["format"]) != FORMAT or depth < 1:
                raise ValueError(f"format {values['format']}, {depth} layers")
            repeat, window, grip, height, *step = values["moves"].tolist()
            moves = Moves(int(repeat), (step[0], step[1], step[2], step[3], step[4]), int(window), grip, height)
            layers = [(values[f"w{i}"], values[f"b{i}"]) for i in range(depth)]
            weights, biases = tuple(w for w, _ in layers), tuple(b for _, b in layers)
            actor = cls(weights, biases, values["mean"], values["scale"], moves, float(values["noise"]))
            actor.check()
        except Exception as error:  # a damaged file fails in numpy, zipfile, zlib or here
            raise CheckpointError(f"{path} holds no learned actor ({error}): train it again with rl_train") from error
        return actor

    def check(self) -> None:
        """Raise ValueError when shapes do not chain or a value is not finite float32."""
        width = len(self.mean)
        for array in (*self.weights, *self.biases, self.mean, self.scale):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError("values are not finite float32")
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.shape != (len(bias), width):
                raise ValueError(f"a layer of shape {weight.shape} cannot follow {width} inputs")
            width = len(bias)
        if not 0.0 <= self.noise <= 1.0:
            raise ValueError(f"noise {self.noise} is not within 0 to 1")
        if width != np.count_nonzero(self.moves.step) or self.scale.shape != self.mean.shape:
            raise ValueError(f"{width} outputs do not drive the steps {self.moves.step}")


class LearnedMethod:
    """The method "rl": follows the actor that lies beside the task, if there is one for the subgoal."""

    name = "rl"

    def attempt(self, ctx: Context, subgoal: Subgoal) -> Result:
        """Decide, act, look, until the subgoal holds; raises EpisodeOver when the episode ends meanwhile."""
        path = weights_path(ctx.folder, ctx.index)
        if path is None:
            return Result(Code.PRECOND_FALSE, f"no learned actor for subgoal {ctx.index}")
        actor = Actor.load(path)
        if ctx.env.t_s > 0.0:  # training started every episode from the rest pose
            ctx.skills.home()
        limb, eye = Limb(ctx.env, ctx.skills, actor.moves), Eye(ctx.env, subgoal.goal)
        if eye.width != len(actor.mean):
            return Result(Code.PRECOND_FALSE, f"{path.name} expects {len(actor.mean)} observations, not {eye.width}")
        run = Run(actor, limb, eye, philox("rl", ctx.scene_seed, ctx.index))
        objective, held = Objective(ctx.env, subgoal.goal, window=actor.moves.window), 0
        run.begin(ctx.send)
        while held < actor.moves.window:
            run.step(ctx.send)
            held = held + 1 if objective.reached(ctx.env) else 0
        return Result(Code.OK)


@dataclass(frozen=True)
class Run:
    """An actor at work; ``rng`` draws its noise."""

    actor: Actor
    limb: Limb
    eye: Eye
    rng: np.random.Generator

    def begin(self, send: Send) -> None:
        """Go to where the actor starts."""
        self.limb.begin(send)
        self.eye.progress.begin()

    def step(self, send: Send) -> None:
        """Look, decide, act."""
        decision = self.actor.decide(self.eye.look(self.limb.where()))
        self.limb.decide(decision + self.actor.noise * self.rng.standard_normal(len(decision)), send)


def success_rate(env: TaskEnv, actor: Actor, index: int, scene_seeds: list[int]) -> int:
    """On how many scene seeds the actor alone makes subgoal ``index`` hold within the horizon."""
    solved = 0
    for scene_seed in scene_seeds:
        env.reset_scene(scene_seed)
        goal = env.task.subgoals[index].goal
        run = Run(actor, Limb(env, Skills(env), actor.moves), Eye(env, goal), philox("rl", scene_seed, index))
        objective, held = Objective(env, goal, window=actor.moves.window), 0
        run.begin(env.apply)
        while held < actor.moves.window and not env.over:
            run.step(env.apply)
            held = held + 1 if objective.reached(env) else 0
        solved += held >= actor.moves.window and not env.monitor.violated
    return solved
