"""CARP: coarse-to-fine autoregressive prediction of action chunks (Gong et al., arXiv 2412.06782).

The first part of a training learns the tokenizer, the second, with the tokenizer at rest, the transformer that
predicts its codes. A decision is one network pass per scale: four with the default patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.base import Batch, Stage
from policies.carp.columns import ActionColumns
from policies.carp.gpt import GptCfg, ScaleGpt
from policies.carp.sampling import TOKEN_SAMPLERS, TokenSampler
from policies.carp.tokenizer import ActionTokenizer, TokenizerCfg
from policies.chunked import ChunkCfg, ChunkPolicy, Condition, Decision
from policies.samplers import LaneNoise
from robostack.errors import ConfigError
from robostack.types import Features

_TOKENIZER, _TRANSFORMER = 0, 1


@dataclass(frozen=True)
class CarpCfg(ChunkCfg):
    """Everything that shapes the policy.

    Attributes:
        tokenizer: size of the tokenizer; ``Tp`` is four times its last patch number.
        tokenizer_share: share of the training's steps that learns the tokenizer; the rest learns the transformer.
        network: size of the transformer.
        sampler: how codes are chosen by default: ``argmax``, ``expected``, ``sampled``, ...
    """

    tokenizer: TokenizerCfg = field(default_factory=TokenizerCfg)
    tokenizer_share: float = 0.4
    network: GptCfg = field(default_factory=GptCfg)
    sampler: str = "argmax"

    def __post_init__(self):
        super().__post_init__()
        self.tokenizer.check_horizon(self.Tp)
        if not 0 < self.tokenizer_share < 1:
            raise ConfigError(f"tokenizer_share={self.tokenizer_share} must be between 0 and 1, such as 0.4")
        TOKEN_SAMPLERS[self.sampler]


class CarpPolicy(ChunkPolicy):
    """The policy: tokenizer, transformer, normalisers and a rule that chooses codes. It remembers nothing.

    Attributes:
        columns: which columns of the actions are predicted, and how the others follow from them.
    """

    cfg: CarpCfg
    columns: ActionColumns

    def __init__(self, cfg: CarpCfg, features: Features):
        super().__init__(cfg, features)
        self.sampler: TokenSampler = TOKEN_SAMPLERS[cfg.sampler]
        self._predict(ActionColumns.all(len(features.action)))

    def _predict(self, columns: ActionColumns) -> None:
        """New networks for these columns."""
        cfg, self.columns, D = self.cfg, columns, len(columns.kept)
        width = cfg.To * self.step_dim + self.context_dim
        self.tokenizer = ActionTokenizer(D, cfg.tokenizer)
        self.gpt = ScaleGpt(D, width, cfg.tokenizer.patches, cfg.tokenizer.codes, cfg.tokenizer.code_dim, cfg.network)

    # Training.

    def fit_actions(self, actions: Float[Tensor, "... Da"]) -> None:
        """Find the columns to predict, and fit the tokenizer's standardisation."""
        columns = ActionColumns.of(actions)
        if columns != self.columns:
            self._predict(columns)
        self.tokenizer.fit(columns.narrow(actions))

    def found(self) -> dict[str, Any]:
        """The columns."""
        return {"columns": self.columns.to_dict()}

    def adopt(self, found: Mapping[str, Any]) -> None:
        """Predict the columns that were found; all, in checkpoints that do not say."""
        if "columns" in found:
            self._predict(ActionColumns.from_dict(found["columns"]))

    def stages(self) -> tuple[Stage, ...]:
        """The tokenizer, then the transformer with what makes the context."""
        share = self.cfg.tokenizer_share
        return Stage(share, ("tokenizer",)), Stage(1 - share, ("gpt", *self.parts))

    def loss(self, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
        """Of the stage that the batch is for."""
        cond, units = self.condition(self.aimed(batch, generator), generator)
        actions = units.encode(batch.action)
        if batch.stage == _TRANSFORMER:
            return self.chunk_loss(cond, actions, generator)
        with torch.autocast(actions.device.type, enabled=False):  # Nearest codes need all the bits of a distance.
            return self.tokenizer.loss(self.columns.narrow(actions))

    def chunk_loss(
        self, cond: Condition, actions: Float[Tensor, "B Tp Da"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Cross entropy of the codes of all scales, each predicted from the true codes of the scales before."""
        del generator  # Unused: there is nothing random in it.
        with torch.no_grad(), torch.autocast(actions.device.type, enabled=False):
            found = self.tokenizer.quantise(self.tokenizer.encode(self.columns.narrow(actions)))
            coarse = [self.tokenizer.coarsen(h, s + 1) for s, h in enumerate(found.sums[:-1])]
        start, modulation = self.gpt.condition(cond.flat)
        inputs = [self.gpt.first(start), *(self.gpt.tokens(h, s + 1) for s, h in enumerate(coarse))]
        logits, _ = self.gpt(torch.cat(inputs, dim=1), modulation)
        codes = torch.cat([i.transpose(1, 2).flatten(1) for i in found.indices], dim=1)
        return F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())

    # Acting.

    def use_sampler(self, name: str) -> None:
        """Choose codes in another way; episodes under way are forgotten."""
        self.sampler, self._lanes = TOKEN_SAMPLERS[name], []

    def evaluations(self) -> Int[Tensor, " B"]:
        """Network evaluations that the last decision of each lane took."""
        return torch.full((len(self._lanes),), len(self.cfg.tokenizer.patches))

    def forget(self, mask: Bool[Tensor, " B"]) -> None:
        """Nothing is remembered."""
        del mask  # Unused.

    def draw(self, decision: Decision) -> Float[Tensor, "B Tp Da"]:
        """Choose the codes of scale after scale, then decode."""
        start, modulation = self.gpt.condition(decision.cond.flat)
        x, cache, total = self.gpt.first(start), None, None
        for s, size in enumerate(self.cfg.tokenizer.patches):
            if s > 0:
                assert total is not None
                x = self.gpt.tokens(self.tokenizer.coarsen(total, s), s)
            logits, cache = self.gpt(x, modulation, cache)
            vectors = self._vectors(logits.unflatten(1, (size, -1)), decision.noise)
            added = self.tokenizer.describe(vectors, s)
            total = added if total is None else total + added
        assert total is not None
        return self.columns.widen(self.tokenizer.decode(total))

    def _vectors(self, logits: Float[Tensor, "B P D V"], noise: LaneNoise) -> Float[Tensor, "B D P C"]:
        """What stands for the codes of a scale: one of them each, or their mean."""
        if self.sampler.expected:
            return self.tokenizer.mean_vectors((logits / self.sampler.temperature).softmax(-1).transpose(1, 2))
        if self.sampler.top_k == 1:
            uniform = torch.zeros(logits.shape[:-1], device=logits.device)
        else:  # normal numbers of every lane through their distribution function
            uniform = torch.special.ndtr(noise.draw()[:, : logits.shape[1], : logits.shape[2]])
        return self.tokenizer.vectors(self.sampler.choose(logits, uniform).transpose(1, 2))

    @torch.inference_mode()
    def codebook_usage(self, actions: Float[Tensor, "B Tp Da"]) -> Float[Tensor, " D"]:
        """Share of the codes of each predicted column that chunks in network units use."""
        found = self.tokenizer.quantise(self.tokenizer.encode(self.columns.narrow(actions)))
        codes = torch.cat(found.indices, dim=2).transpose(0, 1).flatten(1)  # (D, n)
        return torch.stack([torch.tensor(len(c.unique()) / self.cfg.tokenizer.codes) for c in codes])
