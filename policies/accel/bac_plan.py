"""Plans of block-wise caching: made from observations, kept with a checkpoint, refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from policies.accel.bac import Add, Code, Run, Sum, Updates, bubbled, schedule, uniform, unroll
from policies.networks.base import Conditioning
from policies.networks.transformer import TransformerForDiffusion
from robostack.errors import CheckpointError, ConfigError

METHODS = ("adaptive", "consecutive", "uniform")


@dataclass(frozen=True)
class Provenance:
    """What a plan was made for and from.

    Attributes:
        weights: SHA-256 of the checkpoint's weights.
        sampler: the sampler, spelled out.
        dtype: of the network.
        data: SHA-256 of the observations.
    """

    weights: str
    sampler: str
    dtype: str
    data: str

    def require(self, *, weights: str, sampler: str, dtype: str, source: str) -> None:
        """Raise CheckpointError, naming ``source``, unless the plan was made for these."""
        for name, wanted in (("weights", weights), ("sampler", sampler), ("dtype", dtype)):
            found = getattr(self, name)
            if found != wanted:
                short = [text if name != "weights" else text[:12] for text in (found, wanted)]
                raise CheckpointError(f"{source} was made for {name} {short[0]}, not {short[1]}: calibrate again")


@dataclass(frozen=True)
class Plan:
    """Which blocks are computed in which calls.

    Attributes:
        levels: diffusion steps of the calls.
        updates: per block, the calls in which it is computed; the first always.
        provenance: what it was made for.
    """

    levels: tuple[int, ...]
    updates: Updates
    provenance: Provenance

    def __post_init__(self):
        K = len(self.levels)
        for calls in self.updates:
            if not calls or calls[0] != 0 or list(calls) != sorted(set(calls)) or calls[-1] >= K:
                raise ValueError(f"updates {calls} of {K} calls")

    @cached_property
    def calls(self) -> tuple[Code, ...]:
        """Straight-line code of every call."""
        return unroll(self.updates, len(self.levels))

    @property
    def share(self) -> float:
        """Share of the block evaluations that remain."""
        return sum(map(len, self.updates)) / (len(self.updates) * len(self.levels))

    def to_json(self) -> str:
        """Text for a file."""
        values = {"levels": self.levels, "updates": self.updates, "provenance": vars(self.provenance)}
        return json.dumps(values | {"share": round(self.share, 4)}, indent=1)

    @classmethod
    def from_json(cls, text: str, source: str) -> Plan:
        """Inverse of ``to_json``; raises CheckpointError, naming ``source``, for a file that is damaged."""
        try:
            values: Mapping[str, Any] = json.loads(text)
            updates = tuple(tuple(int(i) for i in calls) for calls in values["updates"])
            return cls(tuple(int(k) for k in values["levels"]), updates, Provenance(**values["provenance"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source} is damaged ({error}): calibrate again") from error


class CachedNetwork:
    """Eager denoising by a plan. A call out of the plan's order is computed in full, and starts the plan over."""

    def __init__(self, net: TransformerForDiffusion, plan: Plan):
        self._net, self._plan, self._next = net, plan, 0
        slots = [s for code in plan.calls for i in code for s in ([i.into] if isinstance(i, Sum) else [])]
        self._slots: list[Any] = [None] * (max([len(plan.updates) - 1, *slots]) + 1)

    def __call__(self, x: Float[Tensor, "B T Da"], k: int, conditioning: Conditioning) -> Float[Tensor, "B T Da"]:
        """Predict at diffusion step k."""
        call = position(self._plan, self._next, k)
        if call is None:
            self._next = 0
            return self._net.denoise(x, conditioning)
        self._next = call + 1
        return execute(self._net, self._plan.calls[call], self._slots, x, conditioning)


def execute(
    net: TransformerForDiffusion, code: Code, slots: list[Any], x: Float[Tensor, "B T Da"], conditioning: Conditioning
) -> Float[Tensor, "B T Da"]:
    """The network's output with blocks as the instructions have it; ``slots``, (B, T, n) each, are read and set."""
    h = net.embed(x)
    for instruction in code:
        match instruction:
            case Run(block, slot):
                value = net.block(block, h, conditioning)
                if slot is not None:
                    slots[slot] = value
                h = h + value
            case Sum(of, into):
                slots[into] = torch.stack([slots[s] for s in of]).sum(0)
            case Add(slot):
                h = h + slots[slot]
    return net.output(h)


def plan_file(sampler: str) -> str:
    """Name of the file of a sampler's plan in a checkpoint."""
    return f"plan_{sampler}.json"


def position(plan: Plan, expected: int, k: int) -> int | None:
    """Which call of the plan level k is, when call ``expected`` is due: that one, the first, or none."""
    if expected < len(plan.levels) and plan.levels[expected] == k:
        return expected
    return 0 if plan.levels[0] == k else None


class Recorder:
    """Eager denoising that remembers what every block returned in every call."""

    def __init__(self, net: TransformerForDiffusion):
        self._net = net
        self.levels: list[int] = []
        self.values: list[list[Tensor]] = []

    def __call__(self, x: Float[Tensor, "B T Da"], k: int, conditioning: Conditioning) -> Float[Tensor, "B T Da"]:
        """Predict at diffusion step k."""
        net, values = self._net, []
        h = net.embed(x)
        for block in range(net.blocks):
            values.append(net.block(block, h, conditioning))
            h = h + values[-1]
        self.levels.append(k)
        self.values.append([value.flatten(1).cpu() for value in values])
        return net.output(h)


def make_plan(
    sample: Callable[[Recorder], object],
    net: TransformerForDiffusion,
    levels: tuple[int, ...],
    provenance: Provenance,
    *,
    updates: int,
    worst: int,
    method: str,
) -> Plan:
    """Plan for a list of levels from one batch of decisions.

    Args:
        sample: draws chunks with the recorder in place of the network; its last calls are those of ``levels``.
        net: the network.
        levels: diffusion steps of the calls.
        provenance: kept with the plan.
        updates: calls per block, before the union.
        worst: blocks that take part in the union; below 2 for none.
        method: ``adaptive``, ``consecutive`` (segments valued as in the paper's text) or ``uniform``.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method '{method}': use one of {', '.join(METHODS)}")
    recorder = Recorder(net)
    sample(recorder)
    K = len(levels)
    assert tuple(recorder.levels[-K:]) == levels, (recorder.levels, levels)
    if method == "uniform":
        return Plan(levels, (uniform(K, updates),) * net.blocks, provenance)
    chosen, errors = [], []
    for block in range(net.blocks):
        values = torch.stack([call[block] for call in recorder.values[-K:]])  # (K, B, T n)
        unit = torch.nn.functional.normalize(values, dim=-1)
        similarity = torch.einsum("ibn,jbn->ij", unit, unit).double().numpy() / values.shape[1]
        chosen.append(schedule(similarity, updates, consecutive=method == "consecutive"))
        errors.append(_mean_change(values))
    return Plan(levels, bubbled(tuple(chosen), errors, worst), provenance)


def _mean_change(values: Float[Tensor, "K B n"]) -> float:
    """Mean absolute difference between two calls."""
    K = len(values)
    pairs = [float((values[i + 1 :] - values[i]).abs().mean(dim=(1, 2)).sum()) for i in range(K - 1)]
    return sum(pairs) / max(1, K * (K - 1) // 2)


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(str((array.shape, array.dtype)).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
