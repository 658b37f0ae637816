import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.base import Batch, cfg_from_dict, cfg_to_dict, resolve_device
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import seeded
from policies.zoo import POLICIES
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError, DeviceUnavailable, UnknownName
from robostack.runtime.protocols import Policy


def act(policy, obs, seeds):
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    return policy.infer(obs).actions


def test_the_policy_fulfils_the_kernel_protocol(policy):
    assert isinstance(policy, Policy)


def test_a_chunk_has_all_actions_that_are_still_due_and_the_time_of_the_observation(policy, observe):
    policy.reset(np.ones(3, bool), np.arange(3))
    chunk = policy.infer(observe(5, 50, 90))
    assert chunk.actions.shape == (3, 7, 10)
    assert chunk.actions.dtype == np.float32
    assert (chunk.t0_s, chunk.dt_s) == (1.5, pytest.approx(0.05))


def test_the_first_executed_action_is_that_of_the_last_observation(policy, observe):
    obs = observe(40)
    with torch.inference_mode():
        chunk, _ = policy.sample(policy.observed(obs), policy.noise([seeded(11)]))
    np.testing.assert_allclose(act(policy, obs, [11])[0], chunk[0, 1:].numpy(), atol=1e-6)


def test_the_same_seed_gives_the_same_chunk_and_another_seed_another(policy, observe):
    first = act(policy, observe(40), [3])
    np.testing.assert_array_equal(act(policy, observe(40), [3]), first)
    assert np.abs(act(policy, observe(40), [4]) - first).max() > 1e-4


@pytest.mark.parametrize("sampler", ["ddim5", "ddpm100"])
def test_a_lane_does_not_depend_on_which_other_lanes_are_in_the_batch(policy, observe, sampler):
    policy.use_sampler(sampler)
    together = act(policy, observe(10, 60, 99), [7, 8, 9])
    for lane, (row, seed) in enumerate(((10, 7), (60, 8), (99, 9))):
        np.testing.assert_allclose(act(policy, observe(row), [seed])[0], together[lane], atol=2e-5)


def test_resetting_one_lane_leaves_the_stream_of_the_others(policy, observe, require_own_streams):
    require_own_streams(policy, observe(10, 60))


def test_an_observation_that_is_not_finite_is_refused_by_name(policy, observe):
    policy.reset(np.ones(2, bool), np.arange(2))
    obs = observe(10, 60)
    obs.environment_state[1, 0, 2] = np.nan
    with pytest.raises(DataError, match=r"'red_cube.z' is not finite in lane 1"):
        policy.infer(obs)


def test_an_observation_of_another_width_or_horizon_is_refused(policy, observe):
    policy.reset(np.ones(1, bool), np.arange(1))
    obs = observe(10)
    with pytest.raises(DataError, match=r"'environment_state' has shape \(1, 2, 17\).*\(lanes, 2, 18\)"):
        policy.infer(replace(obs, environment_state=obs.environment_state[..., 1:]))
    with pytest.raises(DataError, match=r"'state' has shape \(1, 1, 10\)"):
        policy.infer(replace(obs, state=obs.state[:, 1:], environment_state=obs.environment_state[:, 1:]))


def test_acting_before_a_reset_is_a_programmers_mistake(policy, observe):
    with pytest.raises(AssertionError, match="reset 1 lanes before infer"):
        policy.infer(observe(0))


def test_statistics_cover_the_data_so_that_clipping_cuts_nothing(policy, demos):
    rows = np.arange(len(demos.action))
    origin = policy.frame.origin(torch.from_numpy(demos.state[rows, None]))
    actions = policy.frame.actions(torch.from_numpy(demos.action[rows, None]), origin)
    assert policy.action_norm.scale.shape == (8, 10)
    scaled = actions[:, 0] * policy.action_norm.scale[1] + policy.action_norm.offset[1]
    assert scaled.abs().max() <= 1 + 1e-3


def test_joint_space_data_trains_and_acts(demos, tiny):
    joints = tuple(f"joint{i}" for i in range(10))
    features = replace(demos.features, state=joints, action=joints, control_mode="joint_pos")
    policy = DiffusionPolicy(tiny, features).eval()
    batch = Batch(Observed(torch.randn(4, 2, 10), torch.randn(4, 2, 18)), torch.randn(4, 8, 10))
    assert torch.isfinite(policy.loss(batch, seeded(0)))
    assert not policy.frame.relative


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
def test_the_loss_is_a_function_of_the_generator(demos, tiny, prediction):
    policy = DiffusionPolicy(replace(tiny, prediction=prediction), demos.features)
    batch = Batch(Observed(torch.randn(4, 2, 10), torch.randn(4, 2, 18)), torch.randn(4, 8, 10))
    a, b, c = (policy.loss(batch, seeded(s)).item() for s in (1, 1, 2))
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("values", "message"),
    [({"Ta": 16}, "Ta <= Tp - To"), ({"prediction": "x0"}, "'x0': use one of epsilon"), ({"frame": "tool"}, "world"),
     ({"Tp": 15, "Ta": 4}, "Tp=15 is not divisible"), ({"diffusion_steps": 1}, "at least 2"),
     ({"diffusion_steps": 5}, "10 sampling steps")],
)  # fmt: skip
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        DiffusionCfg(**values)


def test_an_unknown_sampler_is_refused_at_construction():
    with pytest.raises(UnknownName, match="sampler"):
        DiffusionCfg(sampler="euler")


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_configuration_survives_a_round_trip_through_plain_values(name):
    cfg = POLICIES[name].cfg()
    assert cfg_from_dict(type(cfg), cfg_to_dict(cfg)) == cfg
    with pytest.raises(ConfigError, match="has no field 'wdith'"):
        cfg_from_dict(type(cfg), {"wdith": 1})


def test_devices_are_resolved_or_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == resolve_device("cpu").type == "cpu"
    with pytest.raises(DeviceUnavailable, match="device=cpu"):
        resolve_device("cuda")
    with pytest.raises(ConfigError, match="cpu, cuda or auto"):
        resolve_device("tpu")


def test_in_training_measured_positions_are_off_and_commands_are_not(policy, observe):
    policy = copy.deepcopy(policy).train()
    observed, action = policy.observed(observe(5, 50, 90)), torch.zeros(3, 8, 10)
    plain, plain_units = policy.condition(observed)
    noisy, units = policy.condition(observed, seeded(0))
    again, _ = policy.condition(observed, seeded(0))
    torch.testing.assert_close(noisy.steps, again.steps, atol=0, rtol=0)
    off = (noisy.steps - plain.steps)[..., :10]
    read = [0, 1, 2, 9]  # position and gripper; in between, the rotation
    assert (off[..., read] != 0).all()
    assert (off[..., 3:9] == 0).all()
    assert off[..., read].abs().max() < 6 * 1.2 * policy.cfg.state_noise
    moved = units.origin - plain_units.origin  # a frame that is off sees the same command from elsewhere
    torch.testing.assert_close(units.decode(units.encode(action)), action, atol=1e-5, rtol=0)
    assert (moved[:, :3] != 0).all()


@pytest.mark.parametrize("quiet", ["acting", "disabled"])
def test_nothing_is_off_in_acting_or_where_it_is_disabled(policy, observe, quiet):
    policy = copy.deepcopy(policy).train(quiet == "disabled")
    if quiet == "disabled":
        policy.cfg = replace(policy.cfg, state_noise=0.0)
    observed = policy.observed(observe(5, 50))
    torch.testing.assert_close(
        policy.condition(observed, seeded(0))[0].steps, policy.condition(observed)[0].steps, atol=0, rtol=0
    )


def test_columns_that_never_moved_are_never_off(demos):
    still = replace(demos, state=np.concatenate([demos.state[:, :2], 0 * demos.state[:, 2:]], axis=1))
    policy = DiffusionPolicy(DiffusionCfg(Tp=8, Ta=4, encoder=(), network=UnetCfg((8,), 3, 8, 16)), still.features)
    policy.fit_statistics(still, SequenceSampler(still.ends, 2, 8))
    state = torch.zeros(4, 2, 10)
    observed = Observed(state, torch.zeros(4, 2, 18))
    off = policy.train().condition(observed, seeded(0))[0].steps - policy.condition(observed)[0].steps
    assert (off[..., :2] != 0).all()
    assert (off[..., 2:10] == 0).all()
