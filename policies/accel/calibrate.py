"""Makes the plan of ``sampler=bac`` for a policy, from a few observations of its own data."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save as dump_tensors

from policies.accel.bac_plan import Plan, Provenance, Recorder, digest, make_plan
from policies.chunked import Decision
from policies.diffusion import BoundDenoiser, DiffusionPolicy
from policies.networks.transformer import TransformerForDiffusion
from policies.samplers import SAMPLERS, Bac, seeded
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError

OBSERVATIONS = 16


def weights_hash(policy: DiffusionPolicy) -> str:
    """SHA-256 of the weights as a checkpoint stores them."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    return hashlib.sha256(dump_tensors(weights)).hexdigest()


@torch.inference_mode()
def calibrate(
    policy: DiffusionPolicy,
    sampler: Bac,
    state: Float[np.ndarray, "ticks N To Ds"],
    objects: Float[np.ndarray, "ticks N To De"],
) -> Plan:
    """Plan from N decisions; samplers with a memory need two or more consecutive control steps of each.

    Raises:
        ConfigError: the network has no blocks.
    """
    net = policy.model
    if not isinstance(net, TransformerForDiffusion):
        raise ConfigError("sampler=bac caches the blocks of a transformer: use policy=diffusion_transformer")
    K = len(policy.schedule)
    ticks, N = state.shape[:2]
    dtype = str(next(net.parameters()).dtype)
    provenance = Provenance(weights_hash(policy), sampler.described(K), dtype, digest(state, objects))

    def sample(recorder: Recorder) -> None:
        noise = policy.noise([seeded(i) for i in range(N)])
        memory = sampler.start(N)
        for tick in range(ticks):
            seen = (torch.from_numpy(a[tick]).float().to(policy.sigma.device) for a in (state, objects))
            elapsed = torch.full((N,), min(tick, 1), dtype=torch.int64, device=policy.sigma.device)
            decision = Decision(*policy.condition(*seen), noise, elapsed)
            _, memory = sampler.base.sample(BoundDenoiser(policy, decision, run=recorder), noise, memory)

    levels = tuple(k for k, _ in sampler.levels(K))
    options = {"updates": sampler.updates, "worst": sampler.worst, "method": sampler.method}
    return make_plan(sample, net, levels, provenance, **options)


def observations(
    arrays: EpisodeArrays, To: int, count: int = OBSERVATIONS, ticks: int = 2
) -> tuple[Float[np.ndarray, "ticks N To Ds"], Float[np.ndarray, "ticks N To De"]]:
    """Evenly spread observation windows of a dataset, each at ``ticks`` consecutive control steps."""
    windows = SequenceSampler(arrays.ends, To, To)
    last = np.arange(len(windows))
    episode = np.searchsorted(arrays.ends, last, side="right")
    usable = np.flatnonzero(arrays.ends[episode] - last >= ticks)
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(np.int64))]
    rows = np.stack([windows.gather(chosen + tick)[0] for tick in range(ticks)])
    return arrays.state[rows], arrays.environment_state[rows]


def plans(policy: DiffusionPolicy, arrays: EpisodeArrays) -> dict[str, Plan]:
    """Plans of all registered samplers that cache, for a policy whose network has blocks."""
    if not isinstance(policy.model, TransformerForDiffusion):
        return {}
    made = {}
    for name in SAMPLERS:
        sampler = SAMPLERS[name]
        if isinstance(sampler, Bac) and _fits(sampler, len(policy.schedule)):
            made[name] = calibrate(policy, sampler, *observations(arrays, policy.horizon.To))
    return made


def _fits(sampler: Bac, K: int) -> bool:
    try:
        sampler.evaluations(K)
    except ConfigError:
        return False
    return True
