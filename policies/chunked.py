"""What all policies that predict chunks of actions share: frames, normalisers, condition, lanes.

A subclass sees actions in network units, (B, Tp, Da), and a ``Condition``; it says how they are learnt and drawn.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from policies.affine import Affine
from policies.base import Batch, TrainablePolicy
from policies.discrete import DiscreteDims
from policies.frame import FRAMES, Frame
from policies.samplers import LaneNoise, seeded
from policies.units import Units
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError
from robostack.runtime.protocols import ActivePlan, Horizon
from robostack.types import ActionChunk, Features, Observation

_STATISTICS_WINDOWS = 200_000
_ROTATION = tuple(f"r{i}" for i in range(1, 7))


@dataclass(frozen=True)
class ChunkCfg:
    """What every chunk policy can be told.

    Attributes:
        To, Tp, Ta: observation, prediction and execution steps.
        frame: ``gripper`` or ``world``; joint-space data always uses ``world``.
        per_step: normalise each step of the chunk by its own limits.
        encoder: hidden widths of an MLP on the observation, whose output joins the observation as the condition;
            empty for none. It sees each window once, not Tp times, so that its capacity is cheap.
    """

    To: int = 2
    Tp: int = 16
    Ta: int = 8
    frame: str = "gripper"
    per_step: bool = True
    encoder: Sequence[int] = (256, 256)

    def __post_init__(self):
        object.__setattr__(self, "encoder", tuple(int(d) for d in self.encoder))
        if any(d < 1 for d in self.encoder):
            raise ConfigError(f"encoder={self.encoder} must be positive widths, or empty for no encoder")
        if self.To < 1 or not 1 <= self.Ta <= self.Tp - self.To + 1:
            raise ConfigError(
                f"To={self.To}, Tp={self.Tp}, Ta={self.Ta} do not fit: needs To >= 1 and 1 <= Ta <= Tp - To + 1"
            )
        if self.frame not in FRAMES:
            raise ConfigError(f"unknown frame '{self.frame}': use one of {', '.join(FRAMES)}")


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
    """A policy whose output is a chunk of Tp actions; the first is due at the first of To observations."""

    cfg: ChunkCfg

    def __init__(self, cfg: ChunkCfg, features: Features):
        super().__init__()
        self.cfg, self.features = cfg, dataclasses.replace(features, cameras=())  # it looks at no images
        self.horizon = Horizon(To=cfg.To, Tp=cfg.Tp, Ta=cfg.Ta)
        Ds, De, Da = len(features.state), len(features.environment_state), len(features.action)
        self.frame = Frame(features, cfg.frame)
        self.state_norm, self.object_norm = Affine(Ds), Affine(De)
        self.action_norm = Affine(cfg.Tp, Da) if cfg.per_step else Affine(Da)
        self.step_dim = Ds + De
        self.encoder = _mlp(cfg.To * self.step_dim, cfg.encoder)
        self.context_dim = cfg.encoder[-1] if cfg.encoder else 0
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
        state = torch.from_numpy(arrays.state[rows])
        origin = self.frame.origin(state)
        objects = self.frame.objects(torch.from_numpy(arrays.environment_state[rows]), origin)
        actions = self.frame.actions(torch.from_numpy(arrays.action[action_rows]), origin)
        if not self.cfg.per_step:
            actions = actions.flatten(0, 1)
        self.state_norm.fit(arrays.state, _modes(self.features.state))
        self.object_norm.fit(objects.flatten(0, 1).numpy(), _modes(self.features.environment_state))
        self.action_norm.fit(actions.numpy(), _modes(self.features.action))

    def loss(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Scalar training loss; all randomness comes from ``generator`` (CPU)."""
        cond, units = self.condition(batch.state, batch.environment_state)
        return self.chunk_loss(cond, units.encode(batch.action), generator)

    def condition(self, state: Float[Tensor, "B To Ds"], objects: Float[Tensor, "B To De"]) -> tuple[Condition, Units]:
        """What the network is told about observations in physical units, and the units of its actions."""
        origin = self.frame.origin(state)
        steps = torch.cat([self.state_norm(state), self.object_norm(self.frame.objects(objects, origin))], dim=-1)
        context = self.encoder(steps.flatten(1)) if self.cfg.encoder else steps.new_zeros((steps.shape[0], 0))
        return Condition(steps, context), Units(self.frame, self.action_norm, origin, self.discrete)

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
        self.forget(torch.from_numpy(mask))

    def infer(self, obs: Observation, plan: ActivePlan | None = None) -> ActionChunk:
        """Predict the actions of every lane from (B, To, ...) observations: all Tp - To + 1 that are still due.

        Raises:
            DataError: widths or horizon that contradict the features, or a value that is not finite.
        """
        recorded = plan is not None and plan.jacobian == "vjp"  # autograd cannot use what inference mode has made
        with torch.inference_mode(not recorded), torch.no_grad():
            return self._decide(obs, plan)

    def _decide(self, obs: Observation, plan: ActivePlan | None) -> ActionChunk:
        state = self._checked("state", obs.state, self.features.state)
        objects = self._checked("environment_state", obs.environment_state, self.features.environment_state)
        assert len(state) == len(self._lanes), f"reset {len(state)} lanes before infer; there are {len(self._lanes)}"
        cond, units = self.condition(state, objects)
        waited = (obs.t_s - np.where(np.isnan(self._decided_s), obs.t_s, self._decided_s)) * self.features.rate_hz
        elapsed = torch.from_numpy(np.rint(waited).astype(np.int64)).to(state.device)
        decision = Decision(cond, units, self.noise(self._lanes), elapsed, plan)
        actions = units.decode(self.draw(decision))[:, self.cfg.To - 1 :].cpu().numpy()
        self._decided_s[:] = obs.t_s
        return ActionChunk(t0_s=obs.t_s, dt_s=1.0 / self.features.rate_hz, actions=actions)

    def _checked(self, kind: str, values: np.ndarray, names: tuple[str, ...]) -> Tensor:
        if values.ndim != 3 or values.shape[1:] != (self.cfg.To, len(names)):
            raise DataError(
                f"observation '{kind}' has shape {values.shape}, the policy was trained on "
                f"(lanes, {self.cfg.To}, {len(names)}): {', '.join(names) or 'no columns'}"
            )
        if not np.isfinite(values).all():
            lane, _, column = np.argwhere(~np.isfinite(values))[0]
            raise DataError(
                f"observation '{names[column]}' is not finite in lane {lane}: check the sensor or simulator"
            )
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.state_norm.scale.device)


def _modes(names: tuple[str, ...]) -> list[str]:
    """Rotations keep their units, which are within [-1, 1] already; the rest is mapped there by its limits."""
    return ["identity" if "." in name and name.rsplit(".", 1)[1] in _ROTATION else "limits" for name in names]


def _mlp(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with Mish in between; the last one is linear, because the networks begin with one of their own."""
    layers: list[nn.Module] = []
    for i, d in enumerate(hidden):
        layers += [nn.Linear(width, d)] if i == 0 else [nn.Mish(), nn.Linear(width, d)]
        width = d
    return nn.Sequential(*layers)
