"""Latency of one decision against lerobot's DiffusionPolicy: the same observation, in one process, turn by turn.

A decision is ``infer``: from an observation in physical units to a chunk of actions in physical units. Weights are
random; they take as long as others. Where the networks are equal they share their weights (``policies.convert``) and
their noise, so that the chunks can be compared.

lerobot's default takes a hundred evaluations of 249 M parameters. They are equal steps, so a round measures one of
them, network and scheduler, and counts it a hundred times; ``--full`` takes one whole decision instead.

    python -m policies.bench.lerobot [--threads 1 2] [--rounds 10] [--full] [--out lerobot.json]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.accel.hot import WEIGHTS
from policies.base import TrainablePolicy
from policies.bench.latency import bench_features, denoising
from policies.bench.timing import Contender, Work, parser, report, start, work_of
from policies.convert import to_lerobot
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.lerobot import LerobotDiffusionCfg, build_diffusion
from policies.networks.transformer import PAPER, TransformerCfg
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import DDIM, RTI, LaneNoise, Sampler, seeded
from robostack.types import Observation

_TWO = RTI((5, 0))


@dataclass(frozen=True)
class Sizes:
    """Networks that are compared.

    Attributes:
        lerobot: lerobot's own configuration.
        equal: lerobot's U-Net and ours at these widths.
        unet, transformer, large: ours.
    """

    lerobot: LerobotDiffusionCfg = field(default_factory=LerobotDiffusionCfg)
    equal: UnetCfg = field(default_factory=lambda: UnetCfg((256, 512, 1024), kernel=5, groups=8, step_dim=128))
    unet: UnetCfg = field(default_factory=UnetCfg)
    transformer: TransformerCfg = field(default_factory=TransformerCfg)
    large: TransformerCfg = PAPER


class _Deciding:
    """A policy that takes the same decision again and again, or the next one of an episode where it continues plans."""

    def __init__(self, policy: TrainablePolicy, sampler: str | Sampler | None = None):
        if sampler is not None:
            policy.use_sampler(sampler)  # pyright: ignore[reportArgumentType]
        self.policy, self.continues = policy, isinstance(sampler, RTI)
        state, objects = _observed(policy.horizon.To)
        self.state, self.objects, self.tick = state.numpy(), objects.numpy(), 0

    def __call__(self) -> Tensor:
        if self.tick == 0 or not self.continues:
            self.policy.reset(np.ones(1, bool), np.zeros(1, np.int64))
            self.tick = 0
        obs = Observation(self.tick / self.policy.features.rate_hz, self.state, self.objects)
        self.tick += 1
        return torch.from_numpy(self.policy.infer(obs).actions)


def _observed(To: int) -> tuple[Tensor, Tensor]:
    features, generator = bench_features(), seeded(1)
    widths = (len(features.state), len(features.environment_state))
    state, objects = (0.5 * torch.randn(1, To, width, generator=generator) for width in widths)
    return state, objects


def contenders(sizes: Sizes, *, full: bool) -> tuple[list[Contender], list[str]]:
    """All contenders, and the names of those that speeds are compared with."""
    default = _lerobot_default(sizes.lerobot, full=full)
    equal, references = _equal(sizes.equal), [default.name]
    references.append(equal[0].name)
    ours = [
        contender
        for label, cfg in (
            (f"our U-Net {_widths(sizes.unet)}", DiffusionCfg(network=sizes.unet)),
            (f"our transformer {_widths(sizes.transformer)}", DiffusionTransformerCfg(network=sizes.transformer)),
            (f"our transformer {_widths(sizes.large)}", DiffusionTransformerCfg(network=sizes.large)),
        )
        for contender in _native(label, _policy(cfg))
    ]
    return [default, *equal, *ours], references


def _policy(cfg: DiffusionCfg) -> DiffusionPolicy:
    torch.manual_seed(0)
    return DiffusionPolicy(cfg, bench_features()).requires_grad_(False).eval()


def _native(label: str, policy: DiffusionPolicy, twin: str | None = None, how: str = "native") -> list[Contender]:
    """DDIM-10, and a warm start of two evaluations, as compiled programs."""
    made = []
    for sampler, name, evaluations, like in ((DDIM(10), "DDIM-10", 10, twin), (_TWO, "RTI of two", 2, None)):
        copy = _policy(policy.cfg)
        copy.load_state_dict(policy.state_dict())
        copy.accelerate(how)
        work = _work(copy, evaluations)
        if WEIGHTS[how] == torch.bfloat16:
            work = replace(work, gbyte=work.gbyte / 2)
        made.append(Contender(f"{label}, {name}, {how}", _Deciding(copy, sampler), work, like))
    return made


def _work(policy: DiffusionPolicy, evaluations: int) -> Work:
    cond, _ = policy.condition(Observed(*_observed(policy.cfg.To)))
    x = torch.zeros(1, policy.cfg.Tp, len(policy.features.action))
    return denoising(policy.model, x, cond.steps, cond.context, evaluations)


def _equal(network: UnetCfg) -> list[Contender]:
    """The U-Nets of lerobot and ours with the same weights."""
    # A random network's estimate of the noise ends at the limits of the data in every step; its sample does not.
    cfg = DiffusionCfg(frame="world", per_step=False, encoder=(), prediction="sample", network=network)
    ours, widths = _policy(cfg), _widths(network)
    parts = to_lerobot(ours)
    theirs: Any = build_diffusion(
        LerobotDiffusionCfg(
            n_obs_steps=cfg.To, horizon=cfg.Tp, n_action_steps=cfg.Ta, down_dims=network.down_dims,
            kernel_size=network.kernel, n_groups=network.groups, diffusion_step_embed_dim=network.step_dim,
            prediction_type=cfg.prediction,
        ),
        bench_features(),
    )  # fmt: skip
    theirs.policy.load_state_dict(dict(parts.weights))
    theirs.requires_grad_(False).eval()
    name = f"lerobot {widths}, DDIM-10"
    return [
        Contender(name, _Deciding(theirs, "ddim10"), _lerobot_work(theirs, 10)),
        Contender(f"our U-Net {widths}, DDIM-10, torch", _Deciding(ours, DDIM(10)), _work(ours, 10), name),
        *_native(f"our U-Net {widths}", ours, name),
        *_native(f"our U-Net {widths}", ours, name, "native_bf16"),
    ]


def _lerobot_default(cfg: LerobotDiffusionCfg, *, full: bool) -> Contender:
    torch.manual_seed(0)
    policy: Any = build_diffusion(cfg, bench_features()).requires_grad_(False).eval()
    steps = policy.policy.diffusion.num_inference_steps
    work = _lerobot_work(policy, steps)
    name = f"lerobot's default {_widths(cfg)}, {cfg.noise_scheduler_type}-{steps}"
    if full:
        return Contender(f"{name}, one whole decision", _Deciding(policy), work, rounds=1)
    return Contender(f"{name}, from single steps", _lerobot_step(policy), work, share=1 / steps)


def _lerobot_step(policy: Any) -> Callable[[], Tensor]:
    """One of lerobot's denoising steps: an evaluation of its network and a step of its scheduler."""
    model, (x, k, cond) = policy.policy.diffusion, _lerobot_inputs(policy)
    model.noise_scheduler.set_timesteps(model.num_inference_steps)
    t = model.noise_scheduler.timesteps[model.num_inference_steps // 2]

    def decide() -> Tensor:
        pred = model.unet(x, k.fill_(t), global_cond=cond)
        return model.noise_scheduler.step(pred, t, x).prev_sample

    return decide


def _lerobot_work(policy: Any, evaluations: int) -> Work:
    unet, (x, k, cond) = policy.policy.diffusion.unet, _lerobot_inputs(policy)
    return work_of(lambda: unet(x, k, global_cond=cond), unet, evaluations)


def _lerobot_inputs(policy: Any) -> tuple[Tensor, Tensor, Tensor]:
    shape = (policy.cfg.horizon, len(policy.features.action))
    noise = LaneNoise([seeded(0)], shape, torch.device("cpu")).draw()
    cond = torch.cat(_observed(policy.cfg.n_obs_steps), dim=-1).flatten(1)
    return noise, torch.zeros(1, dtype=torch.int64), cond


def _widths(cfg: Any) -> str:
    dims = getattr(cfg, "down_dims", None)
    return f"{cfg.n_layer} x {cfg.n_emb}" if dims is None else f"({', '.join(map(str, dims))})"


def main(argv: Sequence[str] | None = None, sizes: Sizes | None = None) -> None:
    """Measure, report, and write JSON where asked to."""
    options = parser("Latency of one decision against lerobot's DiffusionPolicy.", rounds=10)
    options.add_argument("--full", action="store_true", help="one whole decision of lerobot's default: up to a minute")
    args = start(options, argv)
    report(args, *contenders(sizes or Sizes(), full=args.full))


if __name__ == "__main__":
    main()
