"""Goals as a part of the context; those of BESO have tests of their own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.base import Batch, cfg_from_dict, cfg_to_dict
from policies.carp import CarpCfg, CarpPolicy
from policies.carp.gpt import GptCfg
from policies.carp.tokenizer import TokenizerCfg
from policies.checkpoint import load_policy
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.goals import GoalCfg
from policies.networks.transformer import TransformerCfg
from policies.networks.unet1d import UnetCfg
from policies.observed import Recorded
from policies.samplers import seeded
from policies.streaming import StreamingCfg, StreamingPolicy
from policies.train import TrainCfg, fit
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError

CFG = DiffusionCfg(
    To=1, Tp=4, Ta=4, encoder=(16,), sampler="ddim5", state_noise=0.0,
    network=UnetCfg((16, 32), kernel=3, groups=4, step_dim=16), goal=GoalCfg(width=16),
)  # fmt: skip
COMMON = {"To": 1, "Ta": 2, "encoder": (16,), "goal": GoalCfg(kind="future", width=8)}
KINDS = {
    "unet": (DiffusionPolicy, CFG),
    "transformer": (
        DiffusionPolicy, DiffusionTransformerCfg(**COMMON, Tp=4, sampler="ddim5", network=TransformerCfg(1, 2, 16))
    ),
    "streaming": (StreamingPolicy, StreamingCfg(**COMMON, Tp=4, network=UnetCfg((8,), kernel=3, groups=4, step_dim=8))),
    "carp": (
        CarpPolicy,
        CarpCfg(
            **COMMON, Tp=8, sampler="sampled", tokenizer=TokenizerCfg(patches=(1, 2), codes=16),
            network=GptCfg(depth=1, width=16, heads=2),
        ),
    ),
}  # fmt: skip


@pytest.fixture
def build(untrained):
    return lambda arrays, cfg=CFG, kind=DiffusionPolicy: untrained(arrays, cfg, kind, spread=0.2)


def act(policy, obs, goal=None):
    policy.reset(np.ones(len(obs.state), bool), np.arange(len(obs.state)))
    if goal is not None:
        policy.aim(np.full((len(obs.state), 1), goal, np.float32))
    return policy.infer(obs).actions


def test_the_goal_decides_the_way_and_without_one_it_goes_either(opposite, begin, tmp_path):
    train = TrainCfg(
        steps=250, batch_size=32, lr=4e-3, warmup_steps=20, log_every=250, val_fraction=0.0, device="cpu", threads=1,
        progress=False, calibrate=False,
    )  # fmt: skip
    cfg = replace(CFG, goal=GoalCfg(drop=0.3, width=16))
    policy, obs = load_policy(fit(train, "diffusion_unet", cfg, opposite, tmp_path).checkpoint), begin(16)
    for goal in (0.5, -0.5):
        moved = act(policy, obs, goal)[:, -1, 0] - obs.state[:, 0, 0]
        assert (np.sign(moved) == np.sign(goal)).all()
        assert np.median(np.abs(moved)) > 0.2  # of 0.4
    assert np.isfinite(act(policy, obs)).all()


@pytest.mark.parametrize("name", KINDS)
def test_every_chunk_policy_acts_towards_its_goal_until_the_reset(build, name, opposite, begin):
    kind, cfg = KINDS[name]
    policy, obs = build(opposite, cfg, kind), begin(3)
    free, up, down = act(policy, obs), act(policy, obs, 0.5), act(policy, obs, -0.5)
    for one, other in ((free, up), (up, down), (down, free)):
        assert np.abs(one - other).max() > 1e-4
    np.testing.assert_array_equal(act(policy, obs), free)


def test_a_reset_forgets_the_goals_of_its_lanes_alone(build, opposite, begin):
    policy, obs = build(opposite), begin(2)
    act(policy, obs, 0.5)
    policy.reset(np.array([False, True]), np.array([0, 1]))
    assert policy.goals.values.isnan().tolist() == [[False], [True]]


@pytest.mark.parametrize("kind", ["final", "future"])
def test_a_goal_is_what_the_same_episode_shows_later(build, opposite, kind):
    policy = build(opposite, replace(CFG, goal=GoalCfg(kind=kind, width=8)))
    share = policy.goal_share(200, seeded(0))
    assert share.shape == (200,)
    assert bool((share == 1).all()) == (kind == "final")
    assert build(opposite, replace(CFG, goal=None)).goal_share(8, seeded(0)) is None


def batch_of(arrays, count=60):
    windows = SequenceSampler(arrays.ends, CFG.To, CFG.Tp)
    rows, acted = windows.gather(np.arange(count))
    recorded = Recorded(arrays, arrays.features, torch.device("cpu"))
    last = torch.from_numpy(windows.later(np.arange(count), np.ones(count)))
    goals = {"goal_state": recorded.state[last], "goal_environment_state": recorded.objects[last]}
    return Batch(recorded.at(rows), recorded.action[torch.from_numpy(acted)], **goals)


def test_goals_are_dropped_for_whole_samples_and_a_dropped_one_leaves_no_trace(build, opposite):
    batch = batch_of(opposite)
    other = replace(batch, goal_environment_state=batch.goal_environment_state + 0.3)
    seen = build(opposite, replace(CFG, goal=GoalCfg(drop=0.5, width=8))).aimed(batch, seeded(0)).goal
    assert 0.3 < seen.isnan().float().mean() < 0.7
    losses = {}
    for drop in (0.0, 1.0):
        policy = build(opposite, replace(CFG, goal=GoalCfg(drop=drop, width=8)))
        losses[drop] = [policy.loss(b, seeded(0)).item() for b in (batch, other)]
    assert losses[1.0][0] == losses[1.0][1]
    assert losses[0.0][0] != losses[0.0][1]


def test_what_stands_for_no_goal_is_learnt(build, opposite):
    policy = build(opposite, replace(CFG, goal=GoalCfg(drop=1.0, width=8))).train()
    policy.loss(batch_of(opposite), seeded(0)).backward()
    assert policy.goal.absent.grad.abs().max() > 0


def test_a_goal_outside_the_data_is_refused_by_name(build, opposite, begin):
    policy = build(opposite)
    policy.reset(np.ones(1, bool), np.zeros(1, np.int64))
    for value, text in ((5.0, "is 5, outside"), (np.nan, "is nan, outside")):
        with pytest.raises(DataError, match=rf"goal 'load.x' {text} the demonstrations' .* to ") as caught:
            policy.aim(np.full((1, 1), value, np.float32))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"goals have shape \(1, 3\), not \(1, 1\)"):
        policy.aim(np.zeros((1, 3), np.float32))


def test_a_goal_is_refused_where_it_would_be_ignored(build, opposite):
    policy = build(opposite, replace(CFG, goal=None))
    policy.reset(np.ones(1, bool), np.zeros(1, np.int64))
    with pytest.raises(ConfigError, match="acts without a goal: train one with policy.goal.kind=final"):
        policy.aim(np.zeros((1, 1), np.float32))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"kind": "first"}, "'first': use one of final, future, none"), ({"drop": 1.5}, r"goal.drop=1.5 must be in"),
     ({"width": 0}, "goal.width=0")],
)  # fmt: skip
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        GoalCfg(**values)


def test_no_kind_is_no_goal_and_settings_survive_plain_values():
    assert replace(CFG, goal=GoalCfg(kind="none")) == replace(CFG, goal=None)
    assert cfg_from_dict(DiffusionCfg, cfg_to_dict(CFG)) == CFG
