"""The parts of a condition's context: modules that each make a vector of a known width of what a decision knows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.observed import Observed


@dataclass(frozen=True)
class View:
    """What a part may look at.

    Attributes:
        observed: everything, in physical units and the world frame.
        steps: state and objects in network units, oldest first.
        origin: of the policy's frame [m, world], and a zero.
        goal: in network units, NaN in samples without one; None where no sample has any.
    """

    observed: Observed
    steps: Float[Tensor, "B To Do"]
    origin: Float[Tensor, "B 4"]
    goal: Float[Tensor, "B G"] | None = None


class ContextPart(nn.Module, ABC):
    """Makes a part of the context.

    Attributes:
        width: of what it makes; may be 0.
    """

    width: int

    def prepare(self, view: View) -> None:
        """Called before a training with evenly spread windows of its dataset, after the normalisers were fitted."""
        del view  # Unused.

    @abstractmethod
    def forward(self, view: View, generator: torch.Generator | None = None) -> Float[Tensor, "B C"]:
        """The part for each window; in training ``generator`` (CPU) augments what is looked at, sample by sample."""


class StateEncoder(nn.Sequential, ContextPart):
    """An MLP on the window of states: Mish in between, the last layer linear, as networks begin with one of their own.

    Without hidden widths it makes nothing.
    """

    def __init__(self, width: int, hidden: Sequence[int]):
        layers: list[nn.Module] = []
        for i, d in enumerate(hidden):
            layers += [nn.Linear(width, d)] if i == 0 else [nn.Mish(), nn.Linear(width, d)]
            width = d
        super().__init__(*layers)
        self.width = width if hidden else 0

    def forward(self, view: View, generator: torch.Generator | None = None) -> Float[Tensor, "B C"]:
        """The MLP's output."""
        del generator  # Unused: states are not augmented.
        return super().forward(view.steps.flatten(1)) if self.width else view.steps.new_zeros((view.steps.shape[0], 0))
