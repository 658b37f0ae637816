"""lerobot's normaliser with its statistics as buffers, so that they are saved, moved and checked with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lerobot.configs.policies import PreTrainedConfig
from lerobot.processor import NormalizerProcessorStep, TransitionKey, UnnormalizerProcessorStep
from lerobot.processor.converters import create_transition
from lerobot.utils.constants import ACTION
from torch import Tensor, nn

_INITIAL = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 1.0}
REQUIRED: Mapping[str, tuple[str, ...]] = {"MIN_MAX": ("min", "max"), "MEAN_STD": ("mean", "std")}
"""Statistics that each mode of normalisation reads."""


class Statistics(nn.Module):
    """Limits, mean and deviation of each feature of a lerobot configuration, and the maps that lerobot makes of them.

    The arithmetic is lerobot's own processor steps, not an affine map of ours: it is the same in the last bit.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.modes = dict(config.normalization_mapping)
        self.features: dict[str, Any] = {**(config.input_features or {}), **(config.output_features or {})}
        for key, feature in self.features.items():
            for name, value in _INITIAL.items():
                self.register_buffer(_buffer(key, name), torch.full(tuple(feature.shape), value))

    def fit(self, samples: Mapping[str, Float[np.ndarray, "N _"]]) -> None:
        """Fit to all rows of a dataset, as the statistics that our lerobot datasets carry."""
        for key, values in samples.items():
            precise = values.astype(np.float64)
            self.set(key, {name: getattr(precise, name)(axis=0) for name in _INITIAL})

    def set(self, key: str, values: Mapping[str, Any]) -> None:
        """Adopt given statistics of a feature; what is not given stays."""
        for name in values.keys() & _INITIAL.keys():
            buffer = self.get_buffer(_buffer(key, name))
            buffer.copy_(torch.as_tensor(values[name], dtype=torch.float32).reshape(buffer.shape))

    def required(self, key: str) -> tuple[str, ...]:
        """Names of the statistics that the normalisation of a feature reads."""
        mode = self.modes.get(self.features[key].type.value)
        return () if mode is None else REQUIRED.get(str(mode.value), ())

    def normalize(self, observation: Mapping[str, Tensor], action: Tensor | None = None) -> dict[str, Tensor]:
        """A lerobot batch in network units; the action joins under its own key where there is one."""
        step = NormalizerProcessorStep(self.features, self.modes, self._stats())
        done = step(create_transition(dict(observation), action))
        batch = dict(done[TransitionKey.OBSERVATION])
        return batch if action is None else batch | {ACTION: done[TransitionKey.ACTION]}

    def unnormalize(self, actions: Float[Tensor, "B n Da"]) -> Float[Tensor, "B n Da"]:
        """Actions in physical units."""
        step = UnnormalizerProcessorStep(self.features, self.modes, self._stats())
        return step(create_transition(action=actions))[TransitionKey.ACTION]

    def _stats(self) -> dict[str, dict[str, Tensor]]:
        return {key: {name: self.get_buffer(_buffer(key, name)) for name in _INITIAL} for key in self.features}


def _buffer(key: str, name: str) -> str:
    return f"{key.replace('.', '_')}_{name}"
