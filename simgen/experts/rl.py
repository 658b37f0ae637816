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
from simgen.experts.rl_env import Eye, Limb, Moves
from simgen.experts.skills import Skills
from simgen.experts.trajopt_cost import Objective

FORMAT = 2


@dataclass(frozen=True)
class Actor:
    """Observation -> decision in [-1, 1]: ReLU layers, then tanh; float32 throughout.

    Attributes:
        weights, biases: per layer (out, in) and (out,).
        mean, scale: the observation is normalised to (observation - mean) * scale.
        moves: what a decision does.
    """

    weights: tuple[Float[np.ndarray, "_ _"], ...]
    biases: tuple[Float[np.ndarray, " _"], ...]
    mean: Float[np.ndarray, " Do"]
    scale: Float[np.ndarray, " Do"]
    moves: Moves

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
        np.savez_compressed(path, format=FORMAT, mean=self.mean, scale=self.scale, moves=moves, **layers)

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
            actor = cls(weights, biases, values["mean"], values["scale"], moves)
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
        objective, held = Objective(ctx.env, subgoal.goal, window=actor.moves.window), 0
        limb.begin(ctx.send)
        eye.progress.begin()
        while held < actor.moves.window:
            limb.decide(actor.decide(eye.look(limb.where())), ctx.send)
            held = held + 1 if objective.reached(ctx.env) else 0
        return Result(Code.OK)


def success_rate(env: TaskEnv, actor: Actor, index: int, scene_seeds: list[int]) -> int:
    """On how many scene seeds the actor alone makes subgoal ``index`` hold within the horizon."""
    solved = 0
    for scene_seed in scene_seeds:
        env.reset_scene(scene_seed)
        goal = env.task.subgoals[index].goal
        limb, eye = Limb(env, Skills(env), actor.moves), Eye(env, goal)
        objective, held = Objective(env, goal, window=actor.moves.window), 0
        limb.begin(env.apply)
        eye.progress.begin()
        while held < actor.moves.window and not env.over:
            limb.decide(actor.decide(eye.look(limb.where())), env.apply)
            held = held + 1 if objective.reached(env) else 0
        solved += held >= actor.moves.window and not env.monitor.violated
    return solved
