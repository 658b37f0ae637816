"""Latency of one decision of the transformer policy, of the paper's size and with its ten steps, on this processor.

All contenders share weights, observation and noise, take turns in one process on the same cores, and are compared with
the same network built from torch's own layers, as its authors build it, and stepped by diffusers' DDIM scheduler. Two
limits of the machine put the figures in place: its fastest matrix product, and its fastest reading of memory.

    python -m policies.bench.latency [--threads 1 2] [--rounds 40] [--clock wall] [--out latency.json]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policies.accel.calibrate import calibrate
from policies.accel.native import huge
from policies.chunked import Decision
from policies.diffusion import BoundDenoiser, DiffusionPolicy, DiffusionTransformerCfg
from policies.networks.transformer import PAPER, TransformerForDiffusion
from policies.observed import Observed
from policies.samplers import DDIM, Bac, Sampler, seeded
from robostack.types import Features

log = logging.getLogger(__name__)

_POSE = ("x", "y", "z", "r1", "r2", "r3", "r4", "r5", "r6")


@dataclass(frozen=True)
class Row:
    """One contender.

    Attributes:
        p50_ms, p99_ms, best_ms: of a decision.
        speedup: median over rounds of the baseline's time in the round over this one's.
        difference: largest deviation of the chunk from the baseline's, in network units.
    """

    name: str
    p50_ms: float
    p99_ms: float
    best_ms: float
    speedup: float
    difference: float


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


def policy_of_the_paper() -> DiffusionPolicy:
    """A policy of the paper's size with random weights, which take as long as others."""
    ee = tuple(f"ee.{c}" for c in _POSE)
    objects = tuple(f"thing.{c}" for c in _POSE)
    features = Features((*ee, "gripper"), objects, (*ee, "gripper"), (), "ee_pose", 20.0, "panda")
    torch.manual_seed(0)
    cfg = DiffusionTransformerCfg(encoder=(), prediction="epsilon", network=PAPER)
    return DiffusionPolicy(cfg, features).requires_grad_(False).eval()


def contenders(policy: DiffusionPolicy, state: Tensor, objects: Tensor) -> dict[str, Callable[[], Tensor]]:
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
    return {
        "torch layers, diffusers' DDIM-10": stepped(reference),
        "our layers, diffusers' DDIM-10": stepped(net.predict),
        "ddim10": decide_with(policy, DDIM(10)),
        "ddim10, onnx": decide_with(accelerated("onnx"), DDIM(10)),
        "ddim10, compile": decide_with(accelerated("compile"), DDIM(10)),
        "ddim10, native": decide_with(native, DDIM(10)),
        f"bac ({bac.plan.share:.0%} of blocks), native": decide_with(native, bac),
        "ddim5, native": decide_with(native, DDIM(5)),
    }


def measure(rounds: int, clock: Callable[[], float] = time.perf_counter) -> list[Row]:
    """Time all contenders in turn."""
    functions = contenders(policy_of_the_paper(), torch.randn(1, 2, 10), torch.randn(1, 2, 9))
    with torch.inference_mode():
        return _measure(functions, rounds, clock)


def _measure(functions: dict[str, Callable[[], Tensor]], rounds: int, clock: Callable[[], float]) -> list[Row]:
    chunks = {name: function() for name, function in functions.items()}  # Compiles, and fills caches.
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            function()
            times[name].append(1e3 * (clock() - start))
    base = next(iter(functions))
    return [
        Row(
            name,
            statistics.median(taken),
            float(np.percentile(taken, 99)),
            min(taken),
            statistics.median(a / b for a, b in zip(times[base], taken, strict=True)),
            float((chunks[name] - chunks[base]).abs().max()),
        )
        for name, taken in times.items()
    ]


@dataclass(frozen=True)
class Limits:
    """What the machine can do, and what a decision of ten steps asks of it.

    Attributes:
        gflops: fastest matrix product of 1024 x 1024 matrices per second.
        gbytes: fastest reading of a buffer of 64 MiB on huge pages.
        decision_gflop, decision_gbyte: arithmetic, and weights read.
        bound_ms: the larger of the two times.
    """

    gflops: float
    gbytes: float
    decision_gflop: float
    decision_gbyte: float
    bound_ms: float


def limits(clock: Callable[[], float] = time.perf_counter, Tp: int = 16, steps: int = 10) -> Limits:
    """Measure the machine, and count a decision."""
    a, buffer = torch.randn(1024, 1024), huge(1 << 24)

    def best(function: Callable[[], object]) -> float:
        return min(_timed(function, clock) for _ in range(10))

    gflops = 2 * 1024**3 / best(lambda: a @ a) / 1e9
    gbytes = 4 * len(buffer) / best(buffer.sum) / 1e9
    weights = steps * PAPER.n_layer * 12 * PAPER.n_emb**2  # Attention and feed-forward; the memory's share is folded.
    gflop, gbyte = 2 * Tp * weights / 1e9, 4 * weights / 1e9
    return Limits(gflops, gbytes, gflop, gbyte, 1e3 * max(gflop / gflops, gbyte / gbytes))


def _timed(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, report, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description="Latency of one decision of the transformer policy.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: on a shared machine, 1 thread")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    clock = time.perf_counter if args.clock == "wall" else time.thread_time
    cores, report = sorted(os.sched_getaffinity(0)), {}
    for threads in args.threads:
        os.sched_setaffinity(0, cores[:threads])
        torch.set_num_threads(threads)
        rows, bound = measure(args.rounds, clock), limits(clock)
        report[threads] = {"rows": [asdict(row) for row in rows], "limits": asdict(bound)}
        log.info("%d thread(s): %s", threads, bound)
        for row in rows:
            log.info(
                "%-40s p50 %7.2f ms  p99 %7.2f ms  best %7.2f ms  %5.2fx  differs by %.1e",
                row.name, row.p50_ms, row.p99_ms, row.best_ms, row.speedup, row.difference,
            )  # fmt: skip
    os.sched_setaffinity(0, cores)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
