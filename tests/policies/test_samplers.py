import math

import numpy as np
import pytest
import torch

from policies.discrete import DiscreteDims
from policies.samplers import DDIM, DDPM, RTI, SAMPLERS, LaneNoise, NoiseSchedule, seeded
from policies.samplers.schedule import PREDICTIONS, split, step, target
from robostack.errors import ConfigError, UnknownName

SCHEDULE = NoiseSchedule.cosine(100)
CPU = torch.device("cpu")


class PlainUnits:
    """The world and the network agree."""

    discrete = DiscreteDims()

    def encode(self, actions):
        return actions

    def decode(self, chunk):
        return chunk


class GaussianDenoiser:
    """The exact posterior mean for actions that are N(m, s^2): no training, so samplers can be checked alone."""

    schedule, units, elapsed = SCHEDULE, PlainUnits(), torch.zeros(40, dtype=torch.int64)

    def __init__(self, m=0.3, s=0.2):
        self.m, self.s = m, s

    def __call__(self, x, k):
        a, sigma = SCHEDULE.sqrt_abar[k], SCHEDULE.sigma[k]
        gain = a * self.s**2 / (a**2 * self.s**2 + sigma**2)
        x0 = self.m + gain * (x - a * self.m)
        return x0, (x - a * x0) / sigma


def diffusers_scheduler(name, prediction):
    diffusers = pytest.importorskip("diffusers")
    extra = {"variance_type": "fixed_small"} if name == "DDPMScheduler" else {"set_alpha_to_one": True}
    scheduler = getattr(diffusers, name)(
        num_train_timesteps=100,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=True,
        prediction_type=prediction,
        **extra,
    )
    for table in ("betas", "alphas", "alphas_cumprod"):
        setattr(scheduler, table, getattr(scheduler, table).double())
    scheduler.alphas_cumprod = torch.from_numpy(SCHEDULE.abar)
    scheduler.alphas = torch.from_numpy(SCHEDULE.abar / np.concatenate([[1.0], SCHEDULE.abar[:-1]]))
    scheduler.betas = 1 - scheduler.alphas
    return scheduler


def test_the_cosine_table_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    np.testing.assert_allclose(SCHEDULE.abar, theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("name", "sampler"), [("DDPMScheduler", DDPM(100)), ("DDIMScheduler", DDIM(10))])
def test_every_step_equals_that_of_diffusers(name, sampler, prediction):
    theirs = diffusers_scheduler(name, {"v": "v_prediction"}.get(prediction, prediction))
    theirs.set_timesteps(sampler.steps)
    levels = sampler.levels(100)
    assert [k for k, _ in levels] == theirs.timesteps.tolist()
    x = torch.randn(3, 8, 2, generator=seeded(1), dtype=torch.float64)
    for k, k_next in levels:
        pred = torch.randn(x.shape, generator=seeded(k), dtype=torch.float64)
        expected = theirs.step(pred, k, x, generator=seeded(7)).prev_sample
        noise = torch.randn(x.shape, generator=seeded(7), dtype=torch.float64)
        x0, eps = split(prediction, x, pred, float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k]))
        mine = step(sampler.coefs(SCHEDULE, k, k_next), x, x0.clamp(-1, 1), eps, noise)
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-6)
        x = mine


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_split_inverts_target(prediction):
    x0, eps = torch.randn(2, 4, 8, dtype=torch.float64)
    a, sigma = math.sqrt(0.3), math.sqrt(0.7)
    back = split(prediction, a * x0 + sigma * eps, target(prediction, x0, eps, a, sigma), a, sigma)
    torch.testing.assert_close(back, (x0, eps))


def test_ddim_with_eta_one_is_ddpm():
    for k, k_next in ((90, 80), (10, 0), (0, -1)):
        p, i = SCHEDULE.ddpm(k, k_next), SCHEDULE.ddim(k, k_next, eta=1.0)
        a, sigma = SCHEDULE.sqrt_abar[k], SCHEDULE.sigma[k]
        assert i.noise == pytest.approx(p.noise)
        assert p.x * sigma == pytest.approx(i.eps)  # Coefficients of eps after x = a x0 + sigma eps.
        assert p.x0 + p.x * a == pytest.approx(i.x0)


@pytest.mark.parametrize(
    "name", [n for n in SAMPLERS if n not in ("ddim1", "dpmpp2", "bac", "rti_bac", "rti_bac_ticks")]
)
def test_every_sampler_draws_from_the_distribution_of_an_exact_denoiser(name):
    noise = LaneNoise([seeded(i) for i in range(40)], (16, 10), CPU)
    sampler = SAMPLERS[name]
    x, state = sampler.sample(GaussianDenoiser(), noise, sampler.start(40))
    assert x.shape == (40, 16, 10)
    assert x.mean() == pytest.approx(0.3, abs=0.02)
    steps = sampler.first.steps if isinstance(sampler, RTI) else sampler.evaluations(100)
    assert x.std() == pytest.approx(0.2, abs=0.02 + 0.6 / steps)  # Larger jumps, coarser result.
    assert sampler.reset(state, torch.ones(40, dtype=torch.bool)).keys() == state.keys()


def test_the_noise_of_a_lane_does_not_depend_on_the_other_lanes():
    alone = LaneNoise([seeded(5)], (4, 2), CPU)
    among = LaneNoise([seeded(3), seeded(5), seeded(9)], (4, 2), CPU)
    for _ in range(3):
        torch.testing.assert_close(alone.draw()[0], among.draw()[1], atol=0, rtol=0)


def test_more_steps_than_levels_are_refused():
    with pytest.raises(ConfigError, match="200 sampling steps.*at most 100"):
        DDIM(200).levels(100)
    with pytest.raises(ConfigError, match="at least 1 step"):
        DDIM(0)


def test_an_unknown_sampler_is_answered_with_the_closest_name():
    with pytest.raises(UnknownName, match="did you mean 'ddim10'"):
        SAMPLERS["ddim-10"]
