"""What lerobot's policies have in common behind our interface.

A lane's window of observations comes from the executor, which pads it like lerobot's queue (with the first one), so
that the queues inside lerobot's policies stay unused and lanes can be reset one by one.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor

from policies.base import Batch, TrainablePolicy, cfg_to_dict
from policies.lerobot.cfg import LerobotActCfg, LerobotDiffusionCfg
from policies.lerobot.statistics import Statistics
from policies.samplers import seeded
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError
from robostack.runtime.protocols import ActivePlan
from robostack.types import ActionChunk, Features, Observation

PAD = "action_is_pad"


def config_values(cfg: LerobotActCfg | LerobotDiffusionCfg, features: Features) -> dict[str, Any]:
    """Arguments of lerobot's configuration class.

    Raises:
        ConfigError: features that lerobot's policies cannot be built for.
    """
    if not features.state or not features.environment_state:
        raise ConfigError(
            "lerobot's policies need a state and, without images, an environment state: the dataset has "
            f"{len(features.state)} and {len(features.environment_state)} columns of them"
        )
    values = cfg_to_dict(cfg)
    modes = {kind: NormalizationMode(mode) for kind, mode in values["normalization_mapping"].items()}
    return values | {
        "normalization_mapping": modes,
        "device": "cpu",  # Where lerobot's own commands would put it; the trainer and load_policy move it.
        "input_features": {
            OBS_STATE: PolicyFeature(FeatureType.STATE, (len(features.state),)),
            OBS_ENV_STATE: PolicyFeature(FeatureType.ENV, (len(features.environment_state),)),
        },
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (len(features.action),))},
    }


class LerobotPolicy(TrainablePolicy):
    """A policy of lerobot's in world coordinates, with lerobot's normaliser."""

    cfg: LerobotActCfg | LerobotDiffusionCfg
    policy: Any  # lerobot's models take no part in static typing

    def __init__(self, cfg: LerobotActCfg | LerobotDiffusionCfg, features: Features, policy: PreTrainedPolicy):
        super().__init__()
        self.cfg, self.features = cfg, dataclasses.replace(features, cameras=(), points=0)  # it looks at no images
        self.horizon = cfg.steps
        self.policy = policy
        self.statistics = Statistics(policy.config)
        self._lanes: list[torch.Generator] = []

    # To be said by each policy.

    @abstractmethod
    def batch_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Loss of a normalised batch, as lerobot computes it; draws from torch's global generator."""

    @abstractmethod
    def chunk(self, batch: dict[str, Tensor], lanes: list[torch.Generator]) -> Float[Tensor, "B n Da"]:
        """All actions still due, in network units, for normalised observations."""

    # Training.

    def fit_statistics(self, arrays: EpisodeArrays, windows: SequenceSampler) -> None:
        """Take the statistics of all rows, as lerobot does."""
        del windows  # Unused.
        columns = {OBS_STATE: arrays.state, OBS_ENV_STATE: arrays.environment_state, ACTION: arrays.action}
        self.statistics.fit(columns)

    def loss(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Scalar training loss; all randomness comes from ``generator`` (CPU)."""
        observed = self._observed(batch.observed.state, batch.observed.objects)
        normalized = self.statistics.normalize(observed, batch.action)
        none = torch.zeros(batch.action.shape[:2], dtype=torch.bool, device=batch.action.device)
        normalized[PAD] = none if batch.action_is_pad is None else batch.action_is_pad
        with _global_generator(generator, batch.action.device):
            return self.batch_loss(normalized)

    def _observed(self, state: Tensor, objects: Tensor) -> dict[str, Tensor]:
        return {OBS_STATE: state, OBS_ENV_STATE: objects}

    # Acting.

    def reset(self, mask: Bool[np.ndarray, " B"], seeds: Int[np.ndarray, " B"]) -> None:
        """Start new episodes in the lanes of ``mask``; a change of the number of lanes must reset them all."""
        assert mask.shape == seeds.shape, (mask.shape, seeds.shape)
        if len(mask) != len(self._lanes):
            assert mask.all(), f"{len(self._lanes)} lanes became {len(mask)}: reset all of them"
            self._lanes = [torch.Generator() for _ in mask]
        for lane in np.flatnonzero(mask):
            self._lanes[lane] = seeded(int(seeds[lane]))

    @torch.inference_mode()
    def infer(self, obs: Observation, plan: ActivePlan | None = None) -> ActionChunk:
        """Predict the actions of every lane from (B, To, ...) observations: all that are still due.

        Raises:
            DataError: widths or horizon that contradict the features, or a value that is not finite.
        """
        del plan  # Unused.
        state = self._checked("state", obs.state, self.features.state)
        objects = self._checked("environment_state", obs.environment_state, self.features.environment_state)
        assert len(state) == len(self._lanes), f"reset {len(state)} lanes before infer; there are {len(self._lanes)}"
        batch = self.statistics.normalize(self._observed(state, objects))
        actions = self.statistics.unnormalize(self.chunk(batch, self._lanes)).cpu().numpy()
        return ActionChunk(t0_s=obs.t_s, dt_s=1.0 / self.features.rate_hz, actions=actions)

    def _checked(self, kind: str, values: np.ndarray, names: tuple[str, ...]) -> Tensor:
        if values.ndim != 3 or values.shape[1:] != (self.horizon.To, len(names)):
            raise DataError(
                f"observation '{kind}' has shape {values.shape}, the policy was trained on "
                f"(lanes, {self.horizon.To}, {len(names)}): {', '.join(names)}"
            )
        if not np.isfinite(values).all():
            lane, _, column = np.argwhere(~np.isfinite(values))[0]
            raise DataError(
                f"observation '{names[column]}' is not finite in lane {lane}: check the sensor or simulator"
            )
        device = next(self.policy.parameters()).device
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


@contextmanager
def _global_generator(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Let ``generator`` seed torch's global one, which lerobot draws from, and give the latter back as it was."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
