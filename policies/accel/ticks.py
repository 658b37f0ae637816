"""Block caching across control steps, for samplers that continue their last decision by a short list of levels.

Consecutive decisions of such a sampler see nearly the same chunk, one action further, at the same few levels: what a
block adds at one level changes little from one control step to the next. A plan covers the levels of ``period``
decisions, its calls. Of all calls it computes each block in M; in the others it adds what the block added in the
latest computed call of one of the levels, moved on with the chunk where that is more alike (``aligned``).

The first decision of a period owes nothing to earlier ones. A lane is put there when it has no past, when another time
than one control step has passed, and when the observation has changed more than it does in the demonstrations
(``drift``): what was kept then tells nothing of the present.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from policies.accel.bac import Add, Code, Instruction, Run, bubbled
from policies.accel.bac_plan import Provenance, Recorder
from policies.networks.transformer import TransformerForDiffusion
from robostack.errors import CheckpointError, ConfigError

MOST_CALLS = 20  # The exact search takes seconds there and minutes soon after.


def schedule_ticks(similarity: Float[np.ndarray, "C C"], L: int, M: int) -> tuple[tuple[int, ...], float]:
    """The M of C calls, the first among them, that serve all calls best; exact.

    Args:
        similarity: of what a block adds in calls i <= j; the diagonal is 1.
        L: levels of a decision; call c is level c % L of decision c // L.
        M: number of calls in which the block is computed; C or more gives all of them.

    Returns:
        The calls, and the sum over all calls of the similarity to what serves them.
    """
    C = len(similarity)
    if M < 1:
        raise ConfigError(f"updates={M}: a cached block needs at least 1 of {C} calls")
    # What can serve a call depends on the latest computed call of every level alone.
    best: dict[tuple[tuple[int, ...], int], tuple[float, tuple[int, ...]]] = {((-1,) * L, 0): (0.0, ())}
    for call in range(C):
        following: dict[tuple[tuple[int, ...], int], tuple[float, tuple[int, ...]]] = {}
        for (latest, used), (value, calls) in best.items():
            options = []
            if used:
                options.append(((latest, used), value + max(similarity[c, call] for c in latest if c >= 0), calls))
            if used < M:
                level = call % L
                renewed = (*latest[:level], call, *latest[level + 1 :])
                options.append(((renewed, used + 1), value + similarity[call, call], (*calls, call)))
            for state, total, chosen in options:
                if state not in following or total > following[state][0]:
                    following[state] = (float(total), chosen)
        best = following
    value, calls = max(best.values(), key=lambda found: (len(found[1]), found[0]))
    return calls, value


def served_by(similarity: Float[np.ndarray, "C C"], L: int, calls: Sequence[int]) -> tuple[int, ...]:
    """Per call the computed call that serves it: itself, or the most similar of the latest of every level."""
    latest: dict[int, int] = {}
    sources = []
    for call in range(len(similarity)):
        if call in calls:
            latest[call % L] = call
            sources.append(call)
        else:
            sources.append(max(latest.values(), key=lambda c: (similarity[c, call], c)))
    return tuple(sources)


@dataclass(frozen=True)
class TickPlan:
    """Which blocks are computed in which calls of a period, and what is added in the others.

    Attributes:
        levels: L diffusion steps of a decision.
        period: decisions after which the plan begins again.
        sources: per block and call, the call whose value is added: itself where the block is computed.
        aligned: per block, whether kept values move on with the chunk.
        errors: per block, relative change (rms) of what is added between a call and its source; 0 without reuse.
        drift: change of the observation (rms, network units) up to which kept values are of use.
        provenance: what it was made for.
    """

    levels: tuple[int, ...]
    period: int
    sources: tuple[tuple[int, ...], ...]
    aligned: tuple[bool, ...]
    errors: tuple[float, ...]
    drift: float
    provenance: Provenance

    def __post_init__(self):
        C, L = len(self.levels) * self.period, len(self.levels)
        if L < 1 or not len(self.sources) == len(self.aligned) == len(self.errors) or not self.drift >= 0:
            raise ValueError(f"{len(self.sources)} blocks, {len(self.aligned)} aligned, drift {self.drift}")
        for sources in self.sources:
            if len(sources) != C:
                raise ValueError(f"sources {sources} of {C} calls")
            latest: dict[int, int] = {}
            for call, source in enumerate(sources):
                if source == call:
                    latest[call % L] = call
                if source not in latest.values():
                    raise ValueError(f"sources {sources} of {C} calls")

    @cached_property
    def slots(self) -> tuple[tuple[int, int], ...]:
        """Block and level of every value that is kept."""
        L = len(self.levels)
        kept = {(b, s % L) for b, sources in enumerate(self.sources) for c, s in enumerate(sources) if s != c}
        return tuple(sorted(kept))

    @cached_property
    def calls(self) -> tuple[Code, ...]:
        """Straight-line code of every call of a period."""
        L, place = len(self.levels), {kept: slot for slot, kept in enumerate(self.slots)}

        def instruction(block: int, call: int) -> Instruction:
            sources = self.sources[block]
            if sources[call] != call:
                return Add(place[block, sources[call] % L])
            return Run(block, place[block, call % L] if call in sources[call + 1 :] else None)

        C = L * self.period
        return tuple(tuple(instruction(block, call) for block in range(len(self.sources))) for call in range(C))

    @property
    def share(self) -> float:
        """Share of the block evaluations that remain."""
        computed = sum(call == source for sources in self.sources for call, source in enumerate(sources))
        return computed / sum(map(len, self.sources))

    def advance(self, kept: Float[Tensor, "B S T n"]) -> Float[Tensor, "B S T n"]:
        """Kept values one control step later."""
        moves = torch.tensor([self.aligned[block] for block, _ in self.slots], dtype=torch.bool, device=kept.device)
        return torch.where(moves[:, None, None], torch.cat([kept[:, :, 1:], kept[:, :, -1:]], dim=2), kept)

    def to_json(self) -> str:
        """Text for a file."""
        values = {**vars(self), "provenance": vars(self.provenance), "share": round(self.share, 4)}
        return json.dumps({name: values[name] for name in (*self.__dataclass_fields__, "share")}, indent=1)

    @classmethod
    def from_json(cls, text: str, source: str) -> TickPlan:
        """Inverse of ``to_json``; raises CheckpointError, naming ``source``, for a file that is damaged."""
        try:
            values: Mapping[str, Any] = json.loads(text)
            return cls(
                tuple(int(k) for k in values["levels"]),
                int(values["period"]),
                tuple(tuple(int(c) for c in sources) for sources in values["sources"]),
                tuple(bool(moves) for moves in values["aligned"]),
                tuple(float(e) for e in values["errors"]),
                float(values["drift"]),
                Provenance(**values["provenance"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source} is damaged ({error}): calibrate again") from error


Execute = Callable[[Tensor, Code, list[Tensor | None], Tensor | None], Tensor]
"""Runs the network: chunks of some lanes, instructions, slots (set in place), the lanes (None for all)."""


class TickRun:
    """The short list of one decision, of lanes in different phases of a plan."""

    def __init__(self, plan: TickPlan, phase: Int[Tensor, " B"], kept: Float[Tensor, "B S T n"]):
        """Begin a decision.

        Args:
            plan: of the checkpoint.
            phase: which decision of the period it is for each lane.
            kept: of the last decision, S may be 0 where all phases are; see ``kept``.
        """
        self._plan, self._next = plan, 0
        present = sorted(set(phase.tolist()))
        values = plan.advance(kept) if kept.shape[1] else None
        self._groups: list[tuple[int, Tensor | None, list[Tensor | None]]] = []
        for p in present:
            lanes = None if len(present) == 1 else torch.nonzero(phase == p)[:, 0]
            slots: list[Tensor | None] = [None] * len(plan.slots)
            if values is not None and p:
                slots = list(values.unbind(1) if lanes is None else values[lanes].unbind(1))
            self._groups.append((p, lanes, slots))

    def predict(self, x: Float[Tensor, "B T Da"], k: int, execute: Execute) -> Float[Tensor, "B T Da"]:
        """The network's output at diffusion step k, the next of the plan's."""
        levels, call = self._plan.levels, self._next
        assert levels[call : call + 1] == (k,), (levels, call, k)
        self._next += 1
        out = torch.empty_like(x)
        for phase, lanes, slots in self._groups:
            code = self._plan.calls[phase * len(levels) + call]
            if lanes is None:
                return execute(x, code, slots, None)
            out[lanes] = execute(x[lanes], code, slots, lanes)
        return out

    def kept(self, lanes: int) -> Float[Tensor, "B S T n"]:
        """What the next decision may use; S is 0 where nothing was computed."""
        shape = next((s.shape[1:] for _, _, slots in self._groups for s in slots if s is not None), None)
        if shape is None:
            return torch.zeros(lanes, 0, 0, 0)
        parts = []
        for _, which, slots in self._groups:
            count = lanes if which is None else len(which)
            like = next((s for s in slots if s is not None), None)
            empty = torch.zeros(count, *shape) if like is None else torch.zeros_like(like)
            parts.append(torch.stack([empty if s is None else s.detach() for s in slots], dim=1))
        if len(parts) == 1:
            return parts[0]
        out = torch.empty(lanes, *parts[0].shape[1:], dtype=parts[0].dtype, device=parts[0].device)
        for (_, which, _), part in zip(self._groups, parts, strict=True):
            out[which] = part
        return out


def make_tick_plan(
    sample: Callable[[Recorder], float],
    net: TransformerForDiffusion,
    levels: tuple[int, ...],
    provenance: Provenance,
    *,
    period: int,
    updates: int,
    worst: int,
) -> TickPlan:
    """Plan for a short list from decisions at consecutive control steps.

    Args:
        sample: decides with the recorder in place of the network, at last ``period`` times by ``levels``; returns the
            drift.
        net: the network.
        levels: diffusion steps of a decision.
        provenance: kept with the plan.
        period: decisions of the plan.
        updates: calls of a period per block, before the union of ``policies.accel.bac.bubbled``.
        worst: blocks that take part in the union; below 2 for none.
    """
    recorder = Recorder(net)
    drift = sample(recorder)
    L, C = len(levels), len(levels) * period
    assert tuple(recorder.levels[-C:]) == levels * period, (recorder.levels, levels)
    found = [_block_plan([call[b] for call in recorder.values[-C:]], L, net, updates) for b in range(net.blocks)]
    merged = bubbled(tuple(f.calls for f in found), [f.change for f in found], worst)
    sources = tuple(served_by(f.similarity, L, calls) for f, calls in zip(found, merged, strict=True))
    errors = tuple(
        float(np.mean([f.relative[s, c] for c, s in enumerate(served) if s != c] or [0.0]))
        for f, served in zip(found, sources, strict=True)
    )
    return TickPlan(levels, period, sources, tuple(f.aligned for f in found), errors, drift, provenance)


@dataclass(frozen=True)
class _Block:
    """What one block added in the calls of a period, pair by pair, and the calls that serve them best."""

    aligned: bool
    similarity: np.ndarray
    relative: np.ndarray
    change: float
    calls: tuple[int, ...]
    value: float


def _block_plan(recorded: list[Tensor], L: int, net: TransformerForDiffusion, updates: int) -> _Block:
    """The better of keeping values at their place in the chunk and moving them on with it."""
    calls = [value.unflatten(1, (-1, net.cfg.n_emb)) for value in recorded]  # (B, T, n) each.
    found = []
    for aligned in (True, False):
        C = len(calls)
        similarity, relative, change = np.eye(C), np.zeros((C, C)), []
        for b in range(C):
            for a in range(b):
                old = _later(calls[a], b // L - a // L) if aligned else calls[a]
                pair = old.flatten(1), calls[b].flatten(1)
                similarity[a, b] = float(torch.nn.functional.cosine_similarity(*pair).mean())
                off, size = (pair[0] - pair[1]).square().mean().sqrt(), pair[1].square().mean().sqrt()
                relative[a, b] = float(off / size.clamp(min=1e-12))
                change.append(float((pair[0] - pair[1]).abs().mean()))
        chosen, value = schedule_ticks(similarity, L, updates)
        found.append(_Block(aligned, similarity, relative, float(np.mean(change or [0.0])), chosen, value))
    return max(found, key=lambda block: block.value)


def _later(value: Float[Tensor, "B T n"], steps: int) -> Float[Tensor, "B T n"]:
    """Tokens of a chunk ``steps`` control steps later, the last repeated."""
    T = value.shape[1]
    return value[:, (torch.arange(T) + steps).clamp(max=T - 1)]
