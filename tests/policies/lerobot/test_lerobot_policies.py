import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from policies.base import Batch, TrainablePolicy
from policies.checkpoint import load_policy, save_checkpoint
from policies.lerobot import LerobotActCfg, LerobotDiffusionCfg
from policies.observed import Observed
from policies.samplers import seeded
from policies.train import TrainCfg, fit
from policies.zoo import POLICIES
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError, MissingExtra, UnknownName
from robostack.runtime.execution import Executor
from robostack.runtime.protocols import Policy
from robostack.types import Observation

NAMES = ["lerobot_act", "lerobot_diffusion"]
TRAIN = TrainCfg(
    steps=60, batch_size=16, lr=3e-3, warmup_steps=5, val_every=60, log_every=10, val_fraction=0.2, device="cpu",
    threads=1, progress=False,
)  # fmt: skip


@pytest.fixture
def batches(demos):
    """Our training batch of some windows, and the same windows as lerobot's dataset would give them."""

    def both(policy: TrainablePolicy, indices: np.ndarray) -> tuple[Batch, dict]:
        windows = SequenceSampler(demos.ends, policy.horizon.To, policy.horizon.Tp, pad_after=policy.pad_after)
        observed, acted = windows.gather(indices)
        arrays = (demos.state[observed], demos.environment_state[observed], demos.action[acted])
        state, objects, action = (torch.from_numpy(a) for a in arrays)
        padded = torch.from_numpy(windows.padded(indices))
        squeeze = policy.horizon.To == 1  # lerobot has no step axis where a policy asks for the present only
        theirs = {
            "observation.state": state[:, 0] if squeeze else state,
            "observation.environment_state": objects[:, 0] if squeeze else objects,
            "action": action,
            "action_is_pad": padded,
        }
        return Batch(Observed(state, objects), action, action_is_pad=padded), theirs

    return both


# Equal to lerobot.


@pytest.mark.parametrize("mapping", [None, {"STATE": "MEAN_STD", "ENV": "MIN_MAX", "ACTION": "IDENTITY"}])
@pytest.mark.parametrize("name", NAMES)
def test_the_training_loss_is_lerobots_in_the_last_bit(lerobot, make, batches, demos, name, mapping, statistics):
    policy = make(name, **({} if mapping is None else {"normalization_mapping": mapping})).train()
    ours, theirs = batches(policy, np.array([0, 40, demos.ends[0] - 4]))
    preprocess, _ = lerobot.processors[name](policy.policy.config, dataset_stats=statistics)
    processed = preprocess(theirs)
    assert ours.action_is_pad is not None
    assert ours.action_is_pad.any()
    torch.manual_seed(int(torch.randint(2**63 - 1, (), generator=seeded(5))))
    expected = policy.policy.forward(processed)[0]
    before = torch.get_rng_state()
    loss = policy.loss(ours, seeded(5))
    torch.testing.assert_close(loss, expected, atol=0, rtol=0)
    torch.testing.assert_close(torch.get_rng_state(), before)
    assert policy.loss(ours, seeded(6)) != loss


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("lerobot_act", None),
        ("lerobot_diffusion", None),
        ("lerobot_diffusion", "ddim5"),
        ("lerobot_diffusion", "ddpm100"),
    ],
)
def test_an_episode_gets_the_actions_of_lerobots_select_action(lerobot, make, demos, name, sampler, statistics):
    policy = make(name)
    if sampler is not None:
        policy.use_sampler(sampler)
    preprocess, postprocess = lerobot.processors[name](policy.policy.config, dataset_stats=statistics)
    executor = Executor(policy)
    executor.reset(7)
    torch.manual_seed(seeded(7).initial_seed())
    policy.policy.reset()
    for row in range(6):  # the first window is padded, and a chunk ends after 4 actions
        state, objects = demos.state[row], demos.environment_state[row]
        observed = {"observation.state": state, "observation.environment_state": objects}
        batch = preprocess({key: torch.from_numpy(values) for key, values in observed.items()})
        expected = postprocess(policy.policy.select_action(batch))[0]
        np.testing.assert_array_equal(executor.act(Observation(row / 20.0, state, objects)), expected.numpy())


def test_lerobots_last_frames_are_never_the_current_one(make, demos):
    policy = make("lerobot_diffusion", drop_n_last_frames=5)
    windows = SequenceSampler(demos.ends, 2, 8, pad_after=policy.pad_after)
    current = windows.gather(np.arange(len(windows)))[0][:, -1]
    dropped = {int(end) - 1 - i for end in demos.ends for i in range(5)}
    assert set(current.tolist()) == set(range(len(demos.action))) - dropped


def test_a_dataset_of_episodes_shorter_than_what_is_dropped_is_refused(lerobot, demos, tmp_path, cfgs):
    short = {name: getattr(demos, name)[:3] for name in ("state", "environment_state", "action")}
    with pytest.raises(DataError, match="every episode is shorter"):
        fit(
            TRAIN, "lerobot_diffusion", cfgs["lerobot_diffusion"], replace(demos, **short, ends=np.array([3])), tmp_path
        )


# Laws of every policy.


@pytest.mark.parametrize("name", NAMES)
def test_the_policy_fulfils_the_kernel_protocol_and_gives_all_actions_that_are_due(make, look, name):
    policy = make(name)
    assert isinstance(policy, Policy)
    policy.reset(np.ones(3, bool), np.arange(3))
    chunk = policy.infer(look(policy, 5, 50, 90))
    assert chunk.actions.shape == (3, policy.horizon.Tp - policy.horizon.To + 1, 10)
    assert chunk.actions.dtype == np.float32
    assert (chunk.t0_s, chunk.dt_s) == (1.5, pytest.approx(0.05))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_chunk_whatever_the_global_generator(make, look, name, act):
    policy = make(name)
    first = act(policy, look(policy, 40), [3])
    torch.manual_seed(99)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(act(policy, look(policy, 40), [3]), first)
    torch.testing.assert_close(torch.get_rng_state(), before)
    assert (np.abs(act(policy, look(policy, 40), [4]) - first).max() > 1e-4) == (name == "lerobot_diffusion")


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_does_not_depend_on_which_other_lanes_are_in_the_batch(make, look, name, act):
    policy = make(name)
    together = act(policy, look(policy, 10, 60, 99), [7, 8, 9])
    for lane, (row, seed) in enumerate(((10, 7), (60, 8), (99, 9))):
        np.testing.assert_allclose(act(policy, look(policy, row), [seed])[0], together[lane], atol=2e-5)


def test_resetting_one_lane_leaves_the_stream_of_the_others(make, look, require_own_streams):
    policy = make("lerobot_diffusion")
    require_own_streams(policy, look(policy, 10, 60))


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_both_losses_and_its_checkpoint_acts_the_same(lerobot, demos, look, tmp_path, name, cfgs, act):
    easy = {"lerobot_diffusion": {"prediction_type": "sample"}}.get(name, {})  # noise is learnt more slowly
    cfg = replace(cfgs[name], **easy)
    result = fit(TRAIN, name, cfg, demos, tmp_path / "run")
    untrained = fit(replace(TRAIN, steps=1), name, cfg, demos, tmp_path / "untrained")
    assert result.losses[-1].train < 0.75 * result.losses[0].train
    assert result.losses[-1].val < untrained.losses[-1].val
    policy = load_policy(result.checkpoint)
    assert (policy.task_id, policy.features) == (demos.task_id, demos.features)
    again = load_policy(save_checkpoint(tmp_path / "again", policy, name, step=60, metrics={}))
    obs = look(policy, 10, 60)
    np.testing.assert_array_equal(act(again, obs, [1, 2]), act(policy, obs, [1, 2]))


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_training_continues_to_the_same_bits(lerobot, demos, tmp_path, monkeypatch, name, cfgs):
    from policies.loggers import LOGGERS, NoLogger

    class Interrupt(NoLogger):
        def log(self, step, scalars):
            if step == 4:
                raise KeyboardInterrupt

    cfg = replace(TRAIN, steps=8, log_every=2, save_every_s=0.0)
    whole = fit(cfg, name, cfgs[name], demos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setitem(LOGGERS._records, "none", Interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(cfg, name, cfgs[name], demos, tmp_path / "torn")
    torn = fit(cfg, name, cfgs[name], demos, tmp_path / "torn")
    a, b = (load_file(r.checkpoint / "model.safetensors") for r in (whole, torn))
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=0, rtol=0)


# Bad input.


@pytest.mark.parametrize("name", NAMES)
def test_observations_that_are_not_finite_or_of_another_width_are_refused(make, look, name):
    policy = make(name)
    policy.reset(np.ones(2, bool), np.arange(2))
    obs = look(policy, 10, 60)
    with pytest.raises(DataError, match=r"'environment_state' has shape \(2, \d, 17\)"):
        policy.infer(replace(obs, environment_state=obs.environment_state[..., 1:]))
    obs.environment_state[1, 0, 2] = np.nan
    with pytest.raises(DataError, match=r"'red_cube.z' is not finite in lane 1"):
        policy.infer(obs)
    with pytest.raises(AssertionError, match="reset 1 lanes before infer"):
        policy.infer(look(policy, 10))


@pytest.mark.parametrize(
    ("cfg", "values", "message"),
    [(LerobotDiffusionCfg, {"horizon": 20}, "horizon=20 is not divisible by 8.*use 24"),
     (LerobotDiffusionCfg, {"n_action_steps": 16}, "n_action_steps <= horizon - n_obs_steps"),
     (LerobotDiffusionCfg, {"n_obs_steps": 0}, "n_obs_steps=0 must be at least 1"),
     (LerobotDiffusionCfg, {"down_dims": (12,)}, "divisible by n_groups=8"),
     (LerobotDiffusionCfg, {"kernel_size": 4}, "must be odd"),
     (LerobotDiffusionCfg, {"diffusion_step_embed_dim": 2}, "at least 4"),
     (LerobotDiffusionCfg, {"num_inference_steps": 101}, "1 to num_train_timesteps=100"),
     (LerobotDiffusionCfg, {"noise_scheduler_type": "DPM"}, "'DPM': use one of DDPM, DDIM"),
     (LerobotDiffusionCfg, {"prediction_type": "v"}, "'v': use one of epsilon, sample"),
     (LerobotDiffusionCfg, {"normalization_mapping": {"STATE": "LIMITS"}}, "of STATE 'LIMITS': use one of MEAN_STD"),
     (LerobotDiffusionCfg, {"normalization_mapping": {"OBJECTS": "MIN_MAX"}}, "'OBJECTS': use one of VISUAL"),
     (LerobotActCfg, {"n_action_steps": 101}, "at most chunk_size=100"),
     (LerobotActCfg, {"dim_model": 100}, "divisible by n_heads=8"),
     (LerobotActCfg, {"dropout": 1.0}, "dropout=1.0"),
     (LerobotActCfg, {"feedforward_activation": "glu"}, "'glu': use one of relu, gelu")],
)  # fmt: skip
def test_values_that_cannot_work_are_refused_in_one_line(cfg, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        cfg(**values)
    assert "\n" not in str(caught.value)


def test_samplers_that_do_not_fit_are_refused(make):
    policy, direct = make("lerobot_diffusion", num_train_timesteps=50), make("lerobot_act")
    with pytest.raises(ConfigError, match="100 sampling steps, but the policy was trained with 50"):
        policy.use_sampler("ddpm100")
    with pytest.raises(UnknownName, match="unknown sampler 'ddmi10'"):
        policy.use_sampler("ddmi10")
    with pytest.raises(UnknownName, match="unknown sampler 'rti': Available: ddim1, .* ddpm100"):
        policy.use_sampler("rti")
    with pytest.raises(UnknownName, match="unknown sampler 'ddim10': Available: direct"):
        direct.use_sampler("ddim10")
    direct.use_sampler("direct")


def test_a_sampler_that_is_not_lerobots_is_refused(make, monkeypatch):
    from policies.samplers import DDIM, ONE_STEP_SAMPLERS

    class Other(DDIM):
        pass

    monkeypatch.setitem(ONE_STEP_SAMPLERS._records, "other", Other(10))
    with pytest.raises(ConfigError, match="use ddpm100 or ddim10, not 'other'"):
        make("lerobot_diffusion").use_sampler("other")


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_without_object_states_is_refused(lerobot, demos, name, cfgs):
    with pytest.raises(ConfigError, match="environment state"):
        POLICIES[name].build(cfgs[name], replace(demos.features, environment_state=()))


def test_configuring_loads_no_lerobot_and_a_missing_one_is_named():
    script = "import sys, policies.zoo; assert 'lerobot' not in sys.modules; sys.modules['lerobot'] = None\n"
    script += "from policies.lerobot import *; from robostack.errors import MissingExtra\n"
    script += "try: build_act(LerobotActCfg(), None)\nexcept MissingExtra as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == str(MissingExtra("lerobot", "train")), done.stderr
