"""Real-time chunking: denoising that continues the plan which is being executed.

Black, Galliker & Levine, Real-Time Execution of Action Chunking Flow Policies, arXiv 2506.07339 (eq. 2 to 5), who use
the pseudo-inverse guidance of Song et al. (ICLR 2023): on a path ``x = t x1 + (1 - t) eps`` the velocity is changed by

    min(beta, c / r^2) * J^T W (Y - x1_hat),   c = (1 - t) / t,   r^2 = (1 - t)^2 / (t^2 + (1 - t)^2),

towards the plan Y, where W weighs the steps of the chunk and J = d x1_hat / dx. A diffusion path
``x = a x0 + sigma eps`` is the same path at t = a / (a + sigma) with x scaled by a + sigma, and DDIM's step is Euler's
on it. One function therefore serves both. J may be taken for the identity, which saves the backward pass through the
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from policies.accel.bac_plan import Plan
from policies.accel.ticks import TickRun
from policies.samplers.bac import Caching
from policies.samplers.base import Codec, Denoiser
from policies.samplers.schedule import NoiseSchedule
from policies.samplers.ticks import Ticking
from robostack.errors import ConfigError
from robostack.runtime.protocols import ActivePlan

JACOBIANS = ("identity", "vjp")
DECAYS = ("exp", "linear", "zero")
BETA = 5.0
"""Largest factor of the guidance; that of the paper."""

Estimate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``x -> (x0_hat, eps_hat)`` at one level of noise."""


def plan_weights(frozen: int, length: int, horizon: int, decay: str = "exp") -> Float[Tensor, " H"]:
    """W (eq. 5): 1 where the plan is executed anyway, falling until the plan ends, 0 where there is none.

    Args:
        frozen: d, steps that are executed whatever is decided.
        length: H - s, steps of the plan that are left.
        horizon: H, steps of the new chunk that lie in the future.
        decay: ``exp`` (the paper's), ``linear``, or ``zero`` for a hard mask.
    """
    if decay not in DECAYS:
        raise ConfigError(f"unknown decay '{decay}': use one of {', '.join(DECAYS)}")
    i = torch.arange(horizon, dtype=torch.float64)
    w = ((length - i) / (length - frozen + 1)).clamp(0, 1)
    if decay == "exp":
        w = w * torch.expm1(w) / math.expm1(1)
    elif decay == "zero":
        w = torch.zeros_like(w)
    w[: min(frozen, length)] = 1.0
    w[length:] = 0.0
    return w.float()


def guidance_gain(t: float, beta: float = BETA) -> float:
    """What ``J^T W (Y - x0_hat)`` is multiplied with before it is added to x0_hat, at flow time t in [0, 1].

    The paper takes n even steps and beta = n. Then (1 - t) beta >= 1 at all of them, and even the last one
    can lead the whole way to the plan. Lists of steps that grow finer towards the end need that bound of 1 explicitly;
    without it their last steps would lead back to where the network wants to go.
    """
    largest = max((1 - t) * beta, 1.0)
    return largest if t <= 0.0 else min((t**2 + (1 - t) ** 2) / t, largest)


def guide(
    estimate: Estimate,
    x: Float[Tensor, "B Tp Da"],
    plan: Float[Tensor, "B Tp Da"],
    weights: Float[Tensor, "Tp 1"],
    a: float,
    sigma: float,
    *,
    jacobian: str = "identity",
    beta: float = BETA,
) -> tuple[Tensor, Tensor]:
    """Estimates (x0, eps) at x = a x0 + sigma eps that lean towards ``plan``; without weights they are unchanged.

    Flow at time t is a = t, sigma = 1 - t, and the velocity of the guided path is x0 - eps.

    ``vjp`` needs tensors that autograd may record: it does not work on those of ``torch.inference_mode``.
    """
    scale = a + sigma
    if jacobian == "vjp":
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            x0, eps = estimate(leaf)
            error = weights * (plan - x0.detach())
            (pull,) = torch.autograd.grad(x0, leaf, error)
        x0, eps, pull = x0.detach(), eps.detach(), scale * pull
    else:
        x0, eps = estimate(x)
        pull = weights * (plan - x0)
    change = guidance_gain(a / scale, beta) * pull
    return x0 + change, eps - (a / sigma) * change


@dataclass(frozen=True)
class PlanGuidance:
    """A denoiser whose chunks continue a plan: it stands in for the denoiser in any sampler.

    Attributes:
        denoiser: without the plan.
        plan: in network units, one row per step of the chunk; rows with weight 0 may hold anything finite.
        weights: W, 0 for the steps before the newest observation.
        jacobian: one of ``JACOBIANS``.
        limit: largest magnitude of an estimated action; None for no limit.
        beta: largest factor.
    """

    denoiser: Denoiser
    plan: Float[Tensor, "B Tp Da"]
    weights: Float[Tensor, "Tp 1"]
    jacobian: str = "identity"
    limit: float | None = None
    beta: float = BETA

    @property
    def elapsed(self) -> Int[Tensor, " B"]:
        """Control steps since each lane's last decision."""
        return self.denoiser.elapsed

    @property
    def units(self) -> Codec:
        """Actions between the world and the network."""
        return self.denoiser.units

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise levels of the training."""
        return self.denoiser.schedule

    def cached(self, plan: Plan) -> PlanGuidance:
        """The same guidance of a network whose blocks are cached."""
        assert isinstance(self.denoiser, Caching), type(self.denoiser)
        return replace(self, denoiser=self.denoiser.cached(plan))

    @property
    def seen(self) -> Float[Tensor, "B F"]:
        """Observations in network units."""
        assert isinstance(self.denoiser, Ticking), type(self.denoiser)
        return self.denoiser.seen

    def ticked(self, run: TickRun) -> PlanGuidance:
        """The same guidance of a network whose blocks are cached across control steps."""
        assert isinstance(self.denoiser, Ticking), type(self.denoiser)
        return replace(self, denoiser=self.denoiser.ticked(run))

    def __call__(self, x: Float[Tensor, "B Tp Da"], k: int) -> tuple[Tensor, Tensor]:
        """Guided estimates (x0, eps) at diffusion step k."""
        a, sigma = float(self.schedule.sqrt_abar[k]), float(self.schedule.sigma[k])
        x0, eps = guide(
            lambda leaf: self.denoiser(leaf, k),
            x,
            self.plan,
            self.weights,
            a,
            sigma,
            jacobian=self.jacobian,
            beta=self.beta,
        )
        return (x0 if self.limit is None else x0.clamp(-self.limit, self.limit)), eps


def continue_plan(
    denoiser: Denoiser, plan: ActivePlan | None, *, steps: int, past: int, limit: float | None
) -> Denoiser:
    """The denoiser guided by a plan in physical units; itself where there is none.

    Args:
        denoiser: bound to the decision.
        plan: what is executed meanwhile; its first action is due at the newest observation.
        steps: Tp, of a chunk.
        past: To - 1, steps of a chunk before the newest observation. The plan does not tell them; they stay free.
        limit: see ``PlanGuidance``.

    Raises:
        ConfigError: a Jacobian that there is not.
    """
    if plan is None:
        return denoiser
    if plan.jacobian not in JACOBIANS:
        raise ConfigError(f"unknown jacobian '{plan.jacobian}' of a plan: use one of {', '.join(JACOBIANS)}")
    device, horizon = denoiser.elapsed.device, steps - past
    length = min(plan.actions.shape[1], horizon)
    assert len(plan.actions) == len(denoiser.elapsed), (plan.actions.shape, len(denoiser.elapsed))
    assert length > 0, "a plan without actions is no plan"
    rows = (torch.arange(steps) - past).clamp(0, length - 1)  # beyond its ends the plan is padded, with weight 0
    given = torch.from_numpy(plan.actions).float()[:, rows].to(device)
    w = torch.zeros(steps, 1)
    w[past:, 0] = plan_weights(plan.frozen, length, horizon)
    return PlanGuidance(denoiser, denoiser.units.encode(given), w.to(device), plan.jacobian, limit)


def clamp_through(x: Tensor, limit: float) -> Tensor:
    """``x.clamp(-limit, limit)``, of which the derivative is taken for 1: an action at its limit can be led away."""
    clamped = x.clamp(-limit, limit)
    return x + (clamped - x).detach() if x.requires_grad else clamped
