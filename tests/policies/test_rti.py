from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.discrete import DiscreteDims
from policies.samplers import DDIM, DDPM, RTI, LaneNoise, NoiseSchedule, seeded
from policies.samplers.rti import shifted
from robostack.errors import ConfigError

SCHEDULE = NoiseSchedule.cosine(100)
CPU = torch.device("cpu")
ALL = {k: tuple(range(k, -1, -1)) for k in (2, 5, 10, 20, 40)}


class Units:
    """A frame that moved, so that the world and the network differ."""

    def __init__(self, offset=0.0, discrete=DiscreteDims()):  # noqa: B008
        self.offset, self.discrete = offset, discrete

    def encode(self, actions):
        return actions - self.offset

    def decode(self, chunk):
        return chunk + self.offset


class Gaussian:
    """The exact denoiser of N(m, s^2), which counts how often each level is asked for."""

    schedule = SCHEDULE

    def __init__(self, m=0.0, s=0.1, elapsed=(1,), units=None):
        self.m, self.s, self.calls = m, s, []
        self.elapsed, self.units = torch.tensor(elapsed), units or Units()

    def __call__(self, x, k):
        self.calls.append(k)
        a, sigma = float(SCHEDULE.sqrt_abar[k]), float(SCHEDULE.sigma[k])
        x0 = self.m + a * self.s**2 / (a * a * self.s**2 + sigma**2) * (x - a * self.m)
        return x0, (x - a * x0) / sigma


def noise(*seeds, shape=(8, 2)):
    return LaneNoise([seeded(s) for s in seeds], shape, CPU)


def warm(rti, guess, **flags):
    memory = rti.start(len(guess))
    return {**memory, "guess": guess, "warm": torch.ones(len(guess), dtype=torch.bool), **flags}


def contraction(rti, s):
    """Of a guess by the short list, same noise; the chain is linear, so one direction says all."""
    guess = torch.zeros(1, 8, 2)
    ends = [rti.sample(Gaussian(s=s), noise(3), warm(rti, guess + e))[0] for e in (0.0, 0.1)]
    return float((ends[1] - ends[0]).mean() / 0.1)


# Contraction, after the closed forms for a Gaussian: sqrt(abar) s^2 / v for the posterior, s / sqrt(v) for the ODE.
TABLE = {
    0.02: {2: (0.107, 0.327), 5: (0.035, 0.187), 10: (0.012, 0.109), 20: (0.003, 0.060), 40: (0.001, 0.033)},
    0.05: {2: (0.427, 0.654), 5: (0.184, 0.430), 10: (0.069, 0.265), 20: (0.021, 0.149), 40: (0.005, 0.082)},
    0.10: {2: (0.750, 0.867), 5: (0.475, 0.691), 10: (0.229, 0.483), 20: (0.079, 0.289), 40: (0.021, 0.164)},
    0.20: {2: (0.924, 0.962), 5: (0.786, 0.889), 10: (0.547, 0.746), 20: (0.258, 0.523), 40: (0.081, 0.319)},
}


@pytest.mark.parametrize("s", TABLE)
@pytest.mark.parametrize("k", ALL)
def test_the_contraction_of_an_exact_denoiser_is_the_closed_form(s, k):
    sde, ode = TABLE[s][k]
    assert contraction(RTI(ALL[k]), s) == pytest.approx(sde, abs=6e-4)
    assert contraction(RTI(ALL[k], mode="heuristic"), s) == pytest.approx(sde, abs=6e-4)  # No gaps: the same steps.
    # The ODE's form is the limit of small steps, and the last jump, from the sigma 0.025 of level 0, is not small.
    a, v = SCHEDULE.abar[k], SCHEDULE.abar[k] * s**2 + 1 - SCHEDULE.abar[k]
    assert s / np.sqrt(v) == pytest.approx(ode, abs=6e-4)
    assert sde == pytest.approx(np.sqrt(a) * s**2 / v, abs=6e-4)


@pytest.mark.parametrize("s", TABLE)
def test_ddim_contracts_as_the_root_of_the_posterior_down_to_the_lowest_level(s):
    """Product of the linear steps over all levels, without the last jump."""
    for k in ALL:
        slope = 1.0
        for i in range(k, 0, -1):
            a, sigma = SCHEDULE.sqrt_abar[i], SCHEDULE.sigma[i]
            gain = a * s**2 / (a**2 * s**2 + sigma**2)
            c = SCHEDULE.ddim(i, i - 1)
            slope *= c.x0 * gain + c.eps * (1 - a * gain) / sigma
        v = [SCHEDULE.abar[i] * s**2 + 1 - SCHEDULE.abar[i] for i in (0, k)]
        assert slope == pytest.approx(np.sqrt(v[0] / v[1]), rel=0.12)


def test_exact_jumps_contract_alike_whatever_they_skip_and_heuristic_steps_do_not():
    whole = contraction(RTI(ALL[20]), 0.1)
    assert contraction(RTI((20, 7, 2, 0)), 0.1) == pytest.approx(whole, abs=1e-4)
    assert contraction(RTI((20, 7, 2, 0), mode="heuristic"), 0.1) > 2 * whole


def test_a_drifting_target_is_followed_with_the_lag_of_a_first_order_filter():
    rti, s, drift = RTI(ALL[2], rho=None), 0.05, 0.01
    C, guess = contraction(rti, s), torch.zeros(1, 8, 2)
    lags = []
    for tick in range(60):
        memory = warm(rti, guess)
        guess = rti.sample(Gaussian(m=drift * tick, s=s), noise(tick), memory)[1]["guess"]
        lags.append(drift * tick - float(guess.mean()))
    assert np.mean(lags[20:]) == pytest.approx(C / (1 - C) * drift, abs=0.004)


# The shift.


def test_the_guess_is_the_last_decision_shifted_by_the_time_that_passed():
    chunk = torch.arange(6.0).reshape(1, 6, 1).expand(4, 6, 1)
    rows = shifted(chunk, torch.tensor([0, 1, 4, 9]))[..., 0].tolist()
    assert rows == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 5], [4, 5, 5, 5, 5, 5], [5] * 6]


def test_the_guess_enters_the_network_in_the_units_of_the_present_decision():
    guess, seen = torch.rand(1, 8, 2), []

    class Spy(Gaussian):
        def __call__(self, x, k):
            seen.append(x)
            return super().__call__(x, k)

    RTI((2, 1, 0)).sample(Spy(units=Units(offset=0.25), elapsed=(3,)), noise(0), warm(RTI(), guess))
    torch.testing.assert_close(seen[0], shifted(guess, torch.tensor([3])) - 0.25)


def test_reinjection_is_the_forward_process_scaled_by_rho():
    guess, k = torch.rand(1, 8, 2), 10
    steps = (10, 0)
    plain, _ = RTI(steps).begin(Gaussian(), noise(5), guess)
    scaled, _ = RTI(steps, rho=0.0).begin(Gaussian(), noise(5), guess)
    half, _ = RTI(steps, rho=0.5).begin(Gaussian(), noise(5), guess)
    full, expected = RTI(steps, rho=1.0).begin(Gaussian(), noise(5), guess)
    eps = noise(5).draw()
    torch.testing.assert_close(plain, guess)
    torch.testing.assert_close(expected, guess)
    torch.testing.assert_close(scaled, float(SCHEDULE.sqrt_abar[k]) * guess)
    torch.testing.assert_close(full, scaled + float(SCHEDULE.sigma[k]) * eps)
    torch.testing.assert_close(half - scaled, (full - scaled) / 2)


def test_with_full_reinjection_a_continued_decision_is_still_a_sample_of_the_distribution():
    guess = 0.3 + 0.2 * noise(*range(64), shape=(16, 8)).draw()
    rti, denoiser = RTI(ALL[20], rho=1.0), Gaussian(m=0.3, s=0.2, elapsed=(1,) * 64)
    x, _ = rti.sample(denoiser, noise(*range(100, 164), shape=(16, 8)), warm(rti, guess))
    assert x.mean() == pytest.approx(0.3, abs=0.01)
    assert x.std() == pytest.approx(0.2, abs=0.02)  # The small variance of the posterior loses a little.


# First chunks, resets and lanes.


@pytest.mark.parametrize(("first", "cost"), [(DDIM(10), 10), (DDPM(100), 100)])
def test_the_first_decision_is_that_of_the_sampler_for_first_decisions(first, cost):
    rti, denoiser = RTI((2, 1, 0), first=first), Gaussian(elapsed=(0,))
    chunk, memory = rti.sample(denoiser, noise(7), rti.start(1))
    torch.testing.assert_close(chunk, first.sample(Gaussian(), noise(7), {})[0], atol=0, rtol=0)
    assert memory["evaluations"].tolist() == [cost] == [len(denoiser.calls)]
    denoiser.elapsed, denoiser.calls = torch.tensor([1]), []
    _, memory = rti.sample(denoiser, noise(8), memory)
    assert memory["evaluations"].tolist() == [3]
    assert denoiser.calls == [2, 1, 0]


@pytest.mark.parametrize("elapsed", [0, -3, 8, 50])
def test_a_guess_of_no_known_or_useful_age_is_not_continued(elapsed):
    rti = RTI((2, 1, 0))
    _, memory = rti.sample(Gaussian(elapsed=(elapsed,)), noise(0), warm(rti, torch.zeros(1, 8, 2)))
    assert memory["evaluations"].tolist() == [10]


def run(rti, seeds, resets=(), ticks=6):
    """Chunks (tick, lane) of episodes that begin together; ``resets`` are (tick, lane)."""
    streams, memory, chunks = [seeded(s) for s in seeds], rti.start(len(seeds)), []
    for tick in range(ticks):
        for _, lane in [r for r in resets if r[0] == tick]:
            streams[lane] = seeded(seeds[lane])
            memory = rti.reset(memory, torch.arange(len(seeds)) == lane)
        denoiser = Gaussian(m=0.05 * tick, elapsed=(1,) * len(seeds))
        chunk, memory = rti.sample(denoiser, LaneNoise(streams, (8, 2), CPU), memory)
        chunks.append((chunk, memory["evaluations"]))
    return chunks


def test_resetting_one_lane_leaves_the_others_and_makes_a_new_episode_of_it():
    rti = RTI((10, 3, 0), tau=0.5)
    free, reset = run(rti, [1, 2, 3]), run(rti, [1, 2, 3], resets=[(3, 1)])
    for tick in range(6):
        for lane in (0, 2):
            torch.testing.assert_close(reset[tick][0][lane], free[tick][0][lane], atol=0, rtol=0)
    assert reset[3][1].tolist() == [3, 10, 3]
    alone = Gaussian(m=0.15, elapsed=(1,))
    again, _ = rti.sample(alone, noise(2), rti.start(1))
    torch.testing.assert_close(reset[3][0][1], again[0])


def test_episodes_are_the_same_in_any_order_and_company():
    rti = RTI((10, 3, 0), rho=0.5, tau=0.12, inertia=0.5)
    together, order = run(rti, [4, 5, 6, 7]), [2, 0, 3, 1]
    permuted = run(rti, [[4, 5, 6, 7][i] for i in order])
    for (a, used_a), (b, used_b) in zip(together, permuted, strict=True):
        torch.testing.assert_close(b, a[order], atol=0, rtol=0)
        assert used_b.tolist() == used_a[order].tolist()
    for lane, seed in enumerate((4, 5, 6, 7)):
        for (a, _), (b, _) in zip(together, run(rti, [seed]), strict=True):
            torch.testing.assert_close(b[0], a[lane])


def test_a_guess_that_is_contradicted_escalates_its_lane_only_and_the_cost_is_counted():
    rti, denoiser = RTI((10, 3, 0), tau=0.3), Gaussian(elapsed=(1, 1))
    guess = torch.stack([torch.zeros(8, 2), torch.full((8, 2), 0.9)])
    chunk, memory = rti.sample(denoiser, noise(1, 2), warm(rti, guess))
    assert memory["evaluations"].tolist() == [3, 11]
    fresh, _ = DDIM(10).sample(Gaussian(), noise(2), {})
    torch.testing.assert_close(chunk[1], fresh[0])
    calm, _ = replace(rti, tau=None).sample(Gaussian(elapsed=(1, 1)), noise(1, 2), warm(rti, guess))
    torch.testing.assert_close(chunk[0], calm[0], atol=0, rtol=0)


def test_when_all_lanes_escalate_the_rest_of_the_short_list_is_not_evaluated():
    rti, denoiser = RTI((10, 3, 0), tau=0.3), Gaussian()
    _, memory = rti.sample(denoiser, noise(1), warm(rti, torch.full((1, 8, 2), 0.9)))
    assert len(denoiser.calls) == 11 == memory["evaluations"].item()


def test_how_much_a_guess_may_be_contradicted_depends_on_its_age():
    guess = torch.full((8, 2), 0.3)
    young, old, older = ((1,), (2,), (5,))
    for tau, costs in (((0.1, 0.9), [11, 3, 3]), ((0.9, 0.1), [3, 11, 11]), ([0.1], [11, 11, 11])):
        rti = RTI((10, 3, 0), tau=tau)
        used = [rti.sample(Gaussian(elapsed=age), noise(1), warm(rti, guess[None]))[1] for age in (young, old, older)]
        assert [u["evaluations"].item() for u in used] == costs


# Inertia.


@pytest.mark.parametrize(("age", "share"), [(1, 0.5), (2, 0.25), (3, 0.125)])
def test_inertia_keeps_a_share_of_an_old_plan_for_as_long_as_the_plan_reached(age, share):
    plain, held, e = RTI(ALL[10], tau=9.0), RTI(ALL[10], tau=9.0, inertia=0.5), 0.2
    world = Units(offset=0.3)
    (free, _), (kept, memory) = (
        rti.sample(Gaussian(elapsed=(age,), units=world), noise(3), warm(rti, torch.full((1, 8, 2), e)))
        for rti in (plain, held)
    )
    reached = 8 - age
    torch.testing.assert_close(kept[:, :reached] + 0.3, (1 - share) * (free[:, :reached] + 0.3) + share * e)
    torch.testing.assert_close(kept[:, reached:], free[:, reached:])
    torch.testing.assert_close(memory["guess"], world.decode(kept))  # What is executed is what is continued.


def test_a_lane_that_starts_from_noise_has_no_inertia():
    rti, guess = RTI((10, 3, 0), tau=0.3, inertia=0.9), torch.full((1, 8, 2), 0.9)
    contradicted, _ = rti.sample(Gaussian(), noise(2), warm(rti, guess))
    first, _ = rti.sample(Gaussian(elapsed=(0,)), noise(2), rti.start(1))
    too_old, _ = rti.sample(Gaussian(elapsed=(8,)), noise(2), warm(rti, guess))
    fresh, _ = DDIM(10).sample(Gaussian(), noise(2), {})
    for chunk in (contradicted, first, too_old):
        torch.testing.assert_close(chunk, fresh)


# Binary columns.

GRIP = DiscreteDims(columns=(1,), low=(0.0,), high=(0.08,))


def test_binary_columns_are_found_in_the_data_at_any_width():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (1000, 7)).astype(np.float32)
    actions[:, 2] = 0.5
    actions[:, 4] = np.where(rng.random(1000) < 0.3, -1, 1)
    actions[:, 6] = np.where(rng.random(1000) < 0.5, 0.0, 0.08)
    found = DiscreteDims.of(actions)
    assert found.columns == (4, 6)
    assert (found.low, found.high) == ((-1.0, 0.0), (1.0, pytest.approx(0.08)))
    assert DiscreteDims.from_dict(found.to_dict()) == found
    ramp = actions.copy()
    ramp[::20, 6] = 0.04  # A gripper that is moved evenly must not be snapped.
    assert DiscreteDims.of(ramp).columns == (4,)


def test_snapping_keeps_the_plan_within_the_dead_band():
    values = torch.tensor([0.0, 0.03, 0.039, 0.041, 0.05, 0.08])
    actions = torch.stack([torch.full((6,), 0.7), values], dim=1)
    closed, opened = torch.zeros(6, 2), torch.full((6, 2), 0.08)
    down = GRIP.snap(actions, closed, 0.2)
    up = GRIP.snap(actions, opened, 0.2)
    torch.testing.assert_close(down[:, 1], torch.tensor([0, 0, 0, 0, 0.08, 0.08]))
    torch.testing.assert_close(up[:, 1], torch.tensor([0, 0, 0.08, 0.08, 0.08, 0.08]))
    assert (down[:, 0] == 0.7).all()
    assert DiscreteDims().snap(actions, closed, 0.2) is actions


def test_a_prediction_that_hovers_around_the_middle_does_not_chatter():
    def commands(hysteresis):
        rti = RTI((2, 1, 0), hysteresis=hysteresis)
        memory, out = warm(rti, torch.zeros(1, 8, 2)), []
        for tick in range(40):
            wobble = 0.04 + 0.004 * (-1) ** tick
            denoiser = Gaussian(m=wobble, s=1e-4, units=Units(discrete=GRIP))
            chunk, memory = rti.sample(denoiser, noise(tick), memory)
            out.append(round(float(chunk[0, 0, 1]), 4))
        return out

    assert len(set(commands(0.2))) == 1
    assert np.abs(np.diff(commands(0.0))).astype(bool).sum() > 30


def test_a_binary_column_is_snapped_in_the_chunk_and_shrunk_in_the_guess_only():
    rti = RTI((2, 1, 0), discrete_scale=0.1)
    denoiser = Gaussian(m=0.07, s=0.02, units=Units(offset=0.01, discrete=GRIP))
    plan = torch.tensor([0.5, 0.08]).expand(1, 8, 2)
    x, expected = rti.begin(denoiser, noise(0), plan)
    torch.testing.assert_close(x[0, 0], torch.tensor([0.49, 0.044 - 0.01]))
    torch.testing.assert_close(expected, plan - 0.01)
    chunk, memory = rti.sample(denoiser, noise(0), warm(rti, plan))
    assert (memory["guess"][..., 1] == 0.08).all()
    torch.testing.assert_close(chunk[..., 1], torch.full((1, 8), 0.07))
    assert chunk[..., 0].std() > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [({"steps": (2, 1)}, "descend to 0"), ({"steps": ()}, "descend to 0"), ({"steps": (1, 2, 0)}, "descend to 0"),
     ({"mode": "fast"}, "exact, heuristic"), ({"solver": "euler"}, "ddpm, ddim"), ({"rho": -1.0}, "rho=-1.0"),
     ({"tau": 0.0}, "tau=0.0"), ({"tau": (0.1, -1.0)}, "tau=-1.0"), ({"inertia": 1.0}, "inertia=1.0"),
     ({"discrete_scale": 2.0}, "discrete_scale"), ({"hysteresis": 1.0}, "hysteresis")],
)  # fmt: skip
def test_values_that_cannot_iterate_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        RTI(**values)


def test_a_list_that_begins_above_the_schedule_is_refused():
    with pytest.raises(ConfigError, match="begins at level 20.*trained with 20: begin at 19"):
        RTI((20, 0)).evaluations(20)
    with pytest.raises(ConfigError, match="10 sampling steps.*at most 5"):
        RTI((2, 0)).evaluations(5)


def test_lists_of_the_paper_step_by_one_level_and_exact_ones_link():
    assert RTI((7, 5, 3, 1, 0), mode="heuristic").levels(100) == [(7, 6), (5, 4), (3, 2), (1, 0), (0, -1)]
    assert RTI((7, 5, 3, 1, 0)).levels(100) == [(7, 5), (5, 3), (3, 1), (1, 0), (0, -1)]
