"""Goals: states that an episode shows later, for policies that can be told where things are to end up.

A goal is a state of the objects, or of the robot where the features name no objects, in physical units and the world
frame. Training draws goals from the same episode (Reuss et al., arXiv 2304.02532) and leaves some samples without, so
that the same weights act without a goal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from policies.context import ContextPart, View
from robostack.errors import ConfigError, DataError
from robostack.types import Features

GOALS = ("final", "future", "none")
_SLACK = 0.05
"""How far a goal may lie beyond the data, as a share of its range."""


@dataclass(frozen=True)
class GoalCfg:
    """How a policy is told its goal.

    Attributes:
        kind: what it is trained to reach: the ``final`` state of an episode, a random ``future`` one, or ``none``.
        drop: share of the samples that are trained without their goal.
        width: of the vector made from a goal.
    """

    kind: str = "final"
    drop: float = 0.1
    width: int = 64

    def __post_init__(self):
        require_kind(self.kind, "goal.kind")
        require_share(self.drop, "goal.drop")
        if self.width < 1:
            raise ConfigError(f"goal.width={self.width} must be at least 1")


def require_kind(kind: str, key: str) -> None:
    """Raise ConfigError unless it is one of ``GOALS``."""
    if kind not in GOALS:
        raise ConfigError(f"unknown {key} '{kind}': use one of {', '.join(GOALS)}")


def require_share(drop: float, key: str) -> None:
    """Raise ConfigError unless it is a share of samples."""
    if not 0 <= drop <= 1:
        raise ConfigError(f"{key}={drop} must be in [0, 1]")


def goal_names(features: Features) -> tuple[str, ...]:
    """What the columns of a goal are."""
    return features.environment_state or features.state


def goal_of(features: Features, state: Tensor, objects: Tensor) -> Tensor:
    """The part of what is seen that can be a goal."""
    return objects if features.environment_state else state


def goal_share(kind: str, count: int, generator: torch.Generator) -> Float[Tensor, " B"] | None:
    """How far into the rest of its episode each goal lies: 1 for the end, uniform for a future; None for no goals."""
    if kind == "none":
        return None
    return torch.ones(count) if kind == "final" else torch.rand(count, generator=generator)


def kept_goals(count: int, drop: float, generator: torch.Generator) -> Bool[Tensor, " B"]:
    """The samples that are trained with their goal (CPU)."""
    return torch.rand(count, generator=generator) >= drop


class LaneGoals:
    """What each lane is to reach until its next reset.

    Attributes:
        names: of the columns.
        values: one goal per lane; NaN where there is none.
    """

    values: Float[Tensor, "B G"]

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.values = torch.empty(0, len(names))

    def forget(self, mask: Bool[Tensor, " B"], device: torch.device) -> None:
        """Drop the goals of the lanes of ``mask``; their number may be another than before when all are dropped."""
        unknown = torch.full((len(mask), len(self.names)), torch.nan, device=device)
        self.values = unknown if mask.all() else torch.where(mask.to(device)[:, None], unknown, self.values)

    def aim(self, goals: Float[np.ndarray, "B n"], low: Float[Tensor, " G"], high: Float[Tensor, " G"]) -> None:
        """Set the goal of every lane; raises DataError for another width, or one beyond the demonstrations' range."""
        wanted = torch.from_numpy(np.asarray(goals, np.float32)).to(low.device)
        if wanted.shape != self.values.shape:
            raise DataError(
                f"goals have shape {tuple(wanted.shape)}, not {tuple(self.values.shape)}: one value for each of "
                f"{', '.join(self.names)}"
            )
        slack = _SLACK * (high - low) + 1e-4
        inside = (wanted >= low - slack) & (wanted <= high + slack)
        if not inside.all():
            lane, column = (~inside).nonzero()[0].tolist()
            raise DataError(
                f"goal '{self.names[column]}' is {wanted[lane, column]:.4g}, outside the demonstrations' "
                f"{low[column]:.4g} to {high[column]:.4g}: choose another goal, or demonstrate it"
            )
        self.values = wanted


class GoalEncoder(ContextPart):
    """An MLP on the goal in network units, or a learnt vector where there is none."""

    low: Tensor
    high: Tensor

    def __init__(self, cfg: GoalCfg, names: tuple[str, ...]):
        super().__init__()
        self.width = cfg.width
        self.embed = nn.Sequential(nn.Linear(len(names), cfg.width), nn.Mish(), nn.Linear(cfg.width, cfg.width))
        self.absent = nn.Parameter(torch.zeros(cfg.width))
        self.register_buffer("low", torch.zeros(len(names)))
        self.register_buffer("high", torch.zeros(len(names)))

    def fit(self, seen: Float[Tensor, "N G"]) -> None:
        """Remember the range of what can be a goal."""
        self.low.copy_(seen.amin(0))
        self.high.copy_(seen.amax(0))

    def forward(self, view: View, generator: torch.Generator | None = None) -> Float[Tensor, "B C"]:
        """One vector per sample."""
        del generator  # Unused: what is dropped in training has no goal in the view.
        if view.goal is None:
            return self.absent.expand(len(view.steps), -1)
        counts = ~view.goal.isnan().any(dim=1)
        return torch.where(counts[:, None], self.embed(view.goal.nan_to_num()), self.absent)
