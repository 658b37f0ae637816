"""Latency of one decision of the transformer policy, of the paper's size and with its ten steps, on this processor.

All contenders share weights, observation and noise, take turns in one process on the same cores, and are compared with
the same network built from torch's own layers, as its authors build it, and stepped by diffusers' DDIM scheduler. Two
limits of the machine put the figures in place: its fastest matrix product, and its fastest reading of memory.

    python -m policies.bench.latency [--threads 1 2] [--rounds 40] [--clock wall] [--out latency.json]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.accel.calibrate import calibrate
from policies.bench.timing import Contender, Work, parser, report, start, work_of
from policies.chunked import Decision
from policies.diffusion import BoundDenoiser, DiffusionPolicy, DiffusionTransformerCfg
from policies.networks.base import Network
from policies.networks.transformer import PAPER, TransformerForDiffusion
from policies.observed import Observed
from policies.samplers import DDIM, Bac, Sampler, seeded
from robostack.types import Features

_POSE = ("x", "y", "z", "r1", "r2", "r3", "r4", "r5", "r6")


class Reference(nn.Module):
    """The network from torch's transformer layers, with the weights of ours."""

    def __init__(self, net: TransformerForDiffusion):
        super().__init__()
        cfg = net.cfg
        options = {"activation": "gelu", "batch_first": True, "norm_first": True, "dropout": cfg.p_drop_attn}
        layer = nn.TransformerDecoderLayer(cfg.n_emb, cfg.n_head, 4 * cfg.n_emb, **options)
        self.decoder = nn.TransformerDecoder(layer, cfg.n_layer).eval()
        self.decoder.load_state_dict(net.decoder.state_dict())
        self.net = net
        Tp, S = net.mask.shape[0], net.cond_pos_emb.shape[1]
        self.causal = torch.full((Tp, Tp), -torch.inf).triu(1)
        self.memory_mask = net.mask[:, :S]

    def forward(
        self,
        x: Float[Tensor, "B Tp Da"],
        k: Int[Tensor, " B"],
        steps: Float[Tensor, "B To Do"],
        context: Float[Tensor, "B C"],
    ) -> Float[Tensor, "B Tp Da"]:
        """Predict for diffusion steps ``k`` and a condition."""
        net = self.net
        memory = torch.cat([net.time_emb(k)[:, None] + net.cond_pos_emb[:, :1], net.tokens(steps, context)], dim=1)
        h = net.input_emb(x) + net.pos_emb
        return net.head(net.ln_f(self.decoder(h, net.encoder(memory), self.causal, self.memory_mask)))


def bench_features() -> Features:
    """One robot and one thing, each with a pose."""
    ee = tuple(f"ee.{c}" for c in _POSE)
    objects = tuple(f"thing.{c}" for c in _POSE)
    return Features((*ee, "gripper"), objects, (*ee, "gripper"), (), "ee_pose", 20.0, "panda")


def policy_of_the_paper() -> DiffusionPolicy:
    """A policy of the paper's size with random weights, which take as long as others."""
    torch.manual_seed(0)
    cfg = DiffusionTransformerCfg(encoder=(), prediction="epsilon", network=PAPER)
    return DiffusionPolicy(cfg, bench_features()).requires_grad_(False).eval()


def denoising(network: Network, x: Tensor, steps: Tensor, context: Tensor, evaluations: int) -> Work:
    """What the evaluations of a decision ask for when everything that can be computed before is."""
    k = torch.zeros(1, dtype=torch.int64)
    conditioning = network.combine(network.level(k), network.observe(steps, context))
    return work_of(lambda: network.denoise(x, conditioning), network, evaluations)


def contenders(policy: DiffusionPolicy, state: Tensor, objects: Tensor) -> list[Contender]:
    """Functions that take the same decision; all return the chunk in network units."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    cond, units = policy.condition(Observed(state, objects))
    reference, net = Reference(policy.model), policy.model  # pyright: ignore[reportArgumentType]
    assert isinstance(net, TransformerForDiffusion)
    scheduler = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", clip_sample=True, prediction_type="epsilon")
    scheduler.set_timesteps(10)

    def stepped(model: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def decide() -> Tensor:
            x = policy.noise([seeded(0)]).draw()
            for t in scheduler.timesteps:
                pred = model(x, t[None], cond.steps, cond.context)
                x = scheduler.step(pred, t, x).prev_sample  # pyright: ignore[reportArgumentType]
            return x

        return decide

    def accelerated(how: str) -> DiffusionPolicy:
        twin = policy_of_the_paper()
        twin.load_state_dict(policy.state_dict())
        twin.accelerate(how)
        return twin

    native = accelerated("native")
    bac = Bac(DDIM(10))
    others = (a.repeat(8, 1, 1) + 0.1 * torch.randn(8, 1, 1) for a in (state, objects))
    observed = Observed(next(others), next(others))
    bac = replace(bac, plan=calibrate(policy, bac, [observed]))

    def decide_with(owner: DiffusionPolicy, sampler: Sampler) -> Callable[[], Tensor]:
        def decide() -> Tensor:
            noise = owner.noise([seeded(0)])
            decision = Decision(cond, units, noise, torch.zeros(1, dtype=torch.int64))
            return sampler.sample(BoundDenoiser(owner, decision), noise, sampler.start(1))[0]

        return decide

    assert bac.plan is not None
    share = bac.plan.share
    work = denoising(net, policy.noise([seeded(0)]).draw(), cond.steps, cond.context, 10)
    cached = replace(work, gflop=share * work.gflop, gbyte=share * work.gbyte)
    reference_name = "torch layers, diffusers' DDIM-10"
    return [
        Contender(name, decide, asked, twin=reference_name)
        for name, decide, asked in (
            (reference_name, stepped(reference), work),
            ("our layers, diffusers' DDIM-10", stepped(net.predict), work),
            ("ddim10", decide_with(policy, DDIM(10)), work),
            ("ddim10, onnx", decide_with(accelerated("onnx"), DDIM(10)), work),
            ("ddim10, compile", decide_with(accelerated("compile"), DDIM(10)), work),
            ("ddim10, native", decide_with(native, DDIM(10)), work),
            (f"bac ({share:.0%} of blocks), native", decide_with(native, bac), cached),
            ("ddim5, native", decide_with(native, DDIM(5)), replace(work, evaluations=5)),
        )
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, report, and write JSON where asked to."""
    args = start(parser("Latency of one decision of the transformer policy.", rounds=40), argv)
    made = contenders(policy_of_the_paper(), torch.randn(1, 2, 10), torch.randn(1, 2, 9))
    report(args, made, [made[0].name])


if __name__ == "__main__":
    main()
