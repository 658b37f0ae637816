"""How far Real-Time Iteration may shorten the decisions of a policy, measured on the policy itself.

On pairs of consecutive observations of its dataset, the policy decides from noise at both, with the same noise; the
first decision, shifted, is the guess for the second. From these:

1. delta, a quantile of |decision - guess| per group of columns, is how far a guess must be correctable. A network at
   level k trusts its input to about kappa sigma_k, so the search begins at the least k with kappa sigma_k >= delta.
2. From there levels rise and lists lengthen until a run of the short list ends close to the decision from noise, and
   shrinks an error that is put into the guess to at most C_max: a target that drifts by d per tick is followed with a
   lag of C / (1 - C) d. The shortest list with the least level wins; if none does, every decision starts from noise.
3. tau, beyond which a lane starts from noise, is a multiple of the largest usual correction by the first short step,
   measured for every age that a guess can have: a plan that was executed for eight steps is corrected more than one of
   which a single action is gone.

The plan is valid for the weights, noise schedule and dataset it was measured on, and is refused for others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from policies.accel.calibrate import cached_rti
from policies.base import TrainablePolicy
from policies.chunked import Decision
from policies.diffusion import BoundDenoiser, DiffusionPolicy
from policies.observed import Recorded
from policies.samplers import DDIM, OVER_RTI, RTI, LaneNoise, Sampler, seeded
from policies.samplers.rti import residual, shifted
from policies.samplers.schedule import NoiseSchedule
from robostack.data.arrays import EpisodeArrays
from robostack.data.atomic import write_json
from robostack.data.idle import idle_rows
from robostack.errors import CheckpointError, ConfigError, DataError

PLAN = "rti.json"
_HIGHEST = 0.6  # of K: beyond, a guess tells hardly more than noise
_GROWTH = 1.5  # of the first level from one candidate to the next
_SECOND = 2**32  # Seeds from here on draw the second decision, for the spread.


@dataclass(frozen=True)
class CalibrationCfg:
    """What a plan must fulfil.

    Attributes:
        pairs: consecutive observations to measure on.
        quantile: of the differences between decision and guess.
        kappa: how many sigma a network corrects.
        C_max: largest contraction factor of an error in the guess.
        tol: largest error of the executed actions against the decision from noise (rms, network units), unless
            ``tol_spread`` allows more.
        tol_binary: as ``tol``, for the share of executed binary commands that differ.
        tol_spread: largest error over the difference of two decisions from different noise. At 1 any other decision
            would do, even one between two ways.
        max_evaluations: of a short list; only lists shorter than ``first`` are tried.
        first: steps of DDIM for decisions from noise; fewer where the policy has fewer levels.
        perturbation: error that is put into the guess: a constant offset per column, which decays slowest [network
            units, rms].
        tau_margin: tau over the quantile of usual corrections. Along demonstrations those are small; a lane that starts
            from noise loses what it intended, so only what is far beyond them may make it do so.
        inertia: of the plan's ``RTI``.
        seed: of all noise.
    """

    pairs: int = 32
    quantile: float = 0.99
    kappa: float = 3.0
    C_max: float = 0.3
    tol: float = 0.05
    tol_binary: float = 0.02
    tol_spread: float = 0.5
    max_evaluations: int = 5
    first: int = 10
    perturbation: float = 0.05
    tau_margin: float = 4.0
    inertia: float = 0.7
    seed: int = 0

    def __post_init__(self):
        for name in ("pairs", "kappa", "C_max", "tol", "tol_spread", "first", "perturbation", "tau_margin"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"calibration {name}={getattr(self, name)} must be positive")
        if not 0 < self.quantile <= 1:
            raise ConfigError(f"calibration quantile={self.quantile} must be in (0, 1]")
        RTI(inertia=self.inertia)


@dataclass(frozen=True)
class RtiPlan:
    """A measured plan.

    Attributes:
        steps: the short list; empty when none was good enough and every decision starts from noise.
        first: steps of DDIM from noise.
        tau: correction beyond which a lane starts from noise, by the age of its guess in control steps; empty without
            a short list.
        delta: quantile of |decision - guess| of continuous and of binary columns.
        contraction, error, error_binary: of the chosen list.
        spread, spread_binary: differences between two decisions from different noise.
        weights, schedule, data: hashes of what it was measured on.
        inertia: of the sampler.
    """

    steps: tuple[int, ...]
    first: int
    tau: tuple[float, ...]
    delta: tuple[float, float]
    contraction: float
    error: float
    error_binary: float
    spread: float
    spread_binary: float
    weights: str
    schedule: str
    data: str
    inertia: float

    def sampler(self) -> Sampler:
        """The sampler that the plan describes."""
        first = DDIM(self.first)
        return RTI(self.steps, first=first, tau=self.tau or None, inertia=self.inertia) if self.steps else first

    def check(self, policy: DiffusionPolicy, data: str | None = None) -> RtiPlan:
        """Return self if it was measured on this policy, and on this dataset where its fingerprint is given.

        Raises:
            CheckpointError: names what differs.
        """
        here = {"weights": weights_hash(policy), "schedule": schedule_hash(policy.schedule), "data": data or self.data}
        other = [name for name, value in here.items() if getattr(self, name) != value]
        if other:
            raise CheckpointError(
                f"the rti plan was measured on other {' and '.join(other)}: calibrate it again "
                "(policies.checkpoint.calibrate_checkpoint), or use an explicit list, for example sampler=rti5"
            )
        return self


def weights_hash(policy: DiffusionPolicy) -> str:
    """First 16 hex digits of the SHA-256 of weights and normalisers, independent of how they are stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def schedule_hash(schedule: NoiseSchedule) -> str:
    """First 16 hex digits of the SHA-256 of the levels of noise."""
    return hashlib.sha256(np.ascontiguousarray(schedule.abar).tobytes()).hexdigest()[:16]


@torch.inference_mode()
def calibrate(
    policy: DiffusionPolicy,
    arrays: EpisodeArrays,
    cfg: CalibrationCfg | None = None,
    episodes: Int[np.ndarray, " S"] | None = None,
) -> RtiPlan:
    """Measure a plan on ``episodes`` of a dataset (default all), best on ones that the policy was not trained on.

    Raises:
        DataError: no episode has two rows.
    """
    cfg = cfg or CalibrationCfg()
    bench = _Bench(policy, arrays, cfg, episodes)
    chosen = next((trial for trial in bench.trials() if trial.good), _FROM_NOISE)
    return RtiPlan(
        steps=chosen.steps,
        first=bench.first.steps,
        tau=bench.tau(chosen.steps) if chosen.steps else (),
        delta=bench.delta,
        contraction=chosen.contraction,
        error=chosen.error,
        error_binary=chosen.error_binary,
        spread=bench.spread[0],
        spread_binary=bench.spread[1],
        weights=weights_hash(policy),
        schedule=schedule_hash(policy.schedule),
        data=arrays.fingerprint(),
        inertia=cfg.inertia,
    )


@dataclass(frozen=True)
class _Trial:
    steps: tuple[int, ...]
    contraction: float = 0.0
    error: float = 0.0
    error_binary: float = 0.0
    good: bool = False


_FROM_NOISE = _Trial(())


@dataclass
class _Bench:
    """Two decisions from noise per pair, and short lists tried on the second of them."""

    policy: DiffusionPolicy
    arrays: EpisodeArrays
    cfg: CalibrationCfg
    episodes: Int[np.ndarray, " S"] | None
    delta: tuple[float, float] = field(init=False)
    spread: tuple[float, float] = field(init=False)

    def __post_init__(self):
        policy, cfg = self.policy, self.cfg
        rows, self.oldest = _pairs(self.arrays, cfg.pairs, self.episodes, policy.cfg.Ta)
        self.rows, self.lanes, self.first = rows, len(rows), DDIM(min(cfg.first, len(policy.schedule)))
        Da, To = len(policy.features.action), policy.cfg.To
        self.binary = torch.zeros(Da, dtype=torch.bool, device=policy.state_norm.scale.device)
        self.binary[list(policy.discrete.columns)] = True
        self.executed = slice(To - 1, To - 1 + policy.cfg.Ta)
        before = self._denoiser(rows, 0)
        self.guess = before.units.decode(self._from_noise(before, 0))
        self.now = self._denoiser(rows + 1, 1)
        self.decision = self._from_noise(self.now, 0)
        self.spread = self._differences(self._from_noise(self.now, _SECOND), self.decision)
        plan = shifted(self.guess, self.now.elapsed)
        scale = RTI().discrete_scale
        off = (self.decision - self.now.units.encode(policy.discrete.shrink(plan, scale))).abs()
        self.delta = (self._quantile(off[..., ~self.binary]), self._quantile(off[..., self.binary]))

    def trials(self) -> Iterator[_Trial]:
        """Candidates, the cheapest first."""
        K, sigma = len(self.policy.schedule), self.policy.schedule.sigma
        enough = np.flatnonzero(self.cfg.kappa * sigma >= max(self.delta))
        least = max(1, int(enough[0])) if len(enough) else K
        starts = []
        while least <= _HIGHEST * K:
            starts.append(least)
            least = max(least + 1, round(_GROWTH * least))
        for count in range(2, min(self.cfg.max_evaluations, self.first.steps - 1) + 1):
            for k in starts:
                if k >= count - 1:
                    yield self._try(self.policy.schedule.even_in_log_snr(k, count))

    def _try(self, steps: tuple[int, ...]) -> _Trial:
        cfg, rti = self.cfg, RTI(steps, first=self.first)
        reached = self._continue(rti, self.guess)
        error, error_binary = self._differences(reached, self.decision)
        most, most_binary = (cfg.tol_spread * spread for spread in self.spread)
        if error > max(cfg.tol, most) or error_binary > max(cfg.tol_binary, most_binary):
            return _Trial(steps, error=error, error_binary=error_binary)
        C = self._contraction(rti, reached)
        return _Trial(steps, C, error, error_binary, good=bool(cfg.C_max >= C))

    def _contraction(self, rti: RTI, reached: Tensor) -> float:
        """How much of a constant offset of the continuous columns is left after the short list, same noise."""
        units, zero = self.now.units, torch.zeros_like(self.guess)
        shape = (self.lanes, 1, len(self.binary))
        e = self.cfg.perturbation * torch.randn(shape, generator=seeded(self.cfg.seed, 2 * _SECOND)).to(zero.device)
        offset = (units.decode(zero + e * ~self.binary) - units.decode(zero)).mean(dim=1, keepdim=True)
        moved = self._continue(rti, self.guess + offset)
        plan = shifted(self.guess, self.now.elapsed)
        put_in = (units.encode(plan + offset) - units.encode(plan))[..., ~self.binary]
        left = (moved - reached)[..., ~self.binary]
        return float(left.square().mean().sqrt() / put_in.square().mean().sqrt().clamp(min=1e-12))

    def tau(self, steps: tuple[int, ...]) -> tuple[float, ...]:
        """Correction by the first short step that is not usual any more, of guesses of one control step and older."""
        return tuple(self._usual(RTI(steps, first=self.first), age) for age in range(1, self.oldest + 1))

    def _usual(self, rti: RTI, age: int) -> float:
        now = self._denoiser(self.rows + age, age)
        x, expected = rti.begin(now, self._noise(0), shifted(self.guess, now.elapsed))
        x0, _ = now(x, rti.steps[0])
        return self.cfg.tau_margin * self._quantile(residual(x0, expected))

    def _continue(self, rti: RTI, guess: Float[Tensor, "B Tp Da"]) -> Float[Tensor, "B Tp Da"]:
        memory = {**rti.start(self.lanes), "guess": guess, "warm": torch.ones(self.lanes, dtype=torch.bool)}
        return rti.sample(self.now, self._noise(0), memory)[0]

    def _from_noise(self, denoiser: BoundDenoiser, stream: int) -> Float[Tensor, "B Tp Da"]:
        return self.first.sample(denoiser, self._noise(stream), {})[0]

    def _noise(self, stream: int) -> LaneNoise:
        return self.policy.noise([seeded(self.cfg.seed, stream + lane) for lane in range(self.lanes)])

    def _denoiser(self, rows: Int[np.ndarray, " B"], elapsed: int) -> BoundDenoiser:
        """The network at the observations that end at ``rows``."""
        policy, ends = self.policy, self.arrays.ends
        starts = np.concatenate([[0], ends[:-1]])[np.searchsorted(ends, rows, side="right")]
        window = np.maximum(rows[:, None] + np.arange(1 - policy.cfg.To, 1), starts[:, None])
        device = policy.state_norm.scale.device
        cond, units = policy.condition(Recorded(self.arrays, policy.features, device).at(window))
        past = torch.full((len(rows),), elapsed, dtype=torch.int64, device=device)
        return BoundDenoiser(policy, Decision(cond, units, self._noise(0), past))

    def _differences(self, chunk: Tensor, reference: Tensor) -> tuple[float, float]:
        """Over the executed actions: rms of continuous columns; share of binary commands that differ."""
        a, b = chunk[:, self.executed], reference[:, self.executed]
        off = (a - b)[..., ~self.binary]
        discrete = self.policy.discrete
        worlds = [self.now.units.decode(c) for c in (chunk, reference)]
        snapped = [discrete.snap(world, world, 0.0) for world in worlds]
        flips = (snapped[0] - snapped[1])[:, self.executed][..., self.binary].abs() > 1e-6
        return _rms(off), float(flips.float().mean()) if flips.numel() else 0.0

    def _quantile(self, values: Tensor) -> float:
        # On the CPU in numpy: torch refuses quantiles of more than 2^24 elements.
        return float(np.quantile(values.cpu().numpy(), self.cfg.quantile)) if values.numel() else 0.0


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt()) if values.numel() else 0.0


def _pairs(
    arrays: EpisodeArrays, count: int, episodes: Int[np.ndarray, " S"] | None, ahead: int
) -> tuple[Int[np.ndarray, " B"], int]:
    """Rows, evenly spread, and how many rows of the same episode follow each: ``ahead``, or what short episodes have.

    A demonstration that waits contradicts plans that go on, so rows before a wait are used only if there are no others.
    """
    ends = arrays.ends
    starts = np.concatenate([[0], ends[:-1]])
    chosen = np.arange(len(ends)) if episodes is None or len(episodes) == 0 else episodes
    ahead = min(ahead, int((ends - starts)[chosen].max()) - 1)
    if ahead < 1:
        raise DataError("cannot calibrate rti: no episode has two rows; record longer demonstrations")
    rows = np.concatenate([np.arange(starts[e], ends[e] - ahead) for e in chosen])
    waits = np.append(0, np.cumsum(idle_rows(arrays)))
    moving = rows[waits[rows + ahead + 1] == waits[rows]]
    rows = moving if len(moving) else rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))], ahead


def save_plan(checkpoint: Path | str, plan: RtiPlan) -> Path:
    """Write the plan beside the weights. Raises StorageError."""
    path = Path(checkpoint) / PLAN
    write_json(path, asdict(plan))
    return path


def load_plan(checkpoint: Path | str) -> RtiPlan:
    """Read the plan of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = Path(checkpoint) / PLAN
    try:
        values = json.loads(path.read_text())
        plan = RtiPlan(**values | {name: tuple(values[name]) for name in ("steps", "tau", "delta")})
        plan.sampler()
    except FileNotFoundError:
        raise CheckpointError(
            f"{checkpoint} has no {PLAN}: train a diffusion policy again, call policies.checkpoint."
            "calibrate_checkpoint, or use an explicit list, for example sampler=rti5"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged: delete it and calibrate again, or train again") from error
    return plan


def use_planned(checkpoint: Path, policy: TrainablePolicy, name: str) -> None:
    """Act with a sampler of a checkpoint: ``rti`` is its plan, also below ``rti_bac``; other names are themselves.

    Raises:
        CheckpointError: without a plan, or with one of other weights.
    """
    if name in ("rti", *OVER_RTI) and isinstance(policy, DiffusionPolicy):
        sampler = load_plan(checkpoint).check(policy).sampler()
        policy.use_sampler(sampler if name == "rti" else policy.planned(cached_rti(name, sampler), name))
    else:
        policy.use_sampler(name)
