"""What the trainer, the checkpoints and the command line need to know about a policy."""

from __future__ import annotations

import dataclasses
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from policies.discrete import DiscreteDims
from policies.observed import Observed
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DeviceUnavailable
from robostack.registry import Registry
from robostack.runtime.protocols import ActivePlan, Horizon
from robostack.types import ActionChunk, Features, Observation


@dataclass(frozen=True)
class Batch:
    """Windows of a dataset, in physical units and the world frame.

    Attributes:
        goal_state, goal_environment_state: what was seen later in the same episode, for policies that ask for goals.
        stage: number of the training's stage that the loss is for.
        action_is_pad: which actions lie outside of their episode and repeat its first or last one.
    """

    observed: Observed
    action: Float[Tensor, "B Tp Da"]
    goal_state: Float[Tensor, "B Ds"] | None = None
    goal_environment_state: Float[Tensor, "B De"] | None = None
    stage: int = 0
    action_is_pad: Bool[Tensor, "B Tp"] | None = None


@dataclass(frozen=True)
class Stage:
    """A part of a training in which some modules learn and the others rest.

    A stage is a training of its own: learning rate, optimiser and averaging start anew, on the averaged weights of the
    stage before.

    Attributes:
        share: of the training's steps.
        modules: names of the policy's submodules that learn; empty for the whole policy.
    """

    share: float
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a policy was loaded from.

    Attributes:
        path: its directory.
        weights: SHA-256 of its weights.
    """

    path: Path
    weights: str


class TrainablePolicy(nn.Module, ABC):
    """A policy that the one trainer can train and that the runtime can run.

    Normalisers are buffers: fitted once by ``fit_statistics``, then saved and moved with the weights.

    Attributes:
        pad_after: rows a training window may end after its episode; None for all that make sense.
    """

    cfg: Any
    features: Features
    horizon: Horizon
    task_id: str = ""
    language: str = ""
    origin: Origin | None = None
    discrete: DiscreteDims = DiscreteDims()
    pad_after: int | None = None

    @abstractmethod
    def fit_statistics(self, arrays: EpisodeArrays, windows: SequenceSampler) -> None:
        """Fit the normalisers to a dataset."""

    def found(self) -> dict[str, Any]:
        """What ``fit_statistics`` found in the data that shapes the networks, as plain YAML values."""
        return {}

    def adopt(self, found: Mapping[str, Any]) -> None:
        """Shape the networks by what another ``found``; before weights are loaded."""
        del found  # Unused.

    def stages(self) -> tuple[Stage, ...]:
        """Consecutive parts of a training; their shares add up to 1."""
        return (Stage(1.0),)

    def goal_share(self, count: int, generator: torch.Generator) -> Float[Tensor, " B"] | None:
        """How far into the rest of its episode the goal of each window lies, 1 for its end; None for no goals."""
        del count, generator  # Unused.
        return None

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Scalar training loss; all randomness comes from ``generator`` (CPU)."""

    def decays(self, name: str) -> bool:
        """Whether weight decay shrinks the parameter of this name."""
        del name  # Unused.
        return True

    @abstractmethod
    def use_sampler(self, sampler: str) -> None:
        """Act with another sampler from now on; raises UnknownName, or ConfigError where it does not fit."""

    def accelerate(self, how: str) -> None:
        """Act faster with the same weights; raises ConfigError where that is not possible."""
        raise ConfigError(f"accelerate={how} is not to be had for this policy: use accelerate=none")

    @abstractmethod
    def reset(self, mask: Bool[np.ndarray, " B"], seeds: Int[np.ndarray, " B"]) -> None:
        """Start new episodes; see ``robostack.runtime.protocols.Policy``."""

    @abstractmethod
    def infer(self, obs: Observation, plan: ActivePlan | None = None) -> ActionChunk:
        """Predict a chunk; see ``robostack.runtime.protocols.Policy``."""


@dataclass(frozen=True)
class PolicyRecord:
    """A policy class, its configuration class and its samplers; which of them fit may depend on the configuration."""

    cfg: type
    build: Callable[[Any, Features], TrainablePolicy]
    samplers: Registry


def cfg_to_dict(cfg: Any) -> dict[str, Any]:
    """Plain YAML values of a frozen configuration."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(cfg))


def cfg_from_dict(cls: type, values: Mapping[str, Any]) -> Any:
    """Inverse of ``cfg_to_dict``; raises ConfigError for a field that ``cls`` does not have."""
    hints = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"{cls.__name__} has no field '{unknown[0]}': use {', '.join(sorted(known))}")
    kinds = {name: _kind(hints[name]) for name in values}
    nested = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
    return cls(
        **{
            name: cfg_from_dict(nested[name], value) if name in nested and isinstance(value, Mapping) else value
            for name, value in values.items()
        }
    )


def _kind(hint: Any) -> Any:
    """The type that a value may have, of one that may be None."""
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    return options[0] if isinstance(hint, types.UnionType) and len(options) == 1 else hint


def resolve_device(name: str) -> torch.device:
    """Device by name: ``cpu``, ``cuda``, or ``auto`` for cuda where there is one.

    Raises:
        ConfigError: another name.
        DeviceUnavailable: cuda on a machine without it.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise ConfigError(f"unknown device '{name}': use cpu, cuda or auto")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceUnavailable("device 'cuda' was asked for, but torch sees none: use device=cpu, or device=auto")
    return torch.device("cuda")
