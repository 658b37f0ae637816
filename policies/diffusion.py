"""Diffusion Policy with a temporal U-Net on low-dimensional observations.

Chi et al., Diffusion Policy: Visuomotor Policy Learning via Action Diffusion, arXiv 2303.04137.
Training minimises ``|| eps - eps_theta(sqrt(abar_k) a + sigma_k eps, k, O) ||^2`` (eq. 5) over uniform k; acting
denoises a chunk of Tp actions and executes Ta of them from index To - 1, the action of the last observation.

Departures from the paper, each a field of the configuration: positions relative to the gripper (``frame``), limits per
step of the chunk (``per_step``), because the first actions of a relative chunk move far less than its last, an MLP on
the observation (``encoder``), and a network that predicts the clean chunk (``prediction``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from policies.affine import Affine
from policies.base import Batch, TrainablePolicy
from policies.frame import FRAMES, Frame
from policies.networks.unet1d import ConditionalUnet1D, UnetCfg
from policies.samplers import SAMPLERS, LaneNoise, NoiseSchedule, Sampler, SamplerState, seeded
from policies.samplers.schedule import PREDICTIONS, split, target
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError
from robostack.runtime.protocols import Horizon
from robostack.types import ActionChunk, Features, Observation

_STATISTICS_WINDOWS = 200_000


@dataclass(frozen=True)
class DiffusionCfg:
    """Everything that shapes the policy.

    Attributes:
        To, Tp, Ta: observation, prediction and execution steps.
        diffusion_steps: K, levels of noise in training.
        prediction: what the network outputs: ``epsilon`` (as in the paper), ``sample`` or ``v``. Short trainings need
            ``sample``: errors of an epsilon at high noise are amplified by sigma / sqrt(abar).
        frame: ``gripper`` or ``world``; joint-space data always uses ``world``.
        per_step: normalise each step of the chunk by its own limits.
        clip: clamp estimates of the clean chunk to the range of the data while sampling.
        sampler: default sampler for acting.
        encoder: hidden widths of an MLP on the observation, whose output joins the observation as the condition;
            empty for none, as in the paper. It sees each window once, not Tp times, so that its capacity is cheap.
        network: size of the U-Net.
    """

    To: int = 2
    Tp: int = 16
    Ta: int = 8
    diffusion_steps: int = 100
    prediction: str = "sample"
    frame: str = "gripper"
    per_step: bool = True
    clip: bool = True
    sampler: str = "ddim10"
    encoder: Sequence[int] = (256, 256)
    network: UnetCfg = field(default_factory=UnetCfg)

    def __post_init__(self):
        object.__setattr__(self, "encoder", tuple(int(d) for d in self.encoder))
        if any(d < 1 for d in self.encoder):
            raise ConfigError(f"encoder={self.encoder} must be positive widths, or empty for no encoder")
        if self.To < 1 or not 1 <= self.Ta <= self.Tp - self.To + 1:
            raise ConfigError(
                f"To={self.To}, Tp={self.Tp}, Ta={self.Ta} do not fit: needs To >= 1 and 1 <= Ta <= Tp - To + 1"
            )
        self.network.check_horizon(self.Tp)
        if self.prediction not in PREDICTIONS:
            raise ConfigError(f"unknown prediction '{self.prediction}': use one of {', '.join(PREDICTIONS)}")
        if self.frame not in FRAMES:
            raise ConfigError(f"unknown frame '{self.frame}': use one of {', '.join(FRAMES)}")
        NoiseSchedule.cosine(self.diffusion_steps)
        SAMPLERS[self.sampler].evaluations(self.diffusion_steps)


def _modes(names: tuple[str, ...]) -> list[str]:
    """Rotations keep their units, which are within [-1, 1] already; the rest is mapped there by its limits."""
    return ["identity" if "." in name and name.rsplit(".", 1)[1] in _ROTATION else "limits" for name in names]


_ROTATION = tuple(f"r{i}" for i in range(1, 7))


def _mlp(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with Mish in between; the last one is linear, because the U-Net applies a Mish of its own."""
    layers: list[nn.Module] = []
    for i, d in enumerate(hidden):
        layers += [nn.Linear(width, d)] if i == 0 else [nn.Mish(), nn.Linear(width, d)]
        width = d
    return nn.Sequential(*layers)


class DiffusionPolicy(TrainablePolicy):
    """The policy: network, normalisers and, for acting, a sampler."""

    sqrt_abar: Tensor
    sigma: Tensor

    def __init__(self, cfg: DiffusionCfg, features: Features):
        super().__init__()
        self.cfg, self.features = cfg, dataclasses.replace(features, cameras=())  # it looks at no images
        self.horizon = Horizon(To=cfg.To, Tp=cfg.Tp, Ta=cfg.Ta)
        Ds, De, Da = len(features.state), len(features.environment_state), len(features.action)
        self.frame = Frame(features, cfg.frame)
        self.state_norm, self.object_norm = Affine(Ds), Affine(De)
        self.action_norm = Affine(cfg.Tp, Da) if cfg.per_step else Affine(Da)
        observed = cfg.To * (Ds + De)
        self.encoder = _mlp(observed, cfg.encoder)
        self.model = ConditionalUnet1D(Da, observed + (cfg.encoder[-1] if cfg.encoder else 0), cfg.network)
        self.schedule = NoiseSchedule.cosine(cfg.diffusion_steps)
        self.register_buffer("sqrt_abar", torch.from_numpy(self.schedule.sqrt_abar).float(), persistent=False)
        self.register_buffer("sigma", torch.from_numpy(self.schedule.sigma).float(), persistent=False)
        self.sampler: Sampler = SAMPLERS[cfg.sampler]
        self._lanes: list[torch.Generator] = []
        self._memory: SamplerState = {}

    def fit_statistics(self, arrays: EpisodeArrays, windows: SequenceSampler) -> None:
        """Fit the normalisers in the policy's frame; from evenly spread windows when there are very many."""
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

    # Loss.

    def _condition(
        self, state: Float[Tensor, "B To Ds"], objects: Float[Tensor, "B To De"], origin: Float[Tensor, "B 4"]
    ) -> Float[Tensor, "B C"]:
        objects = self.object_norm(self.frame.objects(objects, origin))
        observed = torch.cat([self.state_norm(state).flatten(1), objects.flatten(1)], dim=1)
        return torch.cat([observed, self.encoder(observed)], dim=1) if self.cfg.encoder else observed

    def loss(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean squared error of the prediction at random noise levels (eq. 5)."""
        origin = self.frame.origin(batch.state)
        cond = self._condition(batch.state, batch.environment_state, origin)
        a = self.action_norm(self.frame.actions(batch.action, origin))
        k = torch.randint(len(self.schedule), (len(a),), generator=generator).to(a.device)
        eps = torch.randn(a.shape, generator=generator).to(a.device)
        sqrt_abar, sigma = self.sqrt_abar[k, None, None], self.sigma[k, None, None]
        pred = self.model(sqrt_abar * a + sigma * eps, k, cond)
        return torch.nn.functional.mse_loss(pred.float(), target(self.cfg.prediction, a, eps, sqrt_abar, sigma))

    # Sample.

    def sample(
        self,
        state: Float[Tensor, "B To Ds"],
        objects: Float[Tensor, "B To De"],
        noise: LaneNoise,
        memory: Mapping[str, Tensor] | None = None,
        sampler: Sampler | None = None,
    ) -> tuple[Float[Tensor, "B Tp Da"], Mapping[str, Tensor]]:
        """Draw chunks in physical units and the world frame, without touching the policy's own episodes."""
        sampler = sampler or self.sampler
        origin = self.frame.origin(state)
        denoiser = _BoundDenoiser(self, self._condition(state, objects, origin))
        memory = sampler.start(len(state)) if memory is None else memory
        chunk, memory = sampler.sample(denoiser, noise, memory)
        return self.frame.to_world(self.action_norm.inverse(chunk), origin), memory

    def noise(self, generators: list[torch.Generator]) -> LaneNoise:
        """Source of chunk-shaped noise, one lane per generator."""
        return LaneNoise(generators, (self.cfg.Tp, len(self.features.action)), self.sigma.device)

    def use_sampler(self, name: str) -> None:
        """Act with another sampler; episodes under way are forgotten."""
        SAMPLERS[name].evaluations(self.cfg.diffusion_steps)
        self.sampler, self._lanes, self._memory = SAMPLERS[name], [], {}

    def reset(self, mask: Bool[np.ndarray, " B"], seeds: Int[np.ndarray, " B"]) -> None:
        """Start new episodes in the lanes of ``mask``; a change of the number of lanes must reset them all."""
        assert mask.shape == seeds.shape, (mask.shape, seeds.shape)
        if len(mask) != len(self._lanes):
            assert mask.all(), f"{len(self._lanes)} lanes became {len(mask)}: reset all of them"
            self._lanes = [torch.Generator() for _ in mask]
            self._memory = self.sampler.start(len(mask))
        for lane in np.flatnonzero(mask):
            self._lanes[lane] = seeded(int(seeds[lane]))
        self._memory = self.sampler.reset(self._memory, torch.from_numpy(mask))

    @torch.inference_mode()
    def infer(self, obs: Observation) -> ActionChunk:
        """Predict the next Ta actions of every lane from (B, To, ...) observations.

        Raises:
            DataError: widths or horizon that contradict the features, or a value that is not finite.
        """
        state = self._checked("state", obs.state, self.features.state)
        objects = self._checked("environment_state", obs.environment_state, self.features.environment_state)
        assert len(state) == len(self._lanes), f"reset {len(state)} lanes before infer; there are {len(self._lanes)}"
        chunk, self._memory = self.sample(state, objects, self.noise(self._lanes), self._memory)
        first = self.cfg.To - 1
        actions = chunk[:, first : first + self.cfg.Ta].cpu().numpy()
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
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.sigma.device)


@dataclass(frozen=True)
class _BoundDenoiser:
    """The network with its condition: what a sampler sees."""

    policy: DiffusionPolicy
    cond: Tensor

    @property
    def schedule(self) -> NoiseSchedule:
        return self.policy.schedule

    def __call__(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        policy = self.policy
        levels = torch.full((len(x),), k, dtype=torch.int64, device=x.device)
        pred = policy.model(x, levels, self.cond)
        sqrt_abar, sigma = float(policy.schedule.sqrt_abar[k]), float(policy.schedule.sigma[k])
        x0, eps = split(policy.cfg.prediction, x, pred, sqrt_abar, sigma)
        return (x0.clamp(-1, 1) if policy.cfg.clip else x0), eps
