"""Real-Time Iteration: continue the last decision instead of starting from noise.

Duan et al., Real-Time Iteration Scheme for Diffusion Policy, arXiv 2508.05396 (algorithm 1). The last decision, shifted
by the time that has passed, its last action repeated, is taken for a chunk at a low noise level and denoised by a few
steps. Here the shift is done in the world, because the network's frame moves with the gripper and its normalisation
differs from step to step of the chunk. Each lane decides for itself whether it has a past to continue.

Of an error in the guess survives, for a denoiser of N(m, s^2) and with v = abar s^2 + 1 - abar at the first level:
``sqrt(abar) s^2 / v`` with posterior steps, about ``s / sqrt(v)`` with DDIM steps. The product in the paper's theorem
is above 1 as printed and proves nothing, so contraction is measured (``policies.accel.rti_auto``). Posterior jumps keep
that factor whatever levels they skip; the paper's steps k -> k - 1 on a list with gaps do not.

A network that contracts strongly decides anew at every control step, and where a motion turns back, as after a push, it
may say "a little further" before the turn and "back" behind it, for ever. ``inertia`` holds on to what was intended: it
averages plans over time as temporal ensembling does, in the guess that is continued anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from policies.samplers.base import Denoiser, SamplerState
from policies.samplers.diffusion import DDIM, Ladder
from policies.samplers.noise import LaneNoise
from policies.samplers.schedule import NoiseSchedule, StepCoefs, step
from robostack.errors import ConfigError

MODES, SOLVERS = ("exact", "heuristic"), ("ddpm", "ddim")


@dataclass(frozen=True)
class RTI:
    """Warm-started sampler.

    Memory per lane: ``guess`` (world), ``warm``; of the last decision its ``evaluations`` and whether it ``continued``.

    Attributes:
        steps: noise levels of the short list, descending to 0; the first is the level that the guess is taken for.
        mode: ``exact`` jumps from each level to the next; ``heuristic`` steps k -> k - 1 wherever the list goes on, as
            the paper's implementation does.
        solver: ``ddpm``, the posterior with its noise, or ``ddim``, which contracts as the square root of it only.
        rho: None takes the clean guess for a sample of the first level, as the paper does. A number scales and
            re-noises it, ``sqrt(abar) guess + rho sigma eps``: 1 is the full forward process.
        first: sampler of a lane without a past, and of one that escalates.
        tau: a lane whose first short step changes the guess by more (rms, network units) starts from noise in this
            decision; None never does. Of several values the first is for a guess of one control step ago, the next for
            two, and the last for all that are older.
        inertia: share of the old plan that stays in the new one after one control step, in continuous columns; after n
            steps it is the n-th power. The paper has none.
        discrete_scale: of the range of binary columns in the guess; 1 keeps them, 0 leaves them to the network.
        hysteresis: of binary columns, see ``policies.discrete``.
    """

    steps: Sequence[int] = (20, 7, 2, 0)
    mode: str = "exact"
    solver: str = "ddpm"
    rho: float | None = None
    first: Ladder = field(default_factory=DDIM)
    tau: float | Sequence[float] | None = None
    inertia: float = 0.0
    discrete_scale: float = 0.1
    hysteresis: float = 0.2

    def __post_init__(self):
        object.__setattr__(self, "steps", tuple(int(k) for k in self.steps))
        if (
            not self.steps
            or self.steps[-1] != 0
            or any(a <= b for a, b in zip(self.steps, self.steps[1:], strict=False))
        ):
            raise ConfigError(f"rti steps {list(self.steps)} must descend to 0, for example [2, 1, 0]")
        for name, value, known in (("mode", self.mode, MODES), ("solver", self.solver, SOLVERS)):
            if value not in known:
                raise ConfigError(f"unknown rti {name} '{value}': use one of {', '.join(known)}")
        if self.rho is not None and self.rho < 0:
            raise ConfigError(f"rti rho={self.rho} must not be negative, or null")
        taus = () if self.tau is None else self.tau if isinstance(self.tau, Sequence) else (self.tau,)
        for tau in taus:
            if tau <= 0:
                raise ConfigError(f"rti tau={tau} must be positive, or null")
        object.__setattr__(self, "tau", tuple(float(tau) for tau in taus) or None)
        if not 0 <= self.discrete_scale <= 1:
            raise ConfigError(f"rti discrete_scale={self.discrete_scale} must be in [0, 1]")
        for name, value in (("inertia", self.inertia), ("hysteresis", self.hysteresis)):
            if not 0 <= value < 1:
                raise ConfigError(f"rti {name}={value} must be in [0, 1)")

    def levels(self, K: int) -> list[tuple[int, int]]:
        """Pairs (k, k_next) of the short list; heuristic pairs leave gaps."""
        if self.steps[0] >= K:
            raise ConfigError(
                f"rti begins at level {self.steps[0]}, but the policy was trained with {K}: begin at {K - 1} or lower"
            )
        following = [k - 1 for k in self.steps] if self.mode == "heuristic" else [*self.steps[1:], -1]
        return list(zip(self.steps, following, strict=True))

    def evaluations(self, K: int) -> int:
        """Network evaluations of a decision that continues; what each lane really used is in its memory."""
        self.first.evaluations(K)
        return len(self.levels(K))

    def start(self, lanes: int) -> SamplerState:
        """No lane has a past."""
        return {
            "guess": torch.zeros(lanes, 0, 0),
            "warm": torch.zeros(lanes, dtype=torch.bool),
            "evaluations": torch.zeros(lanes, dtype=torch.int64),
            "continued": torch.zeros(lanes, dtype=torch.bool),
        }

    def reset(self, state: SamplerState, mask: Bool[Tensor, " B"]) -> SamplerState:
        """Forget the pasts of the lanes of ``mask``, and of no other."""
        gone = mask.to(state["warm"].device)
        return {name: value.masked_fill(_wide(gone, value), 0) for name, value in state.items()}

    def coefs(self, schedule: NoiseSchedule, k: int, k_next: int) -> StepCoefs:
        """Coefficients of one step."""
        return schedule.ddpm(k, k_next) if self.solver == "ddpm" else schedule.ddim(k, k_next)

    def continues(self, denoiser: Denoiser, state: SamplerState) -> Bool[Tensor, " B"]:
        """Lanes whose guess reaches into the present."""
        elapsed = denoiser.elapsed
        return state["warm"].to(elapsed.device) & (elapsed >= 1) & (elapsed < state["guess"].shape[1])

    def sample(self, denoiser: Denoiser, noise: LaneNoise, state: SamplerState) -> tuple[Tensor, SamplerState]:
        """Continue the lanes that can be continued, start the others from noise."""
        units, elapsed = denoiser.units, denoiser.elapsed
        warm = self.continues(denoiser, state)
        used = torch.zeros_like(elapsed)
        chunk = plan = None
        cold = ~warm
        if bool(warm.any()):
            plan = shifted(state["guess"], elapsed)
            chunk, escalated, used = self._continue(denoiser, noise, plan, warm)
            cold = cold | escalated
        if bool(cold.any()):
            fresh, _ = self.first.sample(denoiser, noise.only(cold), self.first.start(noise.lanes))
            used = used + cold * self.first.evaluations(len(denoiser.schedule))
            chunk = fresh if chunk is None else torch.where(_wide(cold, fresh), fresh, chunk)
        assert chunk is not None
        guess = units.decode(chunk)
        columns = units.discrete.columns
        if plan is not None and self.inertia:
            guess = self._held(guess, plan, elapsed * ~cold, columns)
            chunk = units.encode(guess)
        if columns:
            before = guess if plan is None else torch.where(_wide(warm, guess), plan, guess)
            guess = units.discrete.snap(guess, before, self.hysteresis)
            chunk = chunk.clone()
            chunk[..., columns] = units.encode(guess)[..., columns]
        return chunk, {"guess": guess, "warm": torch.ones_like(warm), "evaluations": used, "continued": ~cold}

    def _continue(
        self, denoiser: Denoiser, noise: LaneNoise, plan: Float[Tensor, "B Tp Da"], warm: Bool[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B Tp Da"], Bool[Tensor, " B"], Tensor]:
        """Denoise the plan; returns chunks, the lanes that must start from noise, and evaluations per lane."""
        x, expected = self.begin(denoiser, noise.only(warm), plan)
        active, used = warm, torch.zeros_like(denoiser.elapsed)
        for i, (k, k_next) in enumerate(self.levels(len(denoiser.schedule))):
            c = self.coefs(denoiser.schedule, k, k_next)
            x0, eps = denoiser(x, k)
            used = used + active
            if i == 0 and self.tau is not None:
                active = active & (residual(x0, expected) <= self._limits(denoiser.elapsed))
                if not bool(active.any()):
                    break
            x = step(c, x, x0, eps, noise.only(active).draw() if c.noise else None)
        return x, warm & ~active, used

    def _held(
        self, guess: Float[Tensor, "B Tp Da"], plan: Float[Tensor, "B Tp Da"], elapsed: Tensor, free: Sequence[int]
    ) -> Float[Tensor, "B Tp Da"]:
        """The new plan with what is left of the old one, as far as that reached; lanes of ``elapsed`` 0 had none."""
        Tp = plan.shape[1]
        share = self.inertia**elapsed * (elapsed > 0)
        reached = torch.arange(Tp, device=plan.device) < Tp - elapsed[:, None]
        held = guess + (share[:, None] * reached)[..., None] * (plan - guess)
        held[..., free] = guess[..., free]
        return held

    def _limits(self, elapsed: Tensor) -> Tensor:
        """``tau`` of each lane."""
        assert isinstance(self.tau, tuple)
        return torch.tensor(self.tau, device=elapsed.device)[(elapsed - 1).clamp(0, len(self.tau) - 1)]

    def begin(
        self, denoiser: Denoiser, noise: LaneNoise, plan: Float[Tensor, "B Tp Da"]
    ) -> tuple[Float[Tensor, "B Tp Da"], Float[Tensor, "B Tp Da"]]:
        """A plan in the world as a sample of the first level, and as the chunk that it expects, in network units."""
        units, schedule = denoiser.units, denoiser.schedule
        expected = units.encode(plan)
        x = units.encode(units.discrete.shrink(plan, self.discrete_scale)) if units.discrete.columns else expected
        if self.rho is not None:
            k = self.levels(len(schedule))[0][0]
            x = float(schedule.sqrt_abar[k]) * x
            if self.rho:
                x = x + self.rho * float(schedule.sigma[k]) * noise.draw()
        return x, expected


def shifted(chunk: Float[Tensor, "B Tp Da"], elapsed: Tensor) -> Float[Tensor, "B Tp Da"]:
    """Drop the first ``elapsed`` (B,) actions of each lane and repeat its last."""
    Tp = chunk.shape[1]
    rows = (torch.arange(Tp, device=chunk.device) + elapsed.clamp(min=0)[:, None]).clamp(max=Tp - 1)
    return chunk.gather(1, rows[..., None].expand_as(chunk))


def residual(x0: Float[Tensor, "B Tp Da"], guess: Float[Tensor, "B Tp Da"]) -> Float[Tensor, " B"]:
    """Root mean square by which a step contradicts the guess; what is compared with ``tau``."""
    return (x0 - guess).square().mean(dim=(1, 2)).sqrt()


def _wide(mask: Bool[Tensor, " B"], like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.dim() - 1))
