"""Makes the plan of ``sampler=bac`` for a policy, from a few observations of its own data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as dump_tensors

from policies.accel.bac_plan import Plan, Provenance, Recorder, digest, make_plan, plan_file
from policies.accel.ticks import TickPlan, make_tick_plan
from policies.chunked import Decision
from policies.diffusion import BoundDenoiser, DiffusionPolicy
from policies.networks.transformer import TransformerForDiffusion
from policies.observed import Observed, Recorded
from policies.samplers import OVER_RTI, RTI, SAMPLERS, Bac, BacTicks, Sampler, seeded
from policies.samplers.bac import Listed
from robostack.data.arrays import EpisodeArrays
from robostack.data.atomic import write_atomic
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError

OBSERVATIONS = 16


def weights_hash(policy: DiffusionPolicy) -> str:
    """SHA-256 of the weights as a checkpoint stores them."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    return hashlib.sha256(dump_tensors(weights)).hexdigest()


@torch.inference_mode()
def calibrate(policy: DiffusionPolicy, sampler: Bac, ticks: Sequence[Observed]) -> Plan | TickPlan:
    """Plan from N decisions, each at consecutive control steps: two or more for samplers with a memory.

    Raises:
        ConfigError: the network has no blocks.
    """
    net = policy.model
    if not isinstance(net, TransformerForDiffusion):
        raise ConfigError("sampler=bac caches the blocks of a transformer: use policy=diffusion_transformer")
    K = len(policy.schedule)
    N = len(ticks[0])
    dtype = str(next(net.parameters()).dtype)
    provenance = Provenance(weights_hash(policy), sampler.described(K), dtype, _digest(ticks))

    base = replace(sampler.base, tau=None) if isinstance(sampler.base, RTI) else sampler.base  # No other list cuts in.

    def sample(recorder: Recorder) -> float:
        """Decide at every control step; returns the largest change of the observation between two (rms)."""
        noise = policy.noise([seeded(i) for i in range(N)])
        memory, before, change = sampler.start(N), None, 0.0
        for tick, observed in enumerate(ticks):
            elapsed = torch.full((N,), min(tick, 1), dtype=torch.int64, device=policy.sigma.device)
            denoiser = BoundDenoiser(policy, Decision(*policy.condition(observed), noise, elapsed), run=recorder)
            _, memory = base.sample(denoiser, noise, memory)
            if before is not None:
                change = max(change, float((denoiser.seen - before).square().mean(dim=1).sqrt().max()))
            before = denoiser.seen
        return change

    levels = tuple(k for k, _ in sampler.levels(K))
    options = {"updates": sampler.updates(K), "worst": sampler.worst}
    if isinstance(sampler, BacTicks):
        drift = sampler.drift_margin
        return make_tick_plan(lambda r: drift * sample(r), net, levels, provenance, period=sampler.period, **options)
    return make_plan(sample, net, levels, provenance, method=sampler.method, **options)


def _digest(ticks: Sequence[Observed]) -> str:
    columns = zip(*(tick.tensors() for tick in ticks), strict=True)
    return digest(*(np.stack([tensor.cpu().numpy() for tensor in column]) for column in columns))


def observations(
    arrays: EpisodeArrays, policy: DiffusionPolicy, count: int = OBSERVATIONS, ticks: int = 2
) -> tuple[Observed, ...]:
    """What a policy sees of a dataset at ``ticks`` consecutive control steps, each at the same evenly spread places."""
    To = policy.horizon.To
    windows = SequenceSampler(arrays.ends, To, To)
    last = np.arange(len(windows))
    episode = np.searchsorted(arrays.ends, last, side="right")
    usable = np.flatnonzero(arrays.ends[episode] - last >= ticks)
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(np.int64))]
    recorded = Recorded(arrays, policy.features, policy.sigma.device)
    return tuple(recorded.at(windows.gather(chosen + tick)[0]) for tick in range(ticks))


def cached_rti(name: str, rti: Sampler) -> Bac:
    """One of ``OVER_RTI`` over a checkpoint's own ``rti``; where that decides from noise, within decisions only."""
    record = SAMPLERS[name if isinstance(rti, RTI) else "rti_bac"]
    assert isinstance(record, Bac), record
    assert isinstance(rti, Listed), rti
    return replace(record, base=rti)


def save_block_plans(path: Path, policy: DiffusionPolicy, arrays: EpisodeArrays, rti: Sampler) -> None:
    """Write the plans of all samplers that cache blocks into a checkpoint; of a network without blocks there are none.

    Args:
        path: the checkpoint, of this policy.
        policy: whose blocks they are.
        arrays: a dataset to observe.
        rti: the policy's own ``rti``.
    """
    if not isinstance(policy.model, TransformerForDiffusion):
        return
    for name in SAMPLERS:
        record = SAMPLERS[name]
        if not isinstance(record, Bac):
            continue
        try:
            sampler = cached_rti(name, rti) if name in OVER_RTI else record
            sampler.evaluations(len(policy.schedule))
        except ConfigError:  # Too many steps for this policy, or a list of its own that is not short.
            continue
        seen = observations(arrays, policy, ticks=sampler.period + 2 if isinstance(sampler, BacTicks) else 2)
        write_atomic(path / plan_file(name), calibrate(policy, sampler, seen).to_json().encode())
