import dataclasses

import numpy as np
import pytest
import torch

from policies.base import Batch
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import seeded
from policies.streaming import StreamingCfg, StreamingPolicy
from policies.train import TrainCfg, fit
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, UnknownName
from robostack.types import Observation

SMALL = StreamingCfg(Tp=12, Ta=4, sampler="ddim10", encoder=(16,), network=UnetCfg((8, 16), groups=4, step_dim=8))


@pytest.fixture
def stream(demos):
    torch.manual_seed(0)
    policy = StreamingPolicy(SMALL, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, SMALL.To, SMALL.Tp))
    return policy.eval()


def at(observe, step, *rows):
    """The observation of control step ``step`` (20 Hz)."""
    return dataclasses.replace(observe(*rows), t_s=step / 20.0)


def drive(policy, observe, rows, decisions=3):
    """Chunks of successive decisions of the lanes that begin at ``rows``."""
    Ta = policy.cfg.Ta
    return [policy.infer(at(observe, i * Ta, *(r + i * Ta for r in rows))).actions for i in range(decisions)]


def test_a_continued_decision_costs_the_list_divided_by_the_parts(stream, observe):
    for sampler, parts_cost in (("ddim10", 5), ("ddim50", 25), ("ddim2", 1)):
        stream.use_sampler(sampler)
        stream.reset(np.ones(2, bool), np.arange(2))
        drive(stream, observe, (3, 60), decisions=1)
        assert stream.evaluations().tolist() == [2 * parts_cost] * 2
        drive(stream, observe, (3, 60), decisions=1)  # Not Ta steps later: begins anew.
        assert stream.evaluations().tolist() == [2 * parts_cost] * 2
        stream.reset(np.ones(2, bool), np.arange(2))
        drive(stream, observe, (3, 60), decisions=3)
        assert stream.evaluations().tolist() == [parts_cost] * 2


def test_levels_of_training_are_one_ladder_of_parts_or_one_level(stream):
    levels = stream.training_levels(4000, seeded(0))
    assert levels.min() >= 0
    assert levels.max() <= 99
    first, second = levels[:, :5], levels[:, 5:]  # One past action and four of each part; the rest joins the last part.
    assert (first == first[:, :1]).all()
    assert (second == second[:, :1]).all()
    growing = second[:, 0] - first[:, 0] == 50
    assert ((first[:, 0] == second[:, 0]) | growing).all()
    assert growing.float().mean() == pytest.approx(0.8, abs=0.03)
    assert first[growing].max() == 49
    assert second[growing].max() == 99
    assert first[growing].min() == 0


def test_levels_while_acting_are_levels_of_training(stream):
    seen = {(int(s.k[0]), int(s.k[-1])) for s in stream._streaming}
    assert seen == {(40, 90), (30, 80), (20, 70), (10, 60), (0, 50)}
    assert stream._streaming[-1].k_next[0] == -1
    assert stream._streaming[-1].k_next[-1] == 40


def test_the_regime_is_drawn_per_sample(stream):
    levels = stream.training_levels(64, seeded(1))
    kinds = levels[:, 0] == levels[:, -1]
    assert kinds.any()
    assert not kinds.all()


def test_a_perfect_network_makes_the_stream_end_at_its_estimate(stream, observe):
    target = torch.linspace(-0.8, 0.8, 12)[None, :, None].expand(2, 12, 10)
    stream.model.forward = lambda x, k, cond: target
    stream.reset(np.ones(2, bool), np.arange(2))
    for i in range(3):
        obs = at(observe, 4 * i, 5, 60)
        actions = stream.infer(obs).actions
        _, units = stream.condition(stream.observed(obs))
        np.testing.assert_allclose(actions, units.decode(target)[:, 1:].numpy(), atol=1e-5)


def test_what_is_kept_is_at_its_level_in_any_frame(stream, observe):
    """The kept noise has unit variance: a stream that is encoded elsewhere stays at the level it is labelled with."""
    target = torch.zeros(40, 12, 10)
    stream.model.forward = lambda x, k, cond: target[: len(x)]
    stream.reset(np.ones(40, bool), np.arange(40))
    rows = tuple(range(40))
    drive(stream, observe, rows, decisions=3)
    later = stream._memory["noise"][:, 5:]
    assert later.std() == pytest.approx(1.0, abs=0.03)


def test_resetting_one_lane_leaves_the_streams_of_the_others(stream, observe):
    stream.reset(np.ones(2, bool), np.array([1, 2]))
    whole = drive(stream, observe, (5, 60), decisions=3)
    stream.reset(np.ones(2, bool), np.array([1, 2]))
    drive(stream, observe, (5, 60), decisions=2)
    stream.reset(np.array([True, False]), np.array([1, 0]))
    assert not stream._memory["warm"][0]
    assert stream._memory["clean"][0].abs().max() == 0
    after = stream.infer(at(observe, 8, 5, 68)).actions
    np.testing.assert_allclose(after[1], whole[2][1], atol=2e-5)
    np.testing.assert_allclose(after[0], whole[0][0], atol=2e-5)  # A new episode, as if there had been none.
    assert stream.evaluations().tolist() == [10, 5]


def test_streams_do_not_depend_on_their_order_or_company(stream, observe):
    rows, seeds = (5, 60, 90), np.array([1, 2, 3])
    stream.reset(np.ones(3, bool), seeds)
    together = drive(stream, observe, rows)
    order = [2, 0, 1]
    stream.reset(np.ones(3, bool), seeds[order])
    permuted = drive(stream, observe, tuple(rows[i] for i in order))
    for a, b in zip(together, permuted, strict=True):
        np.testing.assert_allclose(b, a[order], atol=2e-5)
    for lane in range(3):
        stream.reset(np.ones(1, bool), seeds[lane : lane + 1])
        for a, b in zip(together, drive(stream, observe, rows[lane : lane + 1]), strict=True):
            np.testing.assert_allclose(b[0], a[lane], atol=5e-5)


def test_the_loss_is_finite_and_falls(demos, tmp_path):
    cfg = dataclasses.replace(SMALL, network=UnetCfg((16, 32), groups=8, step_dim=16), encoder=(32,))
    train = TrainCfg(steps=70, batch_size=16, lr=3e-3, warmup_steps=10, log_every=10, val_every=70, progress=False)
    result = fit(dataclasses.replace(train, threads=1, device="cpu"), "streaming", cfg, demos, tmp_path / "run")
    assert result.losses[-1].train < 0.7 * result.losses[0].train


@pytest.mark.parametrize(
    ("values", "message"),
    [({"Tp": 16}, "at least two parts of Ta=8.*Tp >= 17"), ({"Tp": 26, "diffusion_steps": 100}, "divisible by its 3"),
     ({"sampler": "ddim5"}, "'ddim5'.*2 parts.* use ddim10, ddim100, ddim2, .*ddpm10, "),
     ({"sampler": "rti"}, "unknown sampler 'rti': Available: ddim1, "),
     ({"chunk_wise": 0.0}, "chunk_wise"), ({"prediction": "x0"}, "epsilon"),
     ({"diffusion_steps": 64}, "'ddim10'.* use ddim16, ddim2$")],
)  # fmt: skip
def test_values_that_cannot_stream_are_refused(values, message):
    with pytest.raises((ConfigError, UnknownName), match=message):
        StreamingCfg(**values)


def test_an_observation_that_is_not_finite_does_not_touch_the_stream(stream, observe):
    stream.reset(np.ones(1, bool), np.arange(1))
    obs = observe(5)
    bad = Observation(obs.t_s, obs.state * np.nan, obs.environment_state)
    with pytest.raises(Exception, match="is not finite in lane 0"):
        stream.infer(bad)
    assert not stream._memory["warm"].any()


def test_a_batch_of_any_width_has_a_loss(demos):
    features = dataclasses.replace(demos.features, action=tuple(f"j{i}" for i in range(7)), control_mode="joint_pos")
    policy = StreamingPolicy(SMALL, features)
    batch = Batch(Observed(torch.randn(4, 2, 10), torch.randn(4, 2, 18)), torch.randn(4, 12, 7))
    assert torch.isfinite(policy.loss(batch, seeded(0)))
