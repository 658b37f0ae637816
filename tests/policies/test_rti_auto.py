import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.accel.rti_auto import PLAN, CalibrationCfg, calibrate, load_plan, save_plan
from policies.base import Batch
from policies.checkpoint import calibrate_checkpoint, load_policy, save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import DDIM, RTI, seeded
from policies.streaming import StreamingCfg, StreamingPolicy
from policies.train import TrainCfg, fit
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError, DataError
from robostack.types import Observation

CFG = DiffusionCfg(Tp=8, Ta=4, encoder=(64,), network=UnetCfg((16, 32), groups=8, step_dim=16))


@pytest.fixture(scope="session")
def trained(demos, tmp_path_factory):
    """A checkpoint whose policy reproduces the motion of six demonstrations."""
    train = TrainCfg(steps=140, batch_size=32, lr=4e-3, warmup_steps=10, progress=False, device="cpu", threads=1)
    out = tmp_path_factory.mktemp("rti")
    return fit(replace(train, val_every=140, log_every=140), "diffusion_unet", CFG, demos, out).checkpoint


@pytest.fixture
def copy(trained, demos, tmp_path):
    """The checkpoint, to be changed, without a plan."""
    policy = load_policy(trained, sampler="ddim10")
    return save_checkpoint(tmp_path / "copy", policy, "diffusion_unet", step=1, metrics={})


def follow(policy, demos, rows):
    """First actions of a decision at each of the rows, and the evaluations of all of them."""
    policy.reset(np.ones(1, bool), np.array([0]))
    actions, used = [], 0
    for i, row in enumerate(rows):
        window = np.array([[row - 1, row]])
        obs = Observation(i / 20.0, demos.state[window], demos.environment_state[window])
        actions.append(policy.infer(obs).actions[0, 0])
        used += int(policy.evaluations()[0])
    return np.stack(actions), used


def test_training_leaves_a_plan_and_it_is_what_rti_means(trained, demos):
    plan = load_plan(trained)
    assert plan.data == demos.fingerprint()
    assert plan.steps
    assert len(plan.steps) <= 5
    assert plan.steps[-1] == 0
    assert plan.contraction <= 0.3
    assert len(plan.tau) == CFG.Ta
    assert 0 < plan.tau[0] < plan.tau[-1]  # A plan of which more was executed is corrected more.
    assert plan.delta[1] >= plan.delta[0] > 0
    policy = load_policy(trained, sampler="rti")
    assert policy.sampler == plan.sampler() == RTI(plan.steps, first=DDIM(10), tau=plan.tau, inertia=0.7)
    assert load_policy(trained, sampler="rti5").sampler.steps == (5, 3, 2, 1, 0)


def test_the_same_weights_and_data_give_the_same_plan(trained, demos):
    policy = load_policy(trained)
    first = calibrate(policy, demos, CalibrationCfg(pairs=8))
    assert first == calibrate(policy, demos, CalibrationCfg(pairs=8))
    assert first.weights == load_plan(trained).weights


def test_continued_decisions_follow_a_demonstration_as_well_as_those_from_noise(trained, demos):
    flips = np.flatnonzero(np.diff(demos.action[: demos.ends[0], 9]))
    rows = np.arange(flips[0] - 15, flips[0] + 25)  # Approach, grasp and lift.
    errors, wrong, costs = {}, {}, {}
    for sampler in ("ddim10", "rti"):
        policy = load_policy(trained, sampler=sampler)
        if sampler == "rti":  # A demonstration does not do what is planned, and inertia holds on to plans.
            policy.use_sampler(replace(policy.sampler, inertia=0.0))
        actions, costs[sampler] = follow(policy, demos, rows)
        off = np.abs(actions - demos.action[rows])
        errors[sampler], wrong[sampler] = off[:, :3].mean(), (off[:, 9] > 0.5).mean()
    assert errors["rti"] < 1.2 * errors["ddim10"] + 1e-3
    assert wrong["rti"] <= wrong["ddim10"] + 0.06
    assert costs["rti"] < 0.6 * costs["ddim10"]
    assert policy.discrete.columns == (9,)
    assert set(np.unique(actions[:, 9].round(4))) == {0.0, 1.0}  # Commands of a binary gripper are its two values.


def test_a_plan_that_no_list_fulfils_decides_from_noise(trained, demos):
    plan = calibrate(load_policy(trained), demos, CalibrationCfg(pairs=6, C_max=1e-9, max_evaluations=2))
    assert plan.steps == ()
    assert plan.tau == ()
    assert plan.sampler() == DDIM(10)


def test_a_list_must_end_closer_than_another_noise_would(trained, demos):
    policy, cfg = load_policy(trained), CalibrationCfg(pairs=6, max_evaluations=2)
    plan = calibrate(policy, demos, cfg)
    share = plan.error / plan.spread
    assert calibrate(policy, demos, replace(cfg, tol=1e-9, tol_spread=1.01 * share)).steps == plan.steps
    assert calibrate(policy, demos, replace(cfg, tol=1e-9, tol_spread=0.99 * share)).steps != plan.steps


def test_rti_without_a_plan_says_how_to_get_one_and_explicit_lists_work(copy, demos):
    with pytest.raises(CheckpointError, match="has no rti.json.*calibrate_checkpoint.*sampler=rti5"):
        load_policy(copy, sampler="rti")
    assert load_policy(copy, sampler="rti3").sampler.steps == (2, 1, 0)
    plan = calibrate_checkpoint(copy, demos, CalibrationCfg(pairs=6))
    assert load_policy(copy, sampler="rti").sampler == plan.sampler()


def test_a_checkpoint_is_calibrated_on_the_episodes_that_are_named(copy, demos):
    cfg, unseen = CalibrationCfg(pairs=6), np.array([1])
    plan = calibrate_checkpoint(copy, demos, cfg, episodes=unseen)
    assert plan == calibrate(load_policy(copy), demos, cfg, episodes=unseen)
    assert plan.error != calibrate_checkpoint(copy, demos, cfg).error


def test_a_plan_for_other_weights_schedule_or_data_is_refused(copy, trained, demos):
    plan = load_plan(trained)
    policy = load_policy(copy)
    assert plan.check(policy, demos.fingerprint()) is plan
    with pytest.raises(CheckpointError, match="measured on other data: calibrate it again"):
        plan.check(policy, "0" * 16)
    save_plan(copy, replace(plan, weights="0" * 16, schedule="1" * 16))
    with pytest.raises(CheckpointError, match="measured on other weights and schedule"):
        load_policy(copy, sampler="rti")
    load_policy(copy, sampler="ddim10")


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[: len(text) // 2], lambda text: "[]", lambda text: "{}",
     lambda text: json.dumps({**json.loads(text), "steps": [0, 4]}),
     lambda text: json.dumps({**json.loads(text), "tau": "high"})],
)  # fmt: skip
def test_a_damaged_plan_is_detected(copy, trained, damage):
    (copy / PLAN).write_text(damage((trained / PLAN).read_text()))
    with pytest.raises(CheckpointError, match="rti.json is damaged"):
        load_policy(copy, sampler="rti")


def test_data_without_two_consecutive_rows_cannot_calibrate(trained, demos):
    policy = load_policy(trained)
    single = replace(
        demos, state=demos.state[:1], environment_state=demos.environment_state[:1], action=demos.action[:1],
        ends=np.array([1]),
    )  # fmt: skip
    with pytest.raises(DataError, match="no episode has two rows"):
        calibrate(policy, single)


def test_a_policy_of_few_levels_calibrates(demos):
    policy = DiffusionPolicy(replace(CFG, diffusion_steps=4, sampler="ddim2"), demos.features).eval()
    policy.fit_statistics(demos, SequenceSampler(demos.ends, CFG.To, CFG.Tp))
    plan = calibrate(policy, demos, CalibrationCfg(pairs=4))
    assert plan.first == 4
    assert len(plan.steps) < 4


def test_values_that_cannot_calibrate_are_refused():
    with pytest.raises(ConfigError, match="pairs=0 must be positive"):
        CalibrationCfg(pairs=0)
    with pytest.raises(ConfigError, match="quantile=2.0"):
        CalibrationCfg(quantile=2.0)
    with pytest.raises(ConfigError, match="inertia=1.0"):
        CalibrationCfg(inertia=1.0)


def test_data_of_another_robot_cannot_calibrate(copy, demos):
    other = replace(demos, features=replace(demos.features, robot="ur5e"))
    with pytest.raises(CheckpointError, match="robot: toy != ur5e"):
        calibrate_checkpoint(copy, other)


def test_only_diffusion_policies_are_calibrated(demos, tmp_path):
    cfg = StreamingCfg(Tp=12, Ta=4, encoder=(16,), network=UnetCfg((8, 16), groups=4, step_dim=8))
    policy = StreamingPolicy(cfg, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, 2, 12))
    path = save_checkpoint(tmp_path / "s", policy, "streaming", step=0, metrics={})
    with pytest.raises(CheckpointError, match="holds a StreamingPolicy"):
        calibrate_checkpoint(path, demos)


def test_joint_space_actions_of_any_width_calibrate(demos):
    features = replace(demos.features, action=tuple(f"j{i}" for i in range(3)), control_mode="joint_pos")
    arrays = replace(demos, action=np.ascontiguousarray(demos.action[:, :3]), features=features)
    policy = DiffusionPolicy(CFG, features)
    policy.fit_statistics(arrays, SequenceSampler(arrays.ends, CFG.To, CFG.Tp))
    assert policy.discrete.columns == ()
    batch = Batch(Observed(torch.randn(4, 2, 10), torch.randn(4, 2, 18)), torch.randn(4, 8, 3))
    assert torch.isfinite(policy.loss(batch, seeded(0)))
    plan = calibrate(policy.eval(), arrays, CalibrationCfg(pairs=4, max_evaluations=2))
    assert plan.delta[1] == plan.error_binary == 0.0


@pytest.mark.slow
def test_in_closed_loop_continued_decisions_succeed_as_often_as_those_from_noise(make_demos, rollouts, tmp_path):
    cfg = DiffusionCfg(encoder=(128, 128), network=UnetCfg((32, 64), groups=8, step_dim=32))
    train = TrainCfg(steps=2000, batch_size=64, lr=2e-3, warmup_steps=50, progress=False, device="cpu", threads=1)
    checkpoint = fit(train, "diffusion_unet", cfg, make_demos(150), tmp_path / "run").checkpoint
    success = {}
    for sampler in ("ddim10", "rti"):
        policy = load_policy(checkpoint, sampler=sampler)
        success[sampler], _ = rollouts(policy, 40)
    assert success["ddim10"] > 0.4
    assert success["rti"] > success["ddim10"] - 0.15  # Two standard errors of a paired difference over 40 episodes.
