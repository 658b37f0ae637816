"""Diffusion Policy on low-dimensional observations.

Chi et al., Diffusion Policy: Visuomotor Policy Learning via Action Diffusion, arXiv 2303.04137.
Training minimises ``|| eps - eps_theta(sqrt(abar_k) a + sigma_k eps, k, O) ||^2`` (eq. 5) over uniform k; acting
denoises a chunk of Tp actions and executes Ta of them from index To - 1, the action of the last observation.

The network is either of the paper's two, by its configuration: a temporal U-Net or a transformer.

Departures from the paper, each a field of the configuration: positions relative to the gripper (``frame``), limits per
step of the chunk (``per_step``), because the first actions of a relative chunk move far less than its last, an MLP on
the observation (``encoder``), and a network that predicts the clean chunk (``prediction``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.accel.bac import Code
from policies.accel.bac_plan import CachedNetwork, Plan, execute, plan_file
from policies.accel.engine import ACCELERATORS, Engine, Running
from policies.accel.hot import HotStep
from policies.accel.hot_transformer import HotTransformer, TransformerDecision
from policies.accel.ticks import Execute, TickRun
from policies.chunked import ChunkCfg, ChunkPolicy, Condition, Decision
from policies.guidance import clamp_through, continue_plan
from policies.networks.base import Conditioning, Network
from policies.networks.transformer import TransformerCfg, TransformerForDiffusion
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import OVER_RTI, SAMPLERS, Bac, LaneNoise, NoiseSchedule, Sampler, SamplerState
from policies.samplers.diffusion import walk
from policies.samplers.schedule import PREDICTIONS, StepCoefs, split, split_coefs, target
from policies.units import Units
from robostack.errors import CheckpointError, ConfigError
from robostack.types import Features


@dataclass(frozen=True)
class DiffusionCfg(ChunkCfg):
    """Everything that shapes the policy.

    Attributes:
        diffusion_steps: K, levels of noise in training.
        prediction: what the network outputs: ``epsilon`` (as in the paper), ``sample`` or ``v``. Short trainings need
            ``sample``: errors of an epsilon at high noise are amplified by sigma / sqrt(abar).
        clip: clamp estimates of the clean chunk to the range of the data while sampling.
        sampler: default sampler for acting.
        network: size of the network.
    """

    diffusion_steps: int = 100
    prediction: str = "sample"
    clip: bool = True
    sampler: str = "ddim10"
    network: UnetCfg = field(default_factory=UnetCfg)

    def __post_init__(self):
        super().__post_init__()
        self.network.check_horizon(self.Tp)
        if self.prediction not in PREDICTIONS:
            raise ConfigError(f"unknown prediction '{self.prediction}': use one of {', '.join(PREDICTIONS)}")
        NoiseSchedule.cosine(self.diffusion_steps)
        SAMPLERS[self.sampler].evaluations(self.diffusion_steps)

    def require_sampler(self, name: str) -> None:
        """Raise UnknownName or ConfigError for a sampler that cannot act with such a policy."""
        record = SAMPLERS[name]
        if isinstance(record, Bac) and not isinstance(self.network, TransformerCfg):
            raise ConfigError(f"sampler={name} caches the blocks of a transformer: use policy=diffusion_transformer")
        if name not in ("rti", *OVER_RTI):  # These get a list of their own, that fits.
            record.evaluations(self.diffusion_steps)


@dataclass(frozen=True)
class DiffusionTransformerCfg(DiffusionCfg):
    """The same with the transformer.

    Attributes:
        network: size of the network.
    """

    network: TransformerCfg = field(default_factory=TransformerCfg)  # pyright: ignore[reportIncompatibleVariableOverride]


class DiffusionPolicy(ChunkPolicy):
    """The policy: network, normalisers and, for acting, a sampler."""

    continues_plans = True
    cfg: DiffusionCfg
    sqrt_abar: Tensor
    sigma: Tensor

    def __init__(self, cfg: DiffusionCfg, features: Features):
        super().__init__(cfg, features)
        self.model: Network = cfg.network.build(len(features.action), cfg.Tp, cfg.To, self.step_dim, self.context_dim)
        self.schedule = NoiseSchedule.cosine(cfg.diffusion_steps)
        self.register_buffer("sqrt_abar", torch.from_numpy(self.schedule.sqrt_abar).float(), persistent=False)
        self.register_buffer("sigma", torch.from_numpy(self.schedule.sigma).float(), persistent=False)
        self.sampler: Sampler = SAMPLERS[cfg.sampler]
        self.hot: Engine | None = None
        self._memory: SamplerState = {}
        self._levels: dict[int, Conditioning] = {}
        self._levels_of: tuple = ()

    def chunk_loss(
        self, cond: Condition, actions: Float[Tensor, "B Tp Da"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean squared error of the prediction at random noise levels (eq. 5)."""
        k = torch.randint(len(self.schedule), (len(actions),), generator=generator).to(actions.device)
        eps = torch.randn(actions.shape, generator=generator).to(actions.device)
        sqrt_abar, sigma = self.sqrt_abar[k, None, None], self.sigma[k, None, None]
        noisy = sqrt_abar * actions + sigma * eps
        with self._dropout_of(generator):
            pred = self.predict(noisy, k, cond)
        return torch.nn.functional.mse_loss(pred.float(), target(self.cfg.prediction, actions, eps, sqrt_abar, sigma))

    def predict(self, x: Float[Tensor, "B Tp Da"], k: Int[Tensor, " B"], cond: Condition) -> Float[Tensor, "B Tp Da"]:
        """The network's output, of the kind ``cfg.prediction``."""
        return self.model.predict(x, k, cond.steps, cond.context)

    @contextmanager
    def _dropout_of(self, generator: torch.Generator) -> Iterator[None]:
        """Dropout draws from torch's global generators: for the duration, they depend on ``generator`` alone."""
        if not (self.training and self.model.stochastic):
            yield
            return
        device = self.sigma.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            yield

    def decays(self, name: str) -> bool:
        """As the network says; everything else decays."""
        prefix = "model."
        return not name.startswith(prefix) or self.model.decays(name.removeprefix(prefix))

    def level(self, k: int) -> Conditioning:
        """What the network makes of a diffusion step; kept while acting, until the weights change."""
        ks = torch.tensor([k], device=self.sigma.device)
        if not torch.is_inference_mode_enabled():
            return self.model.level(ks)
        version = (self.sigma.device, *(p._version for p in self.model.parameters()))
        if version != self._levels_of:
            self._levels_of, self._levels = version, {}
        if k not in self._levels:
            self._levels[k] = self.model.level(ks)
        return self._levels[k]

    def sample(
        self,
        observed: Observed,
        noise: LaneNoise,
        memory: Mapping[str, Tensor] | None = None,
        sampler: Sampler | None = None,
    ) -> tuple[Float[Tensor, "B Tp Da"], Mapping[str, Tensor]]:
        """Draw chunks in physical units and the world frame, without touching the policy's own episodes."""
        sampler = sampler or self.sampler
        cond, units = self.condition(observed)
        lanes = len(observed)
        memory = sampler.start(lanes) if memory is None else memory
        decision = Decision(cond, units, noise, torch.zeros(lanes, dtype=torch.int64, device=cond.steps.device))
        chunk, memory = sampler.sample(BoundDenoiser(self, decision), noise, memory)
        return units.decode(chunk), memory

    def use_sampler(self, sampler: str | Sampler) -> None:
        """Act with another sampler, by name or by record; episodes under way are forgotten."""
        record = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
        record.evaluations(self.cfg.diffusion_steps)
        if isinstance(record, Bac) and record.plan is None:
            record = self.planned(record, str(sampler))
        _require_plans(self.hot, record)
        self.sampler, self._lanes, self._memory = record, [], {}

    def planned(self, sampler: Bac, name: str) -> Bac:
        """A caching sampler with the plan that the checkpoint holds under a name.

        Raises:
            CheckpointError: no plan, or one that was made for anything else.
        """
        if self.origin is None or not (path := self.origin.path / plan_file(name)).is_file():
            where = "this policy" if self.origin is None else self.origin.path
            raise CheckpointError(
                f"{where} has no plan for sampler={name}: use a transformer, and calibrate it "
                "(policies.checkpoint.calibrate_checkpoint)"
            )
        plan = sampler.plan_type.from_json(path.read_text(), str(path))
        dtype = str(next(self.model.parameters()).dtype)
        described = sampler.described(self.cfg.diffusion_steps)
        plan.provenance.require(weights=self.origin.weights, sampler=described, dtype=dtype, source=str(path))
        return replace(sampler, plan=plan)

    def accelerate(self, how: str) -> None:
        """Let an engine of ``policies.accel.engine`` run the network from now on; weights must not change any more.

        Raises:
            UnknownName: no such engine.
            ConfigError: one that does not run this network, or not with this sampler.
            DeviceUnavailable: no C++ compiler, or no GPU.
            MissingExtra: ONNX Runtime is not installed.
        """
        engine = ACCELERATORS[how](self.model)
        _require_plans(engine, self.sampler)
        self.hot = engine
        self.to(next(self.model.parameters()).device)  # to where the engine has taken the network

    def hot_steps(self, steps: Sequence[tuple[int, StepCoefs]]) -> tuple[HotStep, ...]:
        """Sampler steps (k, coefficients) as engines take them."""
        amplitude, sigma = self.schedule.sqrt_abar, self.schedule.sigma
        return tuple(
            HotStep(k, split_coefs(self.cfg.prediction, amplitude[k], sigma[k]), (c.x0, c.x, c.eps, c.noise), c.before)
            for k, c in steps
        )

    def evaluations(self) -> Int[Tensor, " B"]:
        """Network evaluations that the last decision of each lane took."""
        nominal = torch.full((len(self._lanes),), self.sampler.evaluations(self.cfg.diffusion_steps))
        return self._memory.get("evaluations", nominal)

    def forget(self, mask: Bool[Tensor, " B"]) -> None:
        """Reset the sampler's memory."""
        self._memory = self.sampler.reset(self.sampler.start(len(mask)) if mask.all() else self._memory, mask)

    def draw(self, decision: Decision) -> Float[Tensor, "B Tp Da"]:
        """Let the sampler denoise, guided by the plan if there is one."""
        bound, limit = BoundDenoiser(self, decision), 1.0 if self.cfg.clip else None
        denoiser = continue_plan(bound, decision.plan, steps=self.cfg.Tp, past=self.cfg.To - 1, limit=limit)
        chunk, self._memory = self.sampler.sample(denoiser, decision.noise, self._memory)
        return chunk


@dataclass(frozen=True)
class BoundDenoiser:
    """The network with a decision's condition: what a sampler sees.

    Attributes:
        policy: whose network it is.
        decision: whose condition it is.
        plan: which blocks to cache; None for none.
        run: what runs the network on a chunk at a diffusion step; None for the network itself.
        ticks: which blocks to cache across control steps; None for none.
    """

    policy: DiffusionPolicy
    decision: Decision
    plan: Plan | None = None
    run: Callable[[Tensor, int, Conditioning], Tensor] | None = None
    ticks: TickRun | None = None

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise levels of the training."""
        return self.policy.schedule

    @property
    def elapsed(self) -> Int[Tensor, " B"]:
        """Control steps since each lane's last decision."""
        return self.decision.elapsed

    @property
    def units(self) -> Units:
        """Actions between the world and the network."""
        return self.decision.units

    @cached_property
    def _conditioned(self) -> Conditioning:
        """What the network makes of the condition, once per decision."""
        cond = self.decision.cond
        return self.policy.model.observe(cond.steps, cond.context)

    @cached_property
    def _hot(self) -> Running | None:
        hot = self.policy.hot
        if hot is None or self.run is not None or torch.is_grad_enabled():
            return None
        cond = self.decision.cond
        return hot.decision(cond.steps, cond.context, self.plan)

    def cached(self, plan: Plan) -> BoundDenoiser:
        """The same network, run by a plan."""
        if self.policy.hot is not None:
            return replace(self, plan=plan)
        assert isinstance(self.policy.model, TransformerForDiffusion), type(self.policy.model)
        return replace(self, run=CachedNetwork(self.policy.model, plan))

    @property
    def seen(self) -> Float[Tensor, "B F"]:
        """Observations in network units."""
        return self.decision.cond.steps.flatten(1)

    def ticked(self, run: TickRun) -> BoundDenoiser:
        """The same network, with blocks cached across control steps."""
        assert isinstance(self.policy.model, TransformerForDiffusion), type(self.policy.model)
        return replace(self, ticks=run)

    def __call__(self, x: Float[Tensor, "B Tp Da"], k: int) -> tuple[Tensor, Tensor]:
        """Estimates (x0, eps) at diffusion step k; x0 is clipped where the policy says so."""
        policy = self.policy
        sqrt_abar, sigma = float(policy.schedule.sqrt_abar[k]), float(policy.schedule.sigma[k])
        x0, eps = split(policy.cfg.prediction, x, self._predict(x, k), sqrt_abar, sigma)
        return (clamp_through(x0, 1.0) if policy.cfg.clip else x0), eps

    def _predict(self, x: Tensor, k: int) -> Tensor:
        if self.ticks is not None:
            return self.ticks.predict(x, k, self._cached_by_hand(k) if self._hot is None else self._cached_natively(k))
        if self._hot is not None:
            return self._hot.predict(x, k)
        policy = self.policy
        conditioning = policy.model.combine(policy.level(k), self._conditioned)
        return policy.model.denoise(x, conditioning) if self.run is None else self.run(x, k, conditioning)

    def _cached_by_hand(self, k: int) -> Execute:
        """Eager execution of instructions for some lanes."""
        net = self.policy.model
        assert isinstance(net, TransformerForDiffusion), type(net)
        conditioning = net.combine(self.policy.level(k), self._conditioned)

        def run(x: Tensor, code: Code, slots: list[Tensor | None], lanes: Tensor | None) -> Tensor:
            parts = conditioning if lanes is None else tuple(part[:, lanes] for part in conditioning)
            return execute(net, code, slots, x, parts)

        return run

    def _cached_natively(self, k: int) -> Execute:
        """Native execution of instructions for some lanes."""
        hot, cond = self.policy.hot, self.decision.cond
        assert isinstance(hot, HotTransformer), type(hot)

        def run(x: Tensor, code: Code, slots: list[Tensor | None], lanes: Tensor | None) -> Tensor:
            which = None if lanes is None else tuple(lanes.tolist())
            if which not in self._parts:
                some = slice(None) if lanes is None else lanes
                self._parts[which] = hot.decision(cond.steps[some], cond.context[some])
            return self._parts[which].execute(x, k, code, slots)

        return run

    @cached_property
    def _parts(self) -> dict[tuple[int, ...] | None, TransformerDecision]:
        """Native decisions by their lanes."""
        return {}

    def descend(
        self, x: Float[Tensor, "B Tp Da"], steps: Sequence[tuple[int, StepCoefs]], noise: Sequence[Tensor | None]
    ) -> Float[Tensor, "B Tp Da"]:
        """Take sampler steps (k, coefficients), each with its noise: in one call of an engine, otherwise one by one."""
        if self._hot is None:
            return walk(self, x, steps, noise)
        return self._hot.descend(x, self.policy.hot_steps(steps), noise, clip=self.policy.cfg.clip)


def _require_plans(engine: Engine | None, sampler: Sampler) -> None:
    if isinstance(sampler, Bac) and engine is not None and not engine.plans:
        raise ConfigError(
            "block-wise caching (bac, rti_bac) runs with accelerate=native or none only: use one of these, or another "
            "sampler such as ddim10"
        )
