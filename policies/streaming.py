"""Streaming Diffusion Policy: a chunk whose noise grows with its look-ahead.

Hoeg et al., Streaming Diffusion Policy: Fast Policy Synthesis with Variable Noise Diffusion Models, arXiv 2406.04806.
The chunk is cut into h parts of Ta actions. A decision lowers the noise of all parts by 1/h of the list of levels: the
first part is then clean and executed, the others move one part forward and fresh noise joins at the end. A decision
costs 1/h of the evaluations of the list, whatever list: DDIM-10 with h = 2 takes 5.

Where this differs from the authors' program, and why:

- The list is any list of DDPM or DDIM that h divides. Parts are always K/h levels apart, as in training.
- Between decisions a chunk is kept as its clean estimate in the world and its noise. The network's frame moves with the
  gripper and its normalisation differs from step to step, so noisy network units of one decision mean nothing in the
  next; ``sqrt(abar) encode(estimate) + sigma noise`` is at the right level in any frame.
- Actions before the present share the level of the first part; they get fresh noise of it, instead of remaining clean
  under the label of a noisy level.
- The regime of training is drawn per sample, not per batch, which lowers the variance of the gradient.
- A lane without a past, or one that was not asked after exactly Ta steps, denoises the whole chunk at equal levels, by
  the full list; training covers that by its second regime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.accel.hot import precision
from policies.accel.hot_unet import HotUnet
from policies.chunked import ChunkCfg, ChunkPolicy, Condition, Decision
from policies.networks.streaming_unet import StreamingUnet1D
from policies.networks.unet1d import UnetCfg
from policies.samplers import ONE_STEP_SAMPLERS, LaneNoise, NoiseSchedule
from policies.samplers.diffusion import OneStep
from policies.samplers.rti import shifted
from policies.samplers.schedule import PREDICTIONS, split, target
from robostack.errors import ConfigError
from robostack.types import Features


@dataclass(frozen=True)
class StreamingCfg(ChunkCfg):
    """Everything that shapes the policy.

    Attributes:
        diffusion_steps: K, levels of noise in training; h = (Tp - To + 1) // Ta divides it.
        prediction: what the network outputs: ``epsilon``, ``sample`` or ``v``.
        clip: clamp estimates of the clean chunk to the range of the data while sampling.
        sampler: list of levels, of DDPM or DDIM; h divides its length.
        chunk_wise: share of the training samples whose noise grows by parts; the others have one level throughout.
        network: size of the network.
    """

    Tp: int = 20
    diffusion_steps: int = 100
    prediction: str = "sample"
    clip: bool = True
    sampler: str = "ddim10"
    chunk_wise: float = 0.8
    network: UnetCfg = field(default_factory=UnetCfg)

    def __post_init__(self):
        super().__post_init__()
        self.network.check_horizon(self.Tp)
        if self.prediction not in PREDICTIONS:
            raise ConfigError(f"unknown prediction '{self.prediction}': use one of {', '.join(PREDICTIONS)}")
        if not 0 < self.chunk_wise <= 1:
            raise ConfigError(f"chunk_wise={self.chunk_wise} must be in (0, 1]: it is what streaming learns from")
        if self.parts < 2:
            raise ConfigError(
                f"streaming needs at least two parts of Ta={self.Ta} actions: Tp >= {2 * self.Ta + self.To - 1}, "
                f"not {self.Tp}, or a smaller Ta"
            )
        if self.diffusion_steps % self.parts:
            raise ConfigError(f"diffusion_steps={self.diffusion_steps} is not divisible by its {self.parts} parts")
        self.require_sampler(self.sampler)

    def require_sampler(self, name: str) -> None:
        """Raise UnknownName or ConfigError for a sampler that cannot act with such a policy."""
        ladder(name, self.parts, self.diffusion_steps)

    @property
    def parts(self) -> int:
        """h, executed stretches in a chunk."""
        return (self.Tp - self.To + 1) // self.Ta


def ladder(name: str, parts: int, K: int) -> OneStep:
    """The sampler ``name`` if streaming can use its list.

    Raises:
        UnknownName: no such sampler, or not one of single steps; lists those.
        ConfigError: a list too long, or not evenly divisible into ``parts``; lists those that are.
    """
    sampler = ONE_STEP_SAMPLERS[name]
    if not _divides(sampler, parts, K):
        fitting = [other for other in ONE_STEP_SAMPLERS if _divides(ONE_STEP_SAMPLERS[other], parts, K)]
        raise ConfigError(
            f"streaming cannot use sampler '{name}': its number of steps must divide diffusion_steps={K} and be "
            f"divisible by the {parts} parts of the chunk, use {', '.join(fitting) or 'another Ta'}"
        )
    return sampler


def _divides(sampler: OneStep, parts: int, K: int) -> bool:
    return sampler.steps % parts == 0 and K % sampler.steps == 0


class StreamingPolicy(ChunkPolicy):
    """The policy. Memory per lane: ``clean`` estimate (world), ``noise``, ``warm``, ``evaluations``."""

    cfg: StreamingCfg
    sqrt_abar: Tensor
    sigma: Tensor
    part: Tensor

    def __init__(self, cfg: StreamingCfg, features: Features):
        super().__init__(cfg, features)
        width = cfg.To * self.step_dim + self.context_dim
        self.model = StreamingUnet1D(len(features.action), width, cfg.Tp, cfg.network)
        self.schedule = NoiseSchedule.cosine(cfg.diffusion_steps)
        self.register_buffer("sqrt_abar", torch.from_numpy(self.schedule.sqrt_abar).float(), persistent=False)
        self.register_buffer("sigma", torch.from_numpy(self.schedule.sigma).float(), persistent=False)
        part = (torch.arange(cfg.Tp) - (cfg.To - 1)).div(cfg.Ta, rounding_mode="floor").clamp(0, cfg.parts - 1)
        self.register_buffer("part", part, persistent=False)  # What does not fill a part belongs to the last.
        self._use(ladder(cfg.sampler, cfg.parts, cfg.diffusion_steps))
        self._memory: Mapping[str, Tensor] = {}
        self.hot: HotUnet | None = None

    # Training.

    def chunk_loss(
        self, cond: Condition, actions: Float[Tensor, "B Tp Da"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean squared error of the prediction at levels of both regimes."""
        k = self.training_levels(len(actions), generator).to(actions.device)
        eps = torch.randn(actions.shape, generator=generator).to(actions.device)
        sqrt_abar, sigma = self.sqrt_abar[k][..., None], self.sigma[k][..., None]
        pred = self.model(sqrt_abar * actions + sigma * eps, k, cond.flat)
        return torch.nn.functional.mse_loss(pred.float(), target(self.cfg.prediction, actions, eps, sqrt_abar, sigma))

    def training_levels(self, count: int, generator: torch.Generator) -> Int[Tensor, "B Tp"]:
        """Levels of ``count`` samples: ``K (i + 1) / h - 1 - j`` in part i, one j per sample; or one level (CPU)."""
        K, h = self.cfg.diffusion_steps, self.cfg.parts
        j = torch.randint(K // h, (count, 1), generator=generator)
        constant = torch.randint(K, (count, 1), generator=generator)
        streams = torch.rand((count, 1), generator=generator) < self.cfg.chunk_wise
        growing = (self.part.cpu() + 1) * (K // h) - 1 - j
        return torch.where(streams, growing, constant.expand_as(growing))

    # Acting.

    def use_sampler(self, sampler: str) -> None:
        """Act with another list of levels; episodes under way are forgotten."""
        self._use(ladder(sampler, self.cfg.parts, self.cfg.diffusion_steps))
        self._lanes, self._memory = [], {}

    def accelerate(self, how: str) -> None:
        """Run the network by compiled programs from now on; weights must not change any more.

        Args:
            how: ``native``, or ``native_bf16`` with weights rounded to bfloat16, half of what a decision reads.

        Raises:
            ConfigError: another name.
            DeviceUnavailable: no C++ compiler.
        """
        self.hot = HotUnet(self.model, precision(how))

    def evaluations(self) -> Int[Tensor, " B"]:
        """Network evaluations that the last decision of each lane took."""
        return self._memory["evaluations"]

    def forget(self, mask: Bool[Tensor, " B"]) -> None:
        """Drop the streams of the lanes of ``mask``."""
        if mask.all():
            self._memory = self._empty(len(mask))
            return
        gone = mask.to(self._memory["warm"].device)
        self._memory = {
            name: value.masked_fill(gone.reshape(-1, *[1] * (value.dim() - 1)), 0)
            for name, value in self._memory.items()
        }

    def _empty(self, lanes: int) -> dict[str, Tensor]:
        chunk = self.sigma.new_zeros((lanes, self.cfg.Tp, len(self.features.action)))
        flags = torch.zeros(lanes, dtype=torch.bool, device=self.sigma.device)
        return {"clean": chunk, "noise": chunk, "warm": flags, "evaluations": flags.long()}

    def draw(self, decision: Decision) -> Float[Tensor, "B Tp Da"]:
        """Finish the first part of every stream; later parts are returned as they are estimated by now."""
        memory = self._memory
        warm = memory["warm"] & (decision.elapsed == self.cfg.Ta)
        clean, noise = torch.zeros_like(memory["clean"]), torch.zeros_like(memory["noise"])
        used = torch.zeros_like(memory["evaluations"])
        predict = self._predictor(decision.cond)
        for lanes, steps, start in ((warm, self._streaming, self._shift), (~warm, self._flat, self._begin)):
            if not bool(lanes.any()):
                continue
            source = decision.noise.only(lanes)
            a, b = self._denoise(predict, start(decision, source.draw()), steps, source)
            here = lanes[:, None, None]
            clean, noise = torch.where(here, a, clean), torch.where(here, b, noise)
            used = used + lanes * len(steps)
        self._memory = {
            "clean": decision.units.decode(clean), "noise": noise, "warm": torch.ones_like(warm), "evaluations": used
        }  # fmt: skip
        return clean

    def _use(self, sampler: OneStep) -> None:
        """Tabulate both lists of a sampler: that of a stream, and that of a chunk with one level throughout."""
        cfg, levels = self.cfg, sampler.levels(self.cfg.diffusion_steps)
        length = len(levels) // cfg.parts
        begin = ((cfg.parts - 1 - self.part.cpu()) * length).tolist()  # Part i runs the i-th stretch from the end.
        rows = [[levels[b + i] for b in begin] for i in range(length)]
        self.sampler = sampler
        self._streaming = [_Step.of(row, sampler, self.schedule) for row in rows]
        self._flat = [_Step.of([pair] * cfg.Tp, sampler, self.schedule) for pair in levels]

    def _begin(self, decision: Decision, eps: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Tp Da"]:
        del decision  # Unused.
        return eps

    def _shift(self, decision: Decision, eps: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Tp Da"]:
        """The stream, one part later, at the levels where a warm decision begins."""
        clean = decision.units.encode(shifted(self._memory["clean"], decision.elapsed))
        noise = shifted(self._memory["noise"], decision.elapsed)
        position = torch.arange(self.cfg.Tp, device=eps.device)[:, None]
        present = self.cfg.To - 1
        # The past is clean and needs noise; what has just come into view has no estimate, so it begins from noise only.
        new = position >= present + (self.cfg.parts - 1) * self.cfg.Ta
        noise = torch.where((position < present) | new, eps, noise)
        k = self._streaming[0].k.to(eps.device)
        x = self.sqrt_abar[k][:, None] * clean + self.sigma[k][:, None] * noise
        return torch.where(new, eps, x)

    def _predictor(self, cond: Condition) -> Callable[[Tensor, Int[Tensor, " Tp"]], Tensor]:
        """The network with a condition: of a chunk and its levels."""
        if self.hot is None:
            flat = cond.flat
            return lambda x, k: self.model(x, k.expand(len(x), -1), flat)
        hot = self.hot.decision(cond.steps, cond.context)
        return lambda x, k: hot.predict(x, tuple(k.tolist()))

    def _denoise(
        self,
        predict: Callable[[Tensor, Int[Tensor, " Tp"]], Tensor],
        x: Float[Tensor, "B Tp Da"],
        steps: list[_Step],
        source: LaneNoise,
    ) -> tuple[Float[Tensor, "B Tp Da"], Float[Tensor, "B Tp Da"]]:
        """Run the steps; returns the clean estimate and the noise that make up the chunk after the last of them."""
        x0 = x
        for s in (step.to(x.device) for step in steps):
            pred = predict(x, s.k)
            x0, eps = split(self.cfg.prediction, x, pred, self.sqrt_abar[s.k][:, None], self.sigma[s.k][:, None])
            x0 = x0.clamp(-1, 1) if self.cfg.clip else x0
            x = s.coefs[0] * x0 + s.coefs[1] * x + s.coefs[2] * eps
            if s.noisy:
                x = x + s.coefs[3] * source.draw()
        end = steps[-1].k_next.to(x.device)
        at = end.clamp(min=0)
        left = (x - self.sqrt_abar[at][:, None] * x0) / self.sigma[at][:, None]
        return x0, torch.where((end >= 0)[:, None], left, source.draw())  # What is clean needs noise of its own later.


@dataclass(frozen=True)
class _Step:
    """One evaluation: levels before and after, and the coefficients of x0, x, eps and noise, for every action."""

    k: Int[Tensor, " Tp"]
    k_next: Int[Tensor, " Tp"]
    coefs: Float[Tensor, "4 Tp 1"]
    noisy: bool

    @classmethod
    def of(cls, pairs: list[tuple[int, int]], sampler: OneStep, schedule: NoiseSchedule) -> _Step:
        """Tabulate a sampler at the pairs (k, k_next) of all actions."""
        k, k_next = torch.tensor(pairs).unbind(1)
        found = [sampler.coefs(schedule, *pair) for pair in pairs]
        rows = [(c.x0, c.x, c.eps, c.noise) for c in found]
        coefs = torch.tensor(rows, dtype=torch.float32).T[..., None]
        return cls(k, k_next, coefs, noisy=bool(coefs[3].any()))

    def to(self, device: torch.device) -> _Step:
        """The same on another device."""
        return _Step(self.k.to(device), self.k_next.to(device), self.coefs.to(device), self.noisy)
