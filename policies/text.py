"""Instructions as a part of the context: a fixed vector of the words, then a small MLP that is learnt.

``hashed`` needs no weights and no network: words, pairs of words and trigrams of letters are counted with signs in
slots that a hash chooses (Weinberger et al., Feature Hashing for Large Scale Multitask Learning, arXiv 0902.2206).
Instructions that share words lie close, synonyms do not. ``hub:<model>`` takes the mean of a pretrained encoder's
last states (Reimers and Gurevych, arXiv 1908.10084), for policies that shall understand other words than they learnt.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.context import ContextPart, View
from robostack.errors import CheckpointError, ConfigError, DataError, MissingExtra

HASHED, HUB, NO_TEXT = "hashed", "hub:", "none"
_SLOTS = 256
_WORD = re.compile(r"[^\W_]+")
_KEPT = 4096  # instructions whose vectors are remembered


@dataclass(frozen=True)
class TextCfg:
    """How a policy reads its instruction.

    Attributes:
        encoder: ``hashed``, ``hub:<model id or folder>`` of a transformers model, or ``none`` for no instructions.
        width: of the vector made from an instruction.
    """

    encoder: str = HASHED
    width: int = 64

    def __post_init__(self):
        if self.encoder not in (HASHED, NO_TEXT) and not self.encoder.startswith(HUB):
            raise ConfigError(
                f"unknown text.encoder '{self.encoder}': use {HASHED}, {HUB}<model id or folder>, or {NO_TEXT}"
            )
        if self.encoder == HUB or self.width < 1:
            raise ConfigError(f"text.encoder={self.encoder} must name a model, text.width={self.width} be at least 1")


class TextEncoder(ContextPart):
    """An MLP on the vector of each sample's instruction; the vectors themselves are not learnt."""

    def __init__(self, cfg: TextCfg):
        """Build for an encoder; raises what ``vector_of`` raises where its model cannot be loaded."""
        super().__init__()
        self.encoder, self.width = cfg.encoder, cfg.width
        known = len(vector_of(cfg.encoder, "a"))
        self.mlp = nn.Sequential(nn.Linear(known, cfg.width), nn.Mish(), nn.Linear(cfg.width, cfg.width))

    def forward(self, view: View, generator: torch.Generator | None = None) -> Float[Tensor, "B C"]:
        """One vector per sample; raises DataError where a sample has no instruction."""
        del generator  # Unused: instructions are not augmented.
        given = view.observed.language
        if len(given) != len(view.steps) or not all(_WORD.search(text) for text in given):
            raise DataError("the policy follows an instruction, and there is none: set the language of the observation")
        vectors = np.stack([vector_of(self.encoder, text) for text in given])
        return self.mlp(torch.from_numpy(vectors).to(view.steps.device))


@lru_cache(_KEPT)
def vector_of(encoder: str, text: str) -> Float[np.ndarray, " V"]:
    """The unit vector of an instruction, computed once per process; read-only.

    Raises:
        MissingExtra: the encoder needs a package that is not installed.
        CheckpointError: its model cannot be loaded.
    """
    vector = hashed(text) if encoder == HASHED else _hub(encoder.removeprefix(HUB))(text)
    vector.setflags(write=False)
    return vector


def hashed(text: str) -> Float[np.ndarray, "256"]:
    """Signed counts of what an instruction is made of, of length 1; the same in every process and on every machine."""
    vector = np.zeros(_SLOTS, np.float32)
    for feature in _features(text.lower()):
        digest = hashlib.blake2b(feature.encode(), digest_size=2).digest()
        vector[digest[0]] += 1 if digest[1] & 1 else -1
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def _features(text: str) -> list[str]:
    words = _WORD.findall(text)
    trigrams = [f"<{word}>"[i : i + 3] for word in words for i in range(len(word))]
    return [f"1 {w}" for w in words] + [f"2 {a} {b}" for a, b in pairwise(words)] + [f"3 {t}" for t in trigrams]


@lru_cache(4)
def _hub(name: str) -> Callable[[str], Float[np.ndarray, " V"]]:
    """Mean of a pretrained model's last states over the tokens of a text."""
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("transformers", None) from error
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        whole = transformers.AutoModel.from_pretrained(name).eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"text.encoder={HUB}{name} cannot be loaded ({reason}): give the folder of a model, or let it be fetched "
            "with HF_HUB_OFFLINE=0"
        ) from error
    model = whole.get_encoder() if whole.config.is_encoder_decoder else getattr(whole, "text_model", whole)

    @torch.inference_mode()
    def embed(text: str) -> Float[np.ndarray, " V"]:
        states = model(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state
        return nn.functional.normalize(states.float().mean(dim=1), dim=1)[0].numpy()

    return embed
