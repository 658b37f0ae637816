import math

import pytest
import torch

from policies.samplers import LaneNoise, seeded
from policies.samplers.karras import KARRAS_SAMPLERS, KarrasSampler, Levels, ancestral
from robostack.errors import ConfigError

LEVELS = Levels(low=0.005, high=1.0, data=0.5)
MEAN, STD = 0.3, 0.2


def noise(lanes=1, shape=(400, 2)):
    return LaneNoise([seeded(i) for i in range(lanes)], shape, torch.device("cpu"))


def gaussian(x, sigma):
    """The exact denoiser of data from N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def test_without_noise_the_output_is_the_input():
    c_skip, c_out, c_in = LEVELS.scalings(torch.tensor(1e-6))
    assert c_skip.item() == pytest.approx(1)
    assert c_out.item() == pytest.approx(0, abs=2e-6)
    assert c_in.item() == pytest.approx(1 / 0.5)


def test_with_all_noise_the_output_is_the_networks():
    c_skip, c_out, c_in = LEVELS.scalings(torch.tensor(1e4))
    assert c_skip.item() == pytest.approx(0, abs=1e-8)
    assert c_out.item() == pytest.approx(0.5)
    assert c_in.item() == pytest.approx(1e-4)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0])
def test_the_network_sees_and_learns_unit_variance(sigma):
    c_skip, c_out, c_in = LEVELS.scalings(torch.tensor(sigma, dtype=torch.float64))
    variance = 0.25 + sigma**2
    assert (c_in**2 * variance).item() == pytest.approx(1)
    # Target (a - c_skip (a + sigma eps)) / c_out.
    assert (((1 - c_skip) ** 2 * 0.25 + c_skip**2 * sigma**2) / c_out**2).item() == pytest.approx(1)


def test_three_steps_descend_in_geometric_progression():
    assert LEVELS.ladder(3) == pytest.approx([1.0, math.sqrt(0.005), 0.005, 0.0])
    assert LEVELS.ladder(1) == [1.0, 0.0]


def test_training_levels_are_log_logistic_within_their_range():
    drawn = LEVELS.draw(20_000, seeded(0)).double()
    assert drawn.min() >= 0.005
    assert drawn.max() <= 1.0

    def share(s):
        return 1 / (1 + math.exp(-(math.log(s) - math.log(0.5)) / 0.5))

    for s in (0.05, 0.2, 0.5, 0.8):
        wanted = (share(s) - share(0.005)) / (share(1.0) - share(0.005))
        assert (drawn <= s).double().mean().item() == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(("sigma", "after"), [(1.0, 0.3), (0.5, 0.49), (0.2, 0.0)])
def test_an_ancestral_step_ends_with_the_noise_of_its_level(sigma, after):
    down, up = ancestral(sigma, after)
    assert down**2 + up**2 == pytest.approx(after**2)
    assert 0 <= down <= after


def test_three_deterministic_steps_are_those_of_the_formula():
    x = 1.0 * noise().draw()
    for s, t in ((1.0, math.sqrt(0.005)), (math.sqrt(0.005), 0.005)):
        x = t / s * x - math.expm1(math.log(t / s)) * gaussian(x, s)
    wanted = gaussian(x, 0.005)
    torch.testing.assert_close(KarrasSampler("ddim", 3).sample(gaussian, LEVELS, noise()), wanted)


@pytest.mark.parametrize("method", ["ddim", "heun", "ancestral"])
def test_many_steps_reproduce_a_gaussian(method):
    levels = Levels(low=0.005, high=5.0)
    drawn = KarrasSampler(method, 60).sample(gaussian, levels, noise(shape=(20_000, 1)))
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std().item() == pytest.approx(STD, rel=0.06)


def test_heun_is_closer_to_the_exact_flow_than_ddim_at_the_same_steps():
    x = 1.0 * noise().draw()
    exact = MEAN + (x - MEAN) * STD / math.sqrt(STD**2 + 1.0)
    errors = [
        (KarrasSampler(method, 20).sample(gaussian, LEVELS, noise()) - exact).abs().mean().item()
        for method in ("ddim", "heun")
    ]
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize(("name", "count"), [("beso3", 3), ("beso20", 20), ("beso_ancestral3", 3), ("beso_heun3", 5)])
def test_a_sampler_calls_the_network_as_often_as_it_says(name, count):
    calls = []

    def counted(x, sigma):
        calls.append(sigma)
        return gaussian(x, sigma)

    sampler = KARRAS_SAMPLERS[name]
    sampler.sample(counted, LEVELS, noise())
    assert len(calls) == sampler.evaluations == count


def test_values_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="0 < low < high"):
        Levels(low=2.0)
    with pytest.raises(ConfigError, match="ddim, ancestral, heun"):
        KarrasSampler("lms", 3)
    with pytest.raises(ConfigError, match="at least 1 step"):
        KarrasSampler("ddim", 0)
