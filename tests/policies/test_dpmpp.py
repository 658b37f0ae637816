import pytest
import torch

from policies.samplers import DDIM, LaneNoise, NoiseSchedule, seeded
from policies.samplers.dpmpp import SPACINGS, DPMpp
from policies.samplers.schedule import PREDICTIONS, split
from robostack.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers on numpy 2
SCHEDULE = NoiseSchedule.cosine(100)


def diffusers_solver(prediction):
    diffusers = pytest.importorskip("diffusers")
    return diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type={"v": "v_prediction"}.get(prediction, prediction),
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    )


def in_double(scheduler, levels):
    """Its tables are float32; the comparison is of the algorithm."""
    scheduler.set_timesteps(timesteps=[k for k, _ in levels])
    sigmas = [float(SCHEDULE.sigma[k] / SCHEDULE.sqrt_abar[k]) for k, _ in levels]
    scheduler.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float64)
    return scheduler


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_every_step_equals_that_of_diffusers(prediction, steps, spacing):
    sampler = DPMpp(steps, spacing)
    levels, table = sampler.levels(100), sampler.table(SCHEDULE)
    theirs = in_double(diffusers_solver(prediction), levels)
    x, before = torch.randn(3, 8, 2, generator=seeded(1), dtype=torch.float64), None
    for (k, _), c in zip(levels, table, strict=True):
        x = x.float().double()  # Theirs rounds the sample to float32 before each step.
        pred = torch.randn(x.shape, generator=seeded(k), dtype=torch.float64)
        x0, _ = split(prediction, x, pred, float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k]))
        expected = theirs.step(pred, k, x).prev_sample
        mine = c.x * x + c.x0 * x0 + (0.0 if before is None else c.before * before)
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-6)
        x, before = mine, x0


def test_linspace_is_the_list_of_diffusers():
    for steps in (1, 2, 5, 8, 10):
        theirs = diffusers_solver("epsilon")
        theirs.set_timesteps(steps)
        assert [k for k, _ in DPMpp(steps, "linspace").levels(100)] == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 2, 5, 8, 50, 99, 100])
def test_levels_descend_to_zero_and_link(steps):
    levels = DPMpp(steps).levels(100)
    assert len(levels) == steps
    assert all(k > k_next for k, k_next in levels)
    assert [k_next for _, k_next in levels] == [*[k for k, _ in levels[1:]], -1]
    assert levels[-1] == (0, -1)


class Gaussian:
    schedule, units, elapsed = SCHEDULE, None, torch.zeros(32, dtype=torch.int64)

    def __call__(self, x, k):
        a, sigma = float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k])
        x0 = 0.3 + a * 0.04 / (a * a * 0.04 + sigma**2) * (x - a * 0.3)
        return x0, (x - a * x0) / sigma


def test_five_steps_come_closer_to_the_limit_than_ten_of_ddim():
    def draw(sampler):
        noise = LaneNoise([seeded(i) for i in range(32)], (8, 4), torch.device("cpu"))
        return sampler.sample(Gaussian(), noise, {})[0]

    limit = draw(DDIM(100))
    error = {s: float((draw(s) - limit).square().mean().sqrt()) for s in (DDIM(10), DPMpp(5), DPMpp(5, "linspace"))}
    assert error[DPMpp(5)] < 0.5 * error[DDIM(10)] < error[DPMpp(5, "linspace")]


def test_lists_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="200 sampling steps.*at most 100"):
        DPMpp(200).levels(100)
    with pytest.raises(ConfigError, match="'trailing'.*logsnr, linspace"):
        DPMpp(5, "trailing")
    with pytest.raises(ConfigError, match="do not fit between level 3 and 0"):
        SCHEDULE.even_in_log_snr(3, 5)
