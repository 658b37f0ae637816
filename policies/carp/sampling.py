"""How a code is chosen from its logits, by name.

The most likely code (``argmax``) is one mode of the demonstrations; drawing keeps them all. ``expected`` chooses none:
it takes the mean of the codes, which lies between neighbours where the network hesitates between them, and between
modes where there are several. The paper has the first two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from robostack.errors import ConfigError
from robostack.registry import Registry


@dataclass(frozen=True)
class TokenSampler:
    """Draws codes.

    Attributes:
        top_k: draw among the k most likely codes; 1 is argmax, 0 is all.
        top_p: draw among the fewest codes that together have at least this probability (arXiv 1904.09751).
        temperature: divides the logits.
        expected: take the mean of all codes, weighted by their probabilities, instead of one of them.
    """

    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0
    expected: bool = False

    def __post_init__(self):
        if self.top_k < 0 or not 0 < self.top_p <= 1 or self.temperature <= 0:
            raise ConfigError(f"{self} needs top_k >= 0, 0 < top_p <= 1 and temperature > 0")
        if self.expected and (self.top_k or self.top_p < 1):
            raise ConfigError(f"{self}: expected takes all codes, so it has neither top_k nor top_p")

    def choose(self, logits: Float[Tensor, "*n V"], uniform: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """One code each, by inverting the distribution at ``uniform`` numbers in [0, 1]."""
        if self.top_k == 1:
            return logits.argmax(-1)
        ranked, codes = (logits / self.temperature).sort(dim=-1, descending=True, stable=True)
        probability = ranked.softmax(-1)
        if self.top_k:
            probability[..., self.top_k :] = 0.0
        if self.top_p < 1:
            before = probability.cumsum(-1) - probability
            probability = probability.masked_fill(before >= self.top_p * probability.sum(-1, keepdim=True), 0.0)
        below = probability.cumsum(-1)
        wanted = uniform[..., None] * below[..., -1:]
        chosen = torch.searchsorted(below, wanted, right=True)
        last = (probability > 0).sum(-1, keepdim=True) - 1  # Where rounding would pass the end.
        return codes.gather(-1, torch.minimum(chosen, last)).squeeze(-1)


TOKEN_SAMPLERS: Registry[TokenSampler] = Registry("sampler")
TOKEN_SAMPLERS.add("argmax", TokenSampler(top_k=1))
TOKEN_SAMPLERS.add("expected", TokenSampler(expected=True))
TOKEN_SAMPLERS.add("sampled", TokenSampler())
TOKEN_SAMPLERS.add("top_k5", TokenSampler(top_k=5))
TOKEN_SAMPLERS.add("top_p90", TokenSampler(top_p=0.9))
TOKEN_SAMPLERS.add("cool", TokenSampler(temperature=0.5))
