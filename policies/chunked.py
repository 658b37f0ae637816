"""What all policies that predict chunks of actions share: frames, normalisers, condition, lanes.

A subclass sees actions in network units, (B, Tp, Da), and a ``Condition``; it says how they are learnt and drawn.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.affine import Affine
from policies.base import Batch, TrainablePolicy
from policies.context import ContextPart, StateEncoder, View
from policies.discrete import DiscreteDims
from policies.frame import FRAMES, Frame
from policies.goals import GoalCfg, GoalEncoder, LaneGoals, goal_names, goal_of, goal_share, kept_goals
from policies.observed import Observed, Recorded
from policies.samplers import LaneNoise, seeded
from policies.text import NO_TEXT, TextCfg, TextEncoder
from policies.units import Units
from policies.vision import ImageCfg, ImageEncoder, PointEncoder, PointsCfg
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError
from robostack.runtime.protocols import ActivePlan, Horizon
from robostack.types import ActionChunk, Features, Observation

_STATISTICS_WINDOWS = 200_000
_ROTATION = tuple(f"r{i}" for i in range(1, 7))
_PREPARED_WINDOWS = 256
CONTEXT = ("encoder", "images", "points", "text", "goal")
"""Attributes of a policy that are parts of its context, in the order in which their outputs follow each other."""


@dataclass(frozen=True)
class ChunkCfg:
    """What every chunk policy can be told.

    Attributes:
        To, Tp, Ta: observation, prediction and execution steps.
        frame: ``gripper`` or ``world``; joint-space data always uses ``world``.
        per_step: normalise each step of the chunk by its own limits.
        encoder: hidden widths of an MLP on the observation, whose output joins the observation as the condition;
            empty for none. It sees each window once, not Tp times, so that its capacity is cheap.
        state_noise: in training, what the actions move, but for rotations, is measured off by normal noise of this
            share of half its range, and by half as much once more in each observation by itself, while the actions stay
            what they were. Commands are absolute, so this teaches the way back after small errors (the noise of
            DART, Laskey et al., arXiv 1703.09327, on recorded data); 0 disables. Without it a policy that decides at
            every control step slows down until it stands still.
        image: how it looks at pictures; None for a policy that does not.
        points: how it looks at point clouds; None for a policy that does not.
        objects: whether it is told the state of the objects; None where it has nothing to look at.
        text: how it reads its instruction; None for a policy that does not.
        goal: how it is told what is to be seen in the end; None for a policy that is not.
    """

    To: int = 2
    Tp: int = 16
    Ta: int = 8
    frame: str = "gripper"
    per_step: bool = True
    encoder: Sequence[int] = (256, 256)
    state_noise: float = 0.02
    image: ImageCfg | None = None
    points: PointsCfg | None = None
    objects: bool | None = None
    text: TextCfg | None = None
    goal: GoalCfg | None = None

    def __post_init__(self):
        if self.text is not None and self.text.encoder == NO_TEXT:
            object.__setattr__(self, "text", None)
        if isinstance(self.goal, GoalCfg) and self.goal.kind == "none":
            object.__setattr__(self, "goal", None)
        object.__setattr__(self, "encoder", tuple(int(d) for d in self.encoder))
        if any(d < 1 for d in self.encoder):
            raise ConfigError(f"encoder={self.encoder} must be positive widths, or empty for no encoder")
        if self.To < 1 or not 1 <= self.Ta <= self.Tp - self.To + 1:
            raise ConfigError(
                f"To={self.To}, Tp={self.Tp}, Ta={self.Ta} do not fit: needs To >= 1 and 1 <= Ta <= Tp - To + 1"
            )
        if not 0 <= self.state_noise < 1:
            raise ConfigError(f"state_noise={self.state_noise} must be in [0, 1), such as 0.02")
        if self.frame not in FRAMES:
            raise ConfigError(f"unknown frame '{self.frame}': use one of {', '.join(FRAMES)}")

    def observed(self, features: Features) -> Features:
        """What a policy uses of the features of a dataset; raises ConfigError for what the dataset lacks."""
        sizes = {camera[0]: camera for camera in features.cameras}
        wanted = () if self.image is None else self.image.cameras
        missing = [name for name in wanted if name not in sizes]
        if missing:
            raise ConfigError(
                f"the dataset has no camera '{missing[0]}', only {', '.join(sizes) or 'none'}: choose another for "
                f"image.cameras, or record it with  robostack demos cameras=[{missing[0]}]"
            )
        if self.points is not None and not features.points:
            raise ConfigError("the dataset has no point clouds: record them with  robostack demos points=512")
        told = self.objects if self.objects is not None else self.image is None and self.points is None
        return replace(
            features,
            environment_state=features.environment_state if told else (),
            cameras=tuple(sizes[name] for name in wanted),
            points=0 if self.points is None else features.points,
        )


@dataclass(frozen=True)
class Condition:
    """What a network is told about the present.

    Attributes:
        steps: the observations in network units, oldest first.
        context: what concerns the whole window: the encoder's output, a goal, an instruction; C may be 0.
    """

    steps: Float[Tensor, "B To Do"]
    context: Float[Tensor, "B C"]

    @property
    def flat(self) -> Float[Tensor, "B F"]:
        """Everything as one vector, To * Do + C wide."""
        return torch.cat([self.steps.flatten(1), self.context], dim=1)


@dataclass(frozen=True)
class Decision:
    """One batch of decisions to take.

    Attributes:
        cond: what is known.
        units: how actions look to the network.
        noise: chunk-shaped noise of every lane.
        elapsed: control steps since the lane's last decision; 0 where there was none.
        plan: what is being executed meanwhile, for policies that continue it; None when nothing is.
    """

    cond: Condition
    units: Units
    noise: LaneNoise
    elapsed: Int[Tensor, " B"]
    plan: ActivePlan | None = None


class ChunkPolicy(TrainablePolicy):
    """A policy whose output is a chunk of Tp actions; the first is due at the first of To observations.

    Attributes:
        step_dim: width of an observation in network units.
        parts: those of ``CONTEXT`` that it has.
        context_dim: width of what they make together.
    """

    cfg: ChunkCfg

    def __init__(self, cfg: ChunkCfg, features: Features):
        super().__init__()
        self.cfg, self.features = cfg, (features := cfg.observed(features))
        self.horizon = Horizon(To=cfg.To, Tp=cfg.Tp, Ta=cfg.Ta)
        Ds, De, Da = len(features.state), len(features.environment_state), len(features.action)
        self.frame = Frame(features, cfg.frame)
        self.state_norm, self.object_norm = Affine(Ds), Affine(De)
        self.action_norm = Affine(cfg.Tp, Da) if cfg.per_step else Affine(Da)
        self.step_dim = Ds + De
        self.encoder = StateEncoder(cfg.To * self.step_dim, cfg.encoder)
        if cfg.image is not None:
            self.images = ImageEncoder(cfg.image, features.cameras, cfg.To)
        if cfg.points is not None:
            self.points = PointEncoder(cfg.points, cfg.To)
        if cfg.text is not None:
            self.text = TextEncoder(cfg.text)
        if isinstance(cfg.goal, GoalCfg):
            self.goal = GoalEncoder(cfg.goal, goal_names(features))
        self.parts = tuple(name for name in CONTEXT if hasattr(self, name))
        self.context_dim = sum(self.context_part(name).width for name in self.parts)
        self.goals = LaneGoals(goal_names(features))
        self._lanes: list[torch.Generator] = []
        self._decided_s = np.empty(0)

    # To be said by each policy.

    @abstractmethod
    def chunk_loss(
        self, cond: Condition, actions: Float[Tensor, "B Tp Da"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Training loss of chunks in network units."""

    @abstractmethod
    def draw(self, decision: Decision) -> Float[Tensor, "B Tp Da"]:
        """Chunks in network units; may advance the policy's memory of its lanes."""

    @abstractmethod
    def forget(self, mask: Bool[Tensor, " B"]) -> None:
        """Reset the memory of the lanes of ``mask``; their number may be another than before when all are reset."""

    # Training.

    def fit_statistics(self, arrays: EpisodeArrays, windows: SequenceSampler) -> None:
        """Fit the normalisers in the policy's frame; from evenly spread windows when there are very many."""
        self.discrete = DiscreteDims.of(arrays.action)
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), _STATISTICS_WINDOWS)).astype(np.int64))
        rows, action_rows = windows.gather(chosen)
        recorded = Recorded(arrays, self.features, self.state_norm.scale.device)
        origin = self.frame.origin(torch.from_numpy(arrays.state[rows]))
        objects = self.frame.objects(recorded.objects[torch.from_numpy(rows)], origin)
        actions = self.frame.actions(torch.from_numpy(arrays.action[action_rows]), origin)
        if not self.cfg.per_step:
            actions = actions.flatten(0, 1)
        self.state_norm.fit(arrays.state, _modes(self.features.state))
        self.object_norm.fit(objects.flatten(0, 1).numpy(), _modes(self.features.environment_state))
        self.action_norm.fit(actions.numpy(), _modes(self.features.action))
        self.fit_actions(self.action_norm(actions))
        spread = np.unique(np.linspace(0, len(rows) - 1, _PREPARED_WINDOWS).astype(np.int64))
        view = self.view(recorded.at(rows[spread]))
        for name in self.parts:
            self.context_part(name).prepare(view)
        if isinstance(self.cfg.goal, GoalCfg):
            self.goal.fit(goal_of(self.features, recorded.state, recorded.objects))

    def fit_actions(self, actions: Float[Tensor, "... Da"]) -> None:
        """Fit what else depends on the actions of the dataset, in network units."""

    def goal_share(self, count: int, generator: torch.Generator) -> Float[Tensor, " B"] | None:
        """As ``goals.goal_share``."""
        cfg = self.cfg.goal
        return goal_share(cfg.kind, count, generator) if isinstance(cfg, GoalCfg) else None

    def loss(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Scalar training loss; all randomness comes from ``generator`` (CPU)."""
        cond, units = self.condition(self.aimed(batch, generator), generator)
        return self.chunk_loss(cond, units.encode(batch.action), generator)

    def aimed(self, batch: Batch, generator: torch.Generator) -> Observed:
        """The batch's observations, but for some samples with their goals."""
        if batch.goal_state is None or batch.goal_environment_state is None or not isinstance(self.cfg.goal, GoalCfg):
            return batch.observed
        goals = goal_of(self.features, batch.goal_state, batch.goal_environment_state)
        kept = kept_goals(len(goals), self.cfg.goal.drop, generator).to(goals.device)
        return replace(batch.observed, goal=goals.masked_fill(~kept[:, None], torch.nan))

    def context_part(self, name: str) -> ContextPart:
        """A part of the context by its name."""
        part = self.get_submodule(name)
        assert isinstance(part, ContextPart), name
        return part

    def view(self, observed: Observed) -> View:
        """What the parts of the context look at."""
        origin = self.frame.origin(observed.state)
        objects = self.object_norm(self.frame.objects(observed.objects, origin))
        goal = None if observed.goal is None else self.seen_goal(observed.goal, origin)
        return View(observed, torch.cat([self.state_norm(observed.state), objects], dim=-1), origin, goal)

    def seen_goal(self, goals: Float[Tensor, "B G"], origin: Float[Tensor, "B 4"]) -> Float[Tensor, "B G"]:
        """Goals in network units."""
        if not self.features.environment_state:
            return self.state_norm(goals)
        return self.object_norm(self.frame.objects(goals[:, None], origin))[:, 0]

    def condition(self, observed: Observed, generator: torch.Generator | None = None) -> tuple[Condition, Units]:
        """What the network is told about observations, and the units of its actions.

        In training ``generator`` (CPU) augments what is looked at; without it, or in evaluation mode, nothing does.
        """
        if generator is not None and self.training and self.cfg.state_noise:
            observed = replace(observed, state=self._misread(observed.state, generator))
        view = self.view(observed)
        context = torch.cat([self.context_part(name)(view, generator) for name in self.parts], dim=1)
        return Condition(view.steps, context), Units(self.frame, self.action_norm, view.origin, self.discrete)

    def _misread(self, state: Float[Tensor, "B To Ds"], generator: torch.Generator) -> Float[Tensor, "B To Ds"]:
        names = self.features.state
        moved = [name in self.features.action and not _is_rotation(name) for name in names]
        scale = self.state_norm.scale
        varies = torch.tensor(moved, device=scale.device) & (scale != 1)  # 1 is the scale of what never moved
        std = self.cfg.state_noise * varies / scale
        once = torch.randn(len(state), 1, len(names), generator=generator)
        each = torch.randn(state.shape, generator=generator)
        return state + std * (once + 0.5 * each).to(state.device)

    # Acting.

    def noise(self, generators: Sequence[torch.Generator]) -> LaneNoise:
        """Source of chunk-shaped noise, one lane per generator."""
        return LaneNoise(generators, (self.cfg.Tp, len(self.features.action)), self.state_norm.scale.device)

    def reset(self, mask: Bool[np.ndarray, " B"], seeds: Int[np.ndarray, " B"]) -> None:
        """Start new episodes in the lanes of ``mask``; a change of the number of lanes must reset them all."""
        assert mask.shape == seeds.shape, (mask.shape, seeds.shape)
        if len(mask) != len(self._lanes):
            assert mask.all(), f"{len(self._lanes)} lanes became {len(mask)}: reset all of them"
            self._lanes = [torch.Generator() for _ in mask]
            self._decided_s = np.full(len(mask), np.nan)
        for lane in np.flatnonzero(mask):
            self._lanes[lane] = seeded(int(seeds[lane]))
        self._decided_s[mask] = np.nan
        self.goals.forget(torch.from_numpy(mask), self.state_norm.scale.device)
        self.forget(torch.from_numpy(mask))

    def aim(self, goals: Float[np.ndarray, "B G"]) -> None:
        """Set the goal of every lane until its next reset: a state to reach, physical units, world frame.

        Raises:
            ConfigError: the policy acts without goals.
            DataError: a width that contradicts the features, or a goal beyond the demonstrations.
        """
        if not isinstance(self.cfg.goal, GoalCfg):
            raise ConfigError("this policy acts without a goal: train one with policy.goal.kind=final")
        self.goals.aim(goals, self.goal.low, self.goal.high)

    def infer(self, obs: Observation, plan: ActivePlan | None = None) -> ActionChunk:
        """Predict the actions of every lane from (B, To, ...) observations: all Tp - To + 1 that are still due.

        Raises:
            DataError: widths or horizon that contradict the features, a value that is not finite, or something that
                the policy looks at and that is not there, the instruction too.
        """
        recorded = plan is not None and plan.jacobian == "vjp"  # autograd cannot use what inference mode has made
        with torch.inference_mode(not recorded), torch.no_grad():
            return self._decide(obs, plan)

    def _decide(self, obs: Observation, plan: ActivePlan | None) -> ActionChunk:
        observed = self.observed(obs)
        lanes = len(observed)
        assert lanes == len(self._lanes), f"reset {lanes} lanes before infer; there are {len(self._lanes)}"
        if isinstance(self.cfg.goal, GoalCfg):
            observed = replace(observed, goal=self.goals.values)
        cond, units = self.condition(observed)
        waited = (obs.t_s - np.where(np.isnan(self._decided_s), obs.t_s, self._decided_s)) * self.features.rate_hz
        elapsed = torch.from_numpy(np.rint(waited).astype(np.int64)).to(observed.state.device)
        decision = Decision(cond, units, self.noise(self._lanes), elapsed, plan)
        actions = units.decode(self.draw(decision))[:, self.cfg.To - 1 :].cpu().numpy()
        self._decided_s[:] = obs.t_s
        return ActionChunk(t0_s=obs.t_s, dt_s=1.0 / self.features.rate_hz, actions=actions)

    def observed(self, obs: Observation) -> Observed:
        """What the policy looks at of an observation with axes (B, To); raises DataError, see ``Observed.of``."""
        return Observed.of(obs, self.features, self.cfg.To, self.state_norm.scale.device)


def _modes(names: tuple[str, ...]) -> list[str]:
    """Rotations keep their units, which are within [-1, 1] already; the rest is mapped there by its limits."""
    return ["identity" if _is_rotation(name) else "limits" for name in names]


def _is_rotation(name: str) -> bool:
    return "." in name and name.rsplit(".", 1)[1] in _ROTATION
