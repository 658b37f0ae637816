import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from policies.base import Batch, TrainablePolicy
from policies.checkpoint import load_policy, save_checkpoint
from policies.lerobot import LerobotActCfg, LerobotDiffusionCfg
from policies.observed import Observed
from policies.samplers import seeded
from policies.train import TrainCfg, fit
from policies.zoo import POLICIES
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError, DataError, MissingExtra, UnknownName
from robostack.runtime.execution import Executor
from robostack.runtime.protocols import Policy
from robostack.types import Observation

CFGS = {
    "lerobot_act": LerobotActCfg(
        chunk_size=8, n_action_steps=4, dim_model=32, n_heads=2, dim_feedforward=64, n_encoder_layers=1,
        n_vae_encoder_layers=1, latent_dim=4,
    ),
    "lerobot_diffusion": LerobotDiffusionCfg(
        horizon=8, n_action_steps=4, drop_n_last_frames=3, down_dims=(16, 32), kernel_size=3,
        diffusion_step_embed_dim=16, num_inference_steps=5,
    ),
}  # fmt: skip
NAMES = sorted(CFGS)
TRAIN = TrainCfg(
    steps=60, batch_size=16, lr=3e-3, warmup_steps=5, val_every=60, log_every=10, val_fraction=0.2, device="cpu",
    threads=1, progress=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def lerobot():
    """What the tests need of lerobot; loading it costs seconds."""
    POLICIES["lerobot_act"].build(CFGS["lerobot_act"], _toy())  # imports without the warnings of dependencies
    from lerobot.policies.act.processor_act import make_act_pre_post_processors
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

    return SimpleNamespace(
        processors={
            "lerobot_act": make_act_pre_post_processors,
            "lerobot_diffusion": make_diffusion_pre_post_processors,
        }
    )


def _toy():
    pose = ("x", "y", "z", "r1", "r2", "r3", "r4", "r5", "r6")
    ee = (*(f"ee.{c}" for c in pose), "gripper")
    objects = tuple(f"{entity}.{c}" for entity in ("red_cube", "blue_zone") for c in pose)
    from robostack.types import Features

    return Features(ee, objects, ee, (), "ee_pose", 20.0, "toy")


@pytest.fixture
def make(lerobot, demos) -> Callable[..., TrainablePolicy]:
    """An untrained policy with fitted normalisers."""

    def build(name: str, **values) -> TrainablePolicy:
        torch.manual_seed(0)
        policy = POLICIES[name].build(replace(CFGS[name], **values), demos.features)
        policy.fit_statistics(demos, SequenceSampler(demos.ends, policy.horizon.To, policy.horizon.Tp))
        return policy.eval()

    return build


@pytest.fixture
def look(demos):
    """Windows of ``To`` observations that end at the given rows."""

    def window(policy: TrainablePolicy, *rows: int) -> Observation:
        index = np.array(rows)[:, None] + np.arange(1 - policy.horizon.To, 1)
        return Observation(1.5, demos.state[index], demos.environment_state[index])

    return window


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


def exact_statistics(demos) -> dict:
    columns = {"observation.state": demos.state, "observation.environment_state": demos.environment_state}
    columns["action"] = demos.action
    names = ("min", "max", "mean", "std")
    return {key: {n: getattr(x.astype(np.float64), n)(axis=0) for n in names} for key, x in columns.items()}


def act(policy, obs, seeds):
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    return policy.infer(obs).actions


# Equal to lerobot.


@pytest.mark.parametrize("mapping", [None, {"STATE": "MEAN_STD", "ENV": "MIN_MAX", "ACTION": "IDENTITY"}])
@pytest.mark.parametrize("name", NAMES)
def test_the_training_loss_is_that_of_lerobots_own_path_in_the_last_bit(lerobot, make, batches, demos, name, mapping):
    policy = make(name, **({} if mapping is None else {"normalization_mapping": mapping})).train()
    ours, theirs = batches(policy, np.array([0, 40, demos.ends[0] - 4]))
    preprocess, _ = lerobot.processors[name](policy.policy.config, dataset_stats=exact_statistics(demos))
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
def test_an_episode_gets_the_actions_of_lerobots_select_action(lerobot, make, demos, name, sampler):
    policy = make(name)
    if sampler is not None:
        policy.use_sampler(sampler)
    preprocess, postprocess = lerobot.processors[name](policy.policy.config, dataset_stats=exact_statistics(demos))
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


def test_a_dataset_of_episodes_shorter_than_what_is_dropped_is_refused(lerobot, demos, tmp_path):
    short = {name: getattr(demos, name)[:3] for name in ("state", "environment_state", "action")}
    with pytest.raises(DataError, match="every episode is shorter"):
        fit(
            TRAIN, "lerobot_diffusion", CFGS["lerobot_diffusion"], replace(demos, **short, ends=np.array([3])), tmp_path
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
def test_the_same_seed_gives_the_same_chunk_whatever_the_global_generator(make, look, name):
    policy = make(name)
    first = act(policy, look(policy, 40), [3])
    torch.manual_seed(99)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(act(policy, look(policy, 40), [3]), first)
    torch.testing.assert_close(torch.get_rng_state(), before)
    assert (np.abs(act(policy, look(policy, 40), [4]) - first).max() > 1e-4) == (name == "lerobot_diffusion")


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_does_not_depend_on_which_other_lanes_are_in_the_batch(make, look, name):
    policy = make(name)
    together = act(policy, look(policy, 10, 60, 99), [7, 8, 9])
    for lane, (row, seed) in enumerate(((10, 7), (60, 8), (99, 9))):
        np.testing.assert_allclose(act(policy, look(policy, row), [seed])[0], together[lane], atol=2e-5)


def test_resetting_one_lane_leaves_the_stream_of_the_others(make, look):
    policy = make("lerobot_diffusion")
    obs = look(policy, 10, 60)
    policy.reset(np.ones(2, bool), np.array([1, 2]))
    first, second = policy.infer(obs).actions, policy.infer(obs).actions
    policy.reset(np.ones(2, bool), np.array([1, 2]))
    policy.infer(obs)
    policy.reset(np.array([True, False]), np.array([1, 0]))
    again = policy.infer(obs).actions
    np.testing.assert_array_equal(again[0], first[0])
    np.testing.assert_array_equal(again[1], second[1])


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_both_losses_and_its_checkpoint_acts_with_the_same_bits(lerobot, demos, look, tmp_path, name):
    easy = {"lerobot_diffusion": {"prediction_type": "sample"}}.get(name, {})  # noise is learnt more slowly
    cfg = replace(CFGS[name], **easy)
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
def test_an_interrupted_training_continues_to_the_same_bits(lerobot, demos, tmp_path, monkeypatch, name):
    from policies.loggers import LOGGERS, NoLogger

    class Interrupt(NoLogger):
        def log(self, step, scalars):
            if step == 4:
                raise KeyboardInterrupt

    cfg = replace(TRAIN, steps=8, log_every=2, save_every_s=0.0)
    whole = fit(cfg, name, CFGS[name], demos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setitem(LOGGERS._records, "none", Interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(cfg, name, CFGS[name], demos, tmp_path / "torn")
    torn = fit(cfg, name, CFGS[name], demos, tmp_path / "torn")
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
def test_a_dataset_without_object_states_is_refused(lerobot, demos, name):
    with pytest.raises(ConfigError, match="environment state"):
        POLICIES[name].build(CFGS[name], replace(demos.features, environment_state=()))


def test_configuring_loads_no_lerobot_and_a_missing_one_is_named():
    script = "import sys, policies.zoo; assert 'lerobot' not in sys.modules; sys.modules['lerobot'] = None\n"
    script += "from policies.lerobot import *; from robostack.errors import MissingExtra\n"
    script += "try: build_act(LerobotActCfg(), None)\nexcept MissingExtra as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == str(MissingExtra("lerobot", "train")), done.stderr


# Import.


@pytest.fixture
def saved(lerobot, make, demos, tmp_path) -> Callable[[str], Path]:
    """What lerobot's training leaves of a policy: its own writers' files."""

    def write(name: str) -> Path:
        policy, folder = make(name), tmp_path / name
        policy.policy.save_pretrained(folder)
        for processor in lerobot.processors[name](policy.policy.config, dataset_stats=exact_statistics(demos)):
            processor.save_pretrained(folder)
        return folder

    return write


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_policy_acts_with_the_bits_of_the_one_that_lerobot_saved(saved, make, look, demos, tmp_path, name):
    from policies.lerobot.importer import import_pretrained

    checkpoint = import_pretrained(saved(name), tmp_path / "out", demos.features, task_id="t", language="do it")
    policy, original = load_policy(checkpoint), make(name)
    assert policy.cfg == original.cfg
    assert (policy.task_id, policy.language) == ("t", "do it")
    obs = look(policy, 10, 60)
    np.testing.assert_array_equal(act(policy, obs, [1, 2]), act(original, obs, [1, 2]))


def test_statistics_among_the_weights_are_read_as_older_lerobots_wrote_them(saved, make, look, demos, tmp_path):
    from policies.lerobot.importer import import_pretrained

    source = saved("lerobot_diffusion")
    weights = load_file(source / "model.safetensors")
    for key, prefix in (("observation.state", "normalize_inputs"), ("action", "unnormalize_outputs")):
        for name, value in exact_statistics(demos)[key].items():
            weights[f"{prefix}.buffer_{key.replace('.', '_')}.{name}"] = torch.tensor(value, dtype=torch.float32)
    for old in source.glob("policy_*"):
        old.unlink()
    save_file(weights, source / "model.safetensors")
    policy = load_policy(import_pretrained(source, tmp_path / "out", demos.features))
    obs = look(policy, 10)
    np.testing.assert_array_equal(act(policy, obs, [1]), act(make("lerobot_diffusion"), obs, [1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f / "config.json", type="smolvla"), "type 'smolvla': only act, diffusion can be used"),
        (lambda f: (f / "config.json").unlink(), "has no config.json.*pretrained_model"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: edit(f / "config.json", down_dims=None), "config.json is damaged"),
        (lambda f: edit(f / "config.json", down_dims=[8, 32]), "model.safetensors does not fit its config.json"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no"), r"model.safetensors is damaged \(2 bytes\)"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: [p.unlink() for p in f.glob("policy_*")], "no min and max of 'observation.state', which normalises"),
        (lambda f: save_file({"action.min": torch.zeros(3), "action.max": torch.ones(3)}, next(f.glob("*unnorm*"))),
         "statistics of 'action'.*damaged"),
    ],
)  # fmt: skip
def test_a_directory_that_is_damaged_is_refused_in_one_line(saved, demos, tmp_path, damage, message):
    from policies.lerobot.importer import import_pretrained

    source = saved("lerobot_diffusion")
    damage(source)
    with pytest.raises(CheckpointError, match=message) as caught:
        import_pretrained(source, tmp_path / "out", demos.features)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_policy_of_other_features_or_of_images_is_refused(saved, demos, tmp_path):
    from policies.lerobot.importer import import_pretrained

    source = saved("lerobot_diffusion")
    other = replace(demos.features, action=demos.features.action[:7])
    with pytest.raises(CheckpointError, match=r"action: \[10\] there, \[7\] here"):
        import_pretrained(source, tmp_path / "out", other)
    inputs = json.loads((source / "config.json").read_text())["input_features"]
    edit(
        source / "config.json", input_features=inputs | {"observation.image": {"type": "VISUAL", "shape": [3, 96, 96]}}
    )
    with pytest.raises(CheckpointError, match=r"looks at images \(observation.image\)"):
        import_pretrained(source, tmp_path / "out", demos.features)
    shutil.rmtree(source)
    with pytest.raises(CheckpointError, match="has no config.json"):
        import_pretrained(source, tmp_path / "out", demos.features)
