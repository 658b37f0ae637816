from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.base import Batch
from policies.beso import BesoCfg, BesoPolicy
from policies.checkpoint import load_policy
from policies.networks.goal_gpt import GoalGptCfg
from policies.observed import Observed
from policies.samplers import seeded
from policies.train import TrainCfg, fit
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError, UnknownName
from robostack.types import Observation

CFG = BesoCfg(Tp=8, Ta=4, bank=8, network=GoalGptCfg(width=32, layers=2, heads=2))


@pytest.fixture
def build(untrained):
    return lambda arrays, cfg=CFG: untrained(arrays, cfg, BesoPolicy)


@pytest.fixture
def beso(build, demos):
    return build(demos)


@pytest.fixture
def goal(demos):
    """The end of the first episode."""
    return demos.environment_state[demos.ends[0] - 1]


def act(policy, obs, seeds, goals=None):
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    if goals is not None:
        policy.aim(goals)
    return policy.infer(obs).actions


def conditioned(policy, obs, goals):
    cond, units = policy.condition(policy.observed(obs))
    return policy.with_goal(cond, units, torch.from_numpy(goals), torch.ones(len(goals), dtype=torch.bool))


def test_guidance_0_is_the_goal_free_and_guidance_1_the_goal_conditioned_estimate(beso, observe, goal):
    obs, x = observe(10, 60), torch.randn(2, 8, 10)
    cond = conditioned(beso, obs, np.stack([goal, goal]))
    free, _ = beso.condition(beso.observed(obs))
    with torch.inference_mode():
        without, towards = beso.denoise(x, 0.3, free, 1.0), beso.denoise(x, 0.3, cond, 1.0)
        assert (without - towards).abs().max() > 1e-3
        torch.testing.assert_close(beso.denoise(x, 0.3, cond, 0.0), without)
        for guidance in (1e-7, 1 - 1e-7, 2.0):  # Through the batch of both.
            mixed = beso.denoise(x, 0.3, cond, guidance)
            torch.testing.assert_close(mixed, without + guidance * (towards - without), atol=1e-5, rtol=1e-4)


def test_guidance_costs_one_pass_per_step(beso, observe):
    beso.use_sampler("beso3_guided")
    sizes = []
    beso.model.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    act(beso, observe(10, 60), [1, 2])
    assert sizes == [4, 4, 4]


def test_a_goal_free_decision_does_not_depend_on_goals(beso, observe, goal):
    free = act(beso, observe(40), [3])
    beso.use_sampler("beso3_free")
    np.testing.assert_array_equal(act(beso, observe(40), [3]), free)
    beso.use_sampler("beso3_goal")
    towards = act(beso, observe(40), [3], goal[None])
    assert np.abs(towards - free).max() > 1e-4


def test_the_goal_decides_where_it_counts(beso, observe, demos):
    beso.use_sampler("beso3_goal")
    ends = demos.environment_state[demos.ends - 1]
    chunks = [act(beso, observe(40), [3], ends[i : i + 1]) for i in (0, 1, 0)]
    np.testing.assert_array_equal(chunks[0], chunks[2])
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-4


def test_without_a_given_goal_it_is_the_end_of_the_demonstration_that_began_alike(beso, demos):
    beso.use_sampler("beso3_goal")
    starts = np.concatenate([[0], demos.ends[:-1]])
    window = np.stack([starts, starts], axis=1)
    obs = Observation(0.0, demos.state[window], demos.environment_state[window])
    chosen = act(beso, obs, np.arange(len(starts)))
    given = act(beso, obs, np.arange(len(starts)), demos.environment_state[demos.ends - 1])
    np.testing.assert_allclose(chosen, given, atol=1e-5)


def test_a_goal_stays_until_the_reset_of_its_lane(beso, observe, demos):
    beso.use_sampler("beso3_goal")
    act(beso, observe(10, 10), [1, 1], demos.environment_state[demos.ends[:2] - 1])
    kept = beso.goals.values.clone()
    beso.infer(observe(60, 60))
    torch.testing.assert_close(beso.goals.values, kept)
    beso.reset(np.array([False, True]), np.array([1, 1]))
    assert bool(beso.goals.values[1].isnan().all())
    torch.testing.assert_close(beso.goals.values[0], kept[0])


def test_a_goal_outside_the_data_is_refused_by_name(beso, goal):
    beso.use_sampler("beso3_goal")
    beso.reset(np.ones(1, bool), np.zeros(1, np.int64))
    for value, text in ((5.0, "is 5, outside"), (np.nan, "is nan, outside")):
        far = goal[None].copy()
        far[0, 1] = value
        with pytest.raises(DataError, match=rf"goal 'red_cube.y' {text} the demonstrations' .* to ") as caught:
            beso.aim(far)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"goals have shape \(1, 3\), not \(1, 18\)"):
        beso.aim(goal[None, :3])


def test_a_goal_is_refused_where_it_would_be_ignored(build, beso, goal, demos):
    beso.reset(np.ones(1, bool), np.zeros(1, np.int64))
    with pytest.raises(ConfigError, match="acts without a goal"):
        beso.aim(goal[None])
    with pytest.raises(ConfigError, match="needs a policy trained with goals"):
        build(demos, replace(CFG, goal="none")).use_sampler("beso3_goal")


def batch_of(demos, count=400, goals=True):
    windows = SequenceSampler(demos.ends, CFG.To, CFG.Tp)
    observed, acted = windows.gather(np.arange(count))
    ends = windows.later(np.arange(count), np.ones(count))
    state, objects, action = (torch.from_numpy(c) for c in (demos.state, demos.environment_state, demos.action))
    return Batch(Observed(state[observed], objects[observed]), action[acted], state[ends], objects[ends])


def test_goals_are_dropped_for_whole_samples_and_one_in_ten(beso, demos):
    seen = []
    beso.model.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[-2:]))
    beso.loss(batch_of(demos), seeded(0))
    goals, counts = seen[0]
    assert counts.shape == (400,)
    assert 0.05 < 1 - counts.float().mean() < 0.16
    assert goals.shape == (400, 18)


def test_a_dropped_goal_leaves_no_trace(beso, demos):
    batch = batch_of(demos, 8)
    dropped = BesoPolicy(replace(CFG, goal_drop=1.0), demos.features).eval()
    dropped.load_state_dict(beso.state_dict())
    other = replace(batch, goal_environment_state=batch.goal_environment_state + 0.1)
    assert dropped.loss(batch, seeded(0)).item() == dropped.loss(other, seeded(0)).item()
    kept = BesoPolicy(replace(CFG, goal_drop=0.0), demos.features).eval()
    kept.load_state_dict(beso.state_dict())
    assert kept.loss(batch, seeded(0)).item() != kept.loss(other, seeded(0)).item()


@pytest.mark.parametrize("goal", ["final", "future"])
def test_goals_are_later_in_the_same_episode(demos, goal):
    windows = SequenceSampler(demos.ends, CFG.To, CFG.Tp)
    indices = np.arange(len(windows))
    share = BesoPolicy(replace(CFG, goal=goal), demos.features).goal_share(len(indices), seeded(0))
    rows, now = windows.later(indices, share.numpy()), windows.gather(indices)[0][:, -1]
    assert (rows >= now).all()
    np.testing.assert_array_equal(*(np.searchsorted(demos.ends, r, side="right") for r in (rows, now)))
    if goal == "final":
        np.testing.assert_array_equal(rows, demos.ends[np.searchsorted(demos.ends, now, side="right")] - 1)
    else:
        assert len(np.unique(rows)) > len(indices) / 3


def test_the_papers_window_executes_its_last_action(build, demos, observe):
    policy = build(demos, replace(CFG, To=2, Tp=2, Ta=1))
    assert act(policy, observe(40, 50), [1, 2]).shape == (2, 1, 10)


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_network_sees_only_what_came_before(build, demos, causal):
    policy = build(demos, replace(CFG, network=replace(CFG.network, causal=causal)))
    cond, _ = policy.condition(Observed(torch.randn(1, 2, 10), torch.randn(1, 2, 18)))
    x, sigma = torch.randn(1, 8, 10), torch.tensor([0.3])
    with torch.inference_mode():
        before = policy.predict(x, sigma, cond)
        x[:, 5] += 1.0
        moved = (policy.predict(x, sigma, cond) - before).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == ([False] * 5 + [True] * 3 if causal else [True] * 8)


def test_objectless_data_aims_at_states(build, demos):
    bare = replace(
        demos, environment_state=demos.environment_state[:, :0], features=replace(demos.features, environment_state=())
    )
    policy = build(bare)
    policy.use_sampler("beso3_goal")
    policy.reset(np.ones(1, bool), np.zeros(1, np.int64))
    policy.aim(bare.state[-1:])
    assert policy.infer(Observation(0.0, bare.state[None, :2], bare.environment_state[None, :2])).actions.shape[1] == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [({"goal": "first"}, "'first': use one of final, future, none"), ({"goal_drop": 1.5}, r"in \[0, 1\]"),
     ({"bank": 0}, "at least 1"), ({"goal": "none", "guidance": 1.0}, "trained with goals")],
)  # fmt: skip
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        BesoCfg(**values)
    with pytest.raises(UnknownName, match="did you mean 'beso20'"):
        BesoCfg(sampler="beso200")


def test_a_policy_reproduces_the_motion_it_was_trained_on(demos, tmp_path):
    first = {name: getattr(demos, name)[:40] for name in ("state", "environment_state", "action")}
    demos = replace(demos, **first, ends=np.array([40]))
    train = TrainCfg(
        steps=400, batch_size=40, lr=4e-3, warmup_steps=20, log_every=200, val_fraction=0.0, device="cpu", threads=1,
        progress=False,
    )  # fmt: skip
    cfg = replace(CFG, Ta=7, encoder=(64,), goal_drop=0.5, network=GoalGptCfg(width=48, layers=2, heads=2))
    path = fit(train, "beso", cfg, demos, tmp_path).checkpoint
    rows = np.arange(1, len(demos.action) - 8, 7)
    window = rows[:, None] + np.array([-1, 0])
    wanted = demos.action[rows[:, None] + np.arange(7)]
    moved = np.linalg.norm(wanted[..., :3] - demos.state[rows, None, :3], axis=-1)
    for sampler in ("beso3", "beso3_goal", "beso_heun3"):
        obs = Observation(0.0, demos.state[window], demos.environment_state[window])
        error = np.linalg.norm((act(load_policy(path, sampler=sampler), obs, rows) - wanted)[..., :3], axis=-1)
        assert np.median(error) < np.median(moved) / 4
