import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.chunked import Decision
from policies.diffusion import BoundDenoiser, DiffusionPolicy
from policies.discrete import DiscreteDims
from policies.guidance import PlanGuidance, clamp_through, continue_plan, guidance_gain, guide, plan_weights
from policies.samplers import SAMPLERS, LaneNoise, NoiseSchedule, seeded
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError
from robostack.runtime.execution import Executor
from robostack.runtime.latency import LatencyModel
from robostack.runtime.protocols import ActivePlan
from robostack.types import Observation

SCHEDULE = NoiseSchedule.cosine(100)
TP, DELAY, LEFT = 15, 4, 11


class SameUnits:
    """The network's units are the world's."""

    discrete = DiscreteDims()

    def encode(self, actions):
        return actions

    def decode(self, chunk):
        return chunk


class SmoothPrior:
    """The exact posterior mean for chunks that are smooth Gaussian paths: covariance exp(-(i - j)^2 / 2 ell^2) s^2."""

    schedule, units, elapsed = SCHEDULE, SameUnits(), torch.zeros(1, dtype=torch.int64)

    def __init__(self, ell=4.0, s=0.4):
        i = torch.arange(TP, dtype=torch.float64)
        self.cov = s**2 * torch.exp(-0.5 * ((i[:, None] - i) / ell) ** 2) + 1e-6 * torch.eye(TP)

    def gain(self, k):
        a, sigma = float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k])
        return a * self.cov @ torch.linalg.inv(a**2 * self.cov + sigma**2 * torch.eye(TP))

    def __call__(self, x, k):
        a, sigma = float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k])
        x0 = torch.einsum("ij,bjd->bid", self.gain(k).to(x), x)
        return x0, (x - a * x0) / sigma


def noise(seed, lanes=32):
    return LaneNoise([seeded(seed, i) for i in range(lanes)], (TP, 2), torch.device("cpu"))


def drawn(denoiser, seed, sampler="ddim10"):
    return SAMPLERS[sampler].sample(denoiser, noise(seed), {})[0]


def old_plan():
    """What is left of chunks of the prior, shifted to the present and padded."""
    left = drawn(SmoothPrior(), 100, "ddpm100")[:, TP - LEFT :]
    return torch.cat([left, left[:, -1:].expand(-1, TP - LEFT, -1)], dim=1)


def guided(plan, jacobian, **settings):
    weights = plan_weights(DELAY, LEFT, TP)[:, None]
    return PlanGuidance(SmoothPrior(), plan, weights, jacobian, **settings)


# Weights.


@pytest.mark.parametrize("decay", ["exp", "linear"])
@pytest.mark.parametrize(("d", "s", "H"), [(0, 8, 8), (1, 4, 8), (3, 3, 8), (4, 4, 15), (5, 10, 50), (0, 1, 2)])
def test_the_weights_are_those_of_the_paper(decay, d, s, H):
    expected = []
    for i in range(H):
        if i < d:
            w = 1.0
        elif i < H - s:
            c = (H - s - i) / (H - s - d + 1)
            w = c * (math.e**c - 1) / (math.e - 1) if decay == "exp" else c
        else:
            w = 0.0
        expected.append(w)
    np.testing.assert_allclose(plan_weights(d, H - s, H, decay).numpy(), expected, atol=1e-6)


def test_a_hard_mask_holds_the_frozen_steps_only():
    assert plan_weights(2, 5, 8, "zero").tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("d", "length"), [(3, 3), (0, 0), (4, 9)])
def test_weights_fall_and_end_with_the_plan(d, length):
    w = plan_weights(d, length, 8)
    assert (w[:d] == 1).all()
    assert (w[length:] == 0).all()
    assert (w.diff() <= 0).all()


def test_an_unknown_decay_is_refused():
    with pytest.raises(ConfigError, match="'cubic'.*exp, linear, zero"):
        plan_weights(1, 2, 3, "cubic")


# Guidance.


@pytest.mark.parametrize("t", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_the_velocity_of_a_flow_is_changed_as_in_the_paper(t):
    beta, A = 5.0, torch.randn(2, 2, generator=seeded(1), dtype=torch.float64)
    x, plan = torch.randn(2, 1, 6, 2, generator=seeded(2), dtype=torch.float64)
    W = plan_weights(2, 4, 6).double()[:, None]

    def estimate(x):  # a linear velocity: v = A x
        v = x @ A.T
        return x + (1 - t) * v, x - t * v

    x0, eps = guide(estimate, x, plan, W, t, 1 - t, jacobian="vjp", beta=beta)
    v = x @ A.T
    jacobian = torch.eye(2, dtype=torch.float64) + (1 - t) * A
    g = (W * (plan - (x + (1 - t) * v))) @ jacobian  # rows times J is J^T times columns
    r2 = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
    c = (1 - t) / t if t > 0 else math.inf
    torch.testing.assert_close(x0 - eps, v + min(c / r2, beta) * g)


def test_the_clip_is_that_of_the_paper_on_its_own_steps_and_never_below_the_remaining_way():
    for n in (5.0, 10.0):
        for i in range(1, int(n)):
            t = i / n
            assert guidance_gain(t, n) == pytest.approx(min((t**2 + (1 - t) ** 2) / t, (1 - t) * n))
    assert guidance_gain(0.0, 5.0) == 5.0
    assert all(guidance_gain(i / 100) > 0.82 for i in range(101))


@pytest.mark.parametrize("k", [99, 70, 30, 0])
def test_the_vector_jacobian_product_of_a_linear_denoiser_is_analytic(k):
    prior, x, plan = SmoothPrior(), *torch.randn(2, 3, TP, 2, generator=seeded(3), dtype=torch.float64)
    a, sigma = float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k])
    W = plan_weights(DELAY, LEFT, TP).double()[:, None]
    base, _ = prior(x, k)
    pull = torch.einsum("ji,bjd->bid", prior.gain(k), W * (plan - base))
    expected = base + guidance_gain(a / (a + sigma)) * (a + sigma) * pull
    x0, eps = guide(lambda x: prior(x, k), x, plan, W, a, sigma, jacobian="vjp")
    torch.testing.assert_close(x0, expected)
    torch.testing.assert_close(a * x0 + sigma * eps, x)  # still a decomposition of x


def test_unclipped_guidance_of_a_unit_gaussian_replaces_the_estimate():
    """For N(0, I) the Jacobian is a, and the posterior given the plan without error is the plan."""
    a, sigma = 0.6, 0.8
    x, plan = torch.randn(2, 1, 4, 1, generator=seeded(4))
    x0, _ = guide(
        lambda x: (a * x, (1 - a**2) / sigma * x), x, plan, torch.ones(4, 1), a, sigma, jacobian="vjp", beta=1e9
    )
    torch.testing.assert_close(x0, plan)


@pytest.mark.parametrize("jacobian", ["identity", "vjp"])
@pytest.mark.parametrize("sampler", ["ddim5", "ddim10", "ddpm100"])
def test_without_weights_the_bits_are_those_of_the_sampler(jacobian, sampler):
    free = PlanGuidance(SmoothPrior(), old_plan(), torch.zeros(TP, 1), jacobian)
    assert torch.equal(drawn(free, 7, sampler), drawn(SmoothPrior(), 7, sampler))


@pytest.mark.parametrize("jacobian", ["identity", "vjp"])
@pytest.mark.parametrize("sampler", ["ddim5", "ddim10", "ddpm100"])
def test_a_guided_chunk_continues_the_plan(jacobian, sampler):
    plan = old_plan()
    free, chunk = drawn(SmoothPrior(), 7, sampler), drawn(guided(plan, jacobian), 7, sampler)

    def off(c):
        return float((c - plan)[:, :DELAY].abs().mean())

    def seam(c):
        return float((c[:, DELAY] - plan[:, DELAY - 1]).abs().mean())

    smooth = float(plan.diff(dim=1)[:, : LEFT - 1].abs().mean())
    assert off(chunk) < 0.05 * off(free)
    assert seam(chunk) < 1.5 * smooth < 0.5 * seam(free)


@pytest.mark.parametrize("jacobian", ["identity", "vjp"])
def test_where_there_is_no_plan_chunks_vary_as_before(jacobian):
    free, chunk = drawn(SmoothPrior(), 7), drawn(guided(old_plan(), jacobian), 7)
    assert float(chunk[:, LEFT:].std()) == pytest.approx(float(free[:, LEFT:].std()), rel=0.15)


def test_an_estimate_at_its_limit_can_be_led_away():
    x = torch.tensor([3.0, 0.2], requires_grad=True)
    clamped = clamp_through(x, 1.0)
    torch.testing.assert_close(clamped.detach(), torch.tensor([1.0, 0.2]))
    assert torch.autograd.grad(clamped.sum(), x)[0].tolist() == [1, 1]
    assert torch.equal(clamp_through(x.detach(), 1.0), x.detach().clamp(-1, 1))


# Policy.


def plan_of(policy, obs, frozen, jacobian, skip=4):
    """The rest of a first chunk, ``skip`` steps later."""
    policy.reset(np.ones(len(obs.state), bool), np.arange(len(obs.state)))
    return ActivePlan(policy.infer(obs).actions[:, skip:], frozen, jacobian)


@pytest.mark.parametrize(
    ("prediction", "jacobian"),
    [("epsilon", "identity"), ("sample", "identity"), ("v", "identity"), ("epsilon", "vjp"), ("v", "vjp")],
)
def test_a_policy_of_any_prediction_stays_near_its_plan(tiny, demos, observe, prediction, jacobian):
    """Not an untrained network's prediction of the sample by vjp: it hardly depends on x, so that J is nearly 0."""
    torch.manual_seed(0)
    policy = DiffusionPolicy(replace(tiny, prediction=prediction, clip=False), demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, tiny.To, tiny.Tp))
    obs = observe(40, 90)
    plan = plan_of(policy.eval(), obs, 2, jacobian)
    free, led = (continued(policy, obs, p) for p in (None, plan))
    off = [np.abs(c[:, :2] - plan.actions[:, :2])[..., :3].mean() for c in (free, led)]
    assert off[1] < 0.3 * off[0]


def continued(policy, obs, plan, seeds=(5, 6)):
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    return policy.infer(obs, plan).actions


@pytest.mark.parametrize("jacobian", ["identity", "vjp"])
def test_the_plan_of_a_lane_leads_only_that_lane(policy, observe, jacobian):
    obs = observe(40, 90)
    plan = plan_of(policy, obs, 2, jacobian)
    both = continued(policy, obs, plan)
    for lane, row in enumerate((40, 90)):
        alone = continued(policy, observe(row), replace(plan, actions=plan.actions[lane : lane + 1]), (5 + lane,))
        np.testing.assert_allclose(alone[0], both[lane], atol=2e-5)


@pytest.mark.parametrize("jacobian", ["identity", "vjp"])
def test_continuing_works_within_inference_mode_and_leaves_no_gradients(policy, observe, jacobian):
    obs = observe(40, 90)
    plan = plan_of(policy, obs, 2, jacobian)
    outside = continued(policy, obs, plan)
    with torch.inference_mode():
        inside = continued(policy, obs, plan)
    np.testing.assert_array_equal(inside, outside)
    assert all(p.grad is None for p in policy.parameters())


def test_identity_and_vjp_differ(policy, observe):
    obs = observe(40, 90)
    plan = plan_of(policy, obs, 2, "identity")
    assert np.abs(continued(policy, obs, plan) - continued(policy, obs, replace(plan, jacobian="vjp"))).max() > 1e-4


def test_the_plan_begins_at_the_newest_observation_and_leaves_the_past_free(policy, observe):
    obs, To, Tp = observe(40, 90), policy.cfg.To, policy.cfg.Tp
    plan = plan_of(policy, obs, 2, "identity")
    with torch.inference_mode():
        cond, units = policy.condition(policy.observed(obs))
        bound = BoundDenoiser(policy, Decision(cond, units, policy.noise(()), torch.zeros(2, dtype=torch.int64)))
        out = continue_plan(bound, plan, steps=Tp, past=To - 1, limit=1.0)
        rows = units.decode(out.plan)[:, To - 1 : To - 1 + plan.actions.shape[1]]
    assert out.weights[: To - 1].tolist() == [[0.0]] * (To - 1)
    assert out.weights[To - 1 : To + 1].flatten().tolist() == [1.0, 1.0]
    assert out.weights[To - 1 + plan.actions.shape[1] :].sum() == 0
    np.testing.assert_allclose(rows.numpy(), plan.actions, atol=1e-5)


def test_an_unknown_jacobian_is_refused(policy, observe):
    obs = observe(40, 90)
    plan = plan_of(policy, obs, 2, "magic")
    with pytest.raises(ConfigError, match="'magic'.*identity, vjp"):
        policy.infer(obs, plan)


def test_a_policy_counts_the_evaluations_of_its_last_decision(policy, observe):
    policy.reset(np.ones(1, bool), np.arange(1))
    for name, count in (("ddim5", 5), ("ddim2", 2)):
        policy.use_sampler(name)
        policy.reset(np.ones(1, bool), np.arange(1))
        policy.infer(observe(40))
        assert policy.evaluations().tolist() == [count]


@pytest.mark.parametrize("execution", ["rtc", "rtc_vjp"])
def test_a_policy_is_executed_with_its_plan_continued(policy, demos, execution):
    def commands():
        executor = Executor(policy, execution, LatencyModel.parse("fixed:100"))
        executor.reset(3)
        observed = (Observation(k / 20, demos.state[k], demos.environment_state[k]) for k in range(20))
        return np.array([executor.act(obs) for obs in observed])

    first = commands()
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, commands())
