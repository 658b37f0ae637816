"""What the denoising networks have in common: conditioning apart from denoising, in parts that can be kept."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn

Conditioning = tuple[Tensor, ...]
"""Tensors that only the network that made them understands."""


class Network(nn.Module, ABC):
    """Predicts (B, Tp, Da) from a noisy chunk, its diffusion step and a condition.

    ``level`` needs recomputing for another diffusion step only, ``observe`` for another condition only; ``combine``
    joins them, and ``denoise`` is what remains per step. A level of one lane serves all lanes.

    Attributes:
        stochastic: whether training draws random numbers (dropout).
    """

    stochastic: bool = False

    @abstractmethod
    def level(self, k: Int[Tensor, " B"]) -> Conditioning:
        """What depends on the diffusion step alone."""

    @abstractmethod
    def observe(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Conditioning:
        """What depends on the condition alone."""

    @abstractmethod
    def combine(self, level: Conditioning, observed: Conditioning) -> Conditioning:
        """Join both."""

    @abstractmethod
    def denoise(self, x: Float[Tensor, "B Tp Da"], conditioning: Conditioning) -> Float[Tensor, "B Tp Da"]:
        """Predict from a noisy chunk."""

    def predict(
        self,
        x: Float[Tensor, "B Tp Da"],
        k: Int[Tensor, " B"],
        steps: Float[Tensor, "B To Do"],
        context: Float[Tensor, "B C"],
    ) -> Float[Tensor, "B Tp Da"]:
        """Predict for diffusion steps ``k`` and a condition."""
        return self.denoise(x, self.combine(self.level(k), self.observe(steps, context)))

    def decays(self, name: str) -> bool:
        """Whether weight decay shrinks the parameter of this name."""
        del name  # Unused.
        return True


def keep_sizes(network: nn.Module, ends: tuple[str, ...], branches: int) -> None:
    """Initialise linear layers so that they keep the size of what they pass on.

    With the usual deviation of 0.02 little of the observation reaches the actions at first, and a training of a few
    thousand steps spends most of them on changing that.

    Args:
        network: weights are drawn anew, biases become zero.
        ends: endings of the names of layers that end a residual branch.
        branches: of them a residual stream has so many, which together keep its size.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            fan_in = module.in_features * (branches if name.endswith(ends) else 1)
            nn.init.normal_(module.weight, std=fan_in**-0.5)
            nn.init.zeros_(module.bias)
