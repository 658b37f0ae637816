import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from policies.base import Stage
from policies.carp import CarpCfg, CarpPolicy
from policies.carp.gpt import GptCfg
from policies.carp.tokenizer import TokenizerCfg
from policies.checkpoint import load_policy
from policies.loggers import LOGGERS, NoLogger
from policies.networks.unet1d import UnetCfg
from policies.train import CHECKPOINT, RESULT, STATE, TrainCfg, _Training, fit, lr_factor, stage_starts
from robostack.data.idle import WAITING
from robostack.errors import CheckpointError, ConfigError, DataError, MissingExtra, StorageError, UnknownName
from robostack.types import Observation

CFG = TrainCfg(
    steps=12, batch_size=8, warmup_steps=2, val_every=6, log_every=3, val_fraction=0.2, device="cpu", threads=1,
    progress=False, save_every_s=0.0, calibrate=False,
)  # fmt: skip


def weights(out_dir):
    return load((out_dir / CHECKPOINT / "model.safetensors").read_bytes())


def assert_equal_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=0, rtol=0)


def first_rows(arrays, count):
    columns = {name: getattr(arrays, name)[:count] for name in ("state", "environment_state", "action")}
    return replace(arrays, **columns, ends=np.array([count]))


@pytest.fixture
def at_step(monkeypatch):
    """Run something when training logs a step."""

    def install(step, action):
        class Hook(NoLogger):
            def log(self, now, scalars):
                if now == step:
                    action()

        monkeypatch.setitem(LOGGERS._records, "none", Hook)

    return install


def test_training_leaves_a_checkpoint_curves_and_nothing_else(demos, tiny, tmp_path):
    result = fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([CHECKPOINT, "losses.csv", RESULT])
    assert [p.step for p in result.losses] == [3, 6, 9, 12]
    assert [np.isnan(p.val) for p in result.losses] == [True, False, True, False]
    rows = (tmp_path / "losses.csv").read_text().split()
    assert rows[0] == "step,train,val"
    assert len(rows) == 5
    assert result.steps_per_s > 0
    policy = load_policy(result.checkpoint)
    assert (policy.task_id, policy.language) == (demos.task_id, demos.language)


def test_a_policy_reproduces_the_motion_it_was_trained_on(demos, tiny, tmp_path):
    demos = first_rows(demos, 40)  # The approach: about 10 cm in every chunk.
    cfg = replace(CFG, steps=250, batch_size=40, lr=4e-3, warmup_steps=20, log_every=250, val_fraction=0.0)
    cfg_policy = replace(tiny, Ta=7, encoder=(128, 128), network=UnetCfg((16, 32), kernel=3, step_dim=16))
    policy = load_policy(fit(cfg, "diffusion_unet", cfg_policy, demos, tmp_path).checkpoint, sampler="ddim10")
    rows = np.arange(1, len(demos.action) - 8, 7)
    policy.reset(np.ones(len(rows), bool), rows)
    window = rows[:, None] + np.array([-1, 0])
    chunk = policy.infer(Observation(0.0, demos.state[window], demos.environment_state[window])).actions
    wanted = demos.action[rows[:, None] + np.arange(7)]
    error = np.linalg.norm((chunk - wanted)[..., :3], axis=-1)
    moved = np.linalg.norm(wanted[..., :3] - demos.state[rows, None, :3], axis=-1)
    assert np.median(error) < np.median(moved) / 4


def test_a_policy_of_an_expert_that_waits_at_a_corner_leaves_it_at_once(demos, tiny, tmp_path):
    path = np.r_[np.linspace(0, 0.5, 6), [0.5] * 9, np.linspace(0.6, 1, 5), 1].astype(np.float32)[:, None]
    features = replace(demos.features, state=("j",), environment_state=(), action=("j",), control_mode="joint_pos")
    arrays = replace(
        demos, state=np.r_[path[:1], path[:-1]], environment_state=path[:, :0], action=path, ends=np.array([len(path)]),
        features=features,
    )  # fmt: skip
    rest, moved = np.full((32, 2, 1), 0.5, np.float32), {}
    for idle in (0.0, WAITING):
        cfg = replace(CFG, steps=200, batch_size=32, lr=4e-3, log_every=200, val_fraction=0.0, idle=idle)
        checkpoint = fit(cfg, "diffusion_unet", tiny, arrays, tmp_path / f"{idle}").checkpoint
        policy = load_policy(checkpoint, sampler="ddim10")
        policy.reset(np.ones(32, bool), np.arange(32))
        first = policy.infer(Observation(0.0, rest, rest[..., :0])).actions[:, 0, 0]
        moved[idle] = float((first > 0.55).mean())
    assert moved[0.0] < 0.5
    assert moved[WAITING] > 0.9


SCRIPT = """
import os, signal, sys
from policies.loggers import LOGGERS, NoLogger
from policies.train import fit
import pickle
class Killer(NoLogger):
    def log(self, step, scalars):
        if step == 9:
            os.kill(os.getpid(), signal.SIGKILL)
LOGGERS._records["none"] = Killer
fit(*pickle.load(open(sys.argv[1], "rb")), sys.argv[2])
"""


def test_a_killed_training_continues_to_the_same_bits(demos, tiny, tmp_path):
    import pickle

    (tmp_path / "args").write_bytes(pickle.dumps((CFG, "diffusion_unet", tiny, demos)))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "args"), str(killed)]
    child = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-500:]
    assert (killed / STATE).is_file()
    assert not (killed / CHECKPOINT).exists()
    resumed = fit(CFG, "diffusion_unet", tiny, demos, killed)
    expected = fit(CFG, "diffusion_unet", tiny, demos, whole)
    assert_equal_bits(weights(killed), weights(whole))
    assert [p.train for p in resumed.losses] == [p.train for p in expected.losses]


def test_ctrl_c_saves_the_state_and_continues_to_the_same_bits(demos, tiny, tmp_path, at_step):
    at_step(6, lambda: os.kill(os.getpid(), signal.SIGINT))
    slow = replace(CFG, save_every_s=1e9)
    with pytest.raises(KeyboardInterrupt):
        fit(slow, "diffusion_unet", tiny, demos, tmp_path / "a")
    at_step(-1, lambda: None)
    assert (tmp_path / "a" / STATE).is_file()
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path / "a")
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path / "b")
    assert_equal_bits(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_full_disk_is_reported_and_loses_nothing(demos, tiny, tmp_path, at_step, full_disk):
    at_step(6, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(CFG, "diffusion_unet", tiny, demos, tmp_path / "a")
    at_step(-1, lambda: None)
    before = (tmp_path / "a" / STATE).read_bytes()
    with full_disk(10_000), pytest.raises(StorageError, match=r"cannot write .*what was finished is kept"):
        fit(CFG, "diffusion_unet", tiny, demos, tmp_path / "a")
    assert (tmp_path / "a" / STATE).read_bytes() == before
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path / "a")
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path / "b")
    assert_equal_bits(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_finished_training_is_returned_at_once(demos, tiny, tmp_path, at_step):
    first = fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
    at_step(3, lambda: pytest.fail("trained again"))
    again = fit(replace(CFG, progress=False, threads=0), "diffusion_unet", tiny, demos, tmp_path)
    assert again.checkpoint == first.checkpoint
    assert [p.train for p in again.losses] == [p.train for p in first.losses]


@pytest.mark.parametrize("name", [f"{CHECKPOINT}/model.safetensors", RESULT])
def test_a_finished_training_with_a_damaged_file_is_repeated(demos, tiny, tmp_path, name):
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
    expected = weights(tmp_path)
    (tmp_path / name).write_bytes(b"")
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
    assert_equal_bits(weights(tmp_path), expected)


@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_in_the_same_directory_is_refused_by_name(demos, tiny, tmp_path, at_step, finished):
    if not finished:
        at_step(6, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
        at_step(-1, lambda: None)
    else:
        fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
    with pytest.raises(ConfigError, match=r"train.lr: 0.001 there, 0.5 here"):
        fit(replace(CFG, lr=0.5), "diffusion_unet", tiny, demos, tmp_path)
    with pytest.raises(ConfigError, match=r"cfg.frame: gripper there, world here"):
        fit(CFG, "diffusion_unet", replace(tiny, frame="world"), demos, tmp_path)
    other = replace(demos, action=demos.action + np.float32(0.001))
    with pytest.raises(ConfigError, match="dataset: "):
        fit(CFG, "diffusion_unet", tiny, other, tmp_path)


def test_a_damaged_training_state_is_reported(demos, tiny, tmp_path):
    (tmp_path / STATE).write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError, match="delete it to start over"):
        fit(CFG, "diffusion_unet", tiny, demos, tmp_path)


def test_divergence_is_reported_and_the_last_good_state_stays(demos, tiny, tmp_path, at_step, monkeypatch):
    from policies.diffusion import DiffusionPolicy

    loss, calls = DiffusionPolicy.loss, []

    def broken(self, batch, generator):
        calls.append(1)
        return loss(self, batch, generator) * (float("nan") if len(calls) > 7 else 1.0)

    monkeypatch.setattr(DiffusionPolicy, "loss", broken)
    with pytest.raises(ConfigError, match=r"diverged before step 9.*lower train.lr"):
        fit(replace(CFG, val_fraction=0.0), "diffusion_unet", tiny, demos, tmp_path)
    state = load((tmp_path / STATE).read_bytes())
    assert all(bool(t.isfinite().all()) for t in state.values())
    assert not (tmp_path / CHECKPOINT).exists()


def test_bad_data_is_refused_before_anything_is_written(demos, tiny, tmp_path):
    bad = replace(demos, action=demos.action.copy())
    bad.action[3, 9] = np.nan
    with pytest.raises(DataError, match="'gripper' is nan in episode 0"):
        fit(CFG, "diffusion_unet", tiny, bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_episode_is_enough_to_train(make_demos, tiny, tmp_path):
    result = fit(CFG, "diffusion_unet", tiny, make_demos(1), tmp_path)
    assert all(np.isnan(p.val) for p in result.losses)


def test_bf16_training_runs_on_the_cpu_and_saves_full_precision(demos, tiny, tmp_path):
    result = fit(replace(CFG, amp="bf16"), "diffusion_unet", tiny, demos, tmp_path)
    assert np.isfinite(result.losses[-1].train)
    assert {t.dtype for t in weights(tmp_path).values()} == {torch.float32}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_curves_reach_tensorboard(demos, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    fit(replace(CFG, logger="tensorboard"), "diffusion_unet", tiny, demos, tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_logger_that_is_not_installed_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match="'wandb' is not installed"):
        LOGGERS["wandb"](tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"steps": 0}, "train.steps"), ({"lr": -1.0}, "train.lr"), ({"val_fraction": 1.0}, "val_fraction"),
     ({"idle": -0.1}, r"train.idle=-0.1 must be in \[0, 1\)"),
     ({"amp": "fp16"}, "auto, bf16, off")],
)  # fmt: skip
def test_values_that_cannot_train_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainCfg(**values)


def test_unknown_names_are_refused(demos, tiny, tmp_path):
    with pytest.raises(UnknownName, match="logger"):
        TrainCfg(logger="mlflow")
    with pytest.raises(UnknownName, match="did you mean 'diffusion_unet'"):
        fit(CFG, "difusion_unet", tiny, demos, tmp_path)
    with pytest.raises(ConfigError, match="takes a DiffusionCfg"):
        fit(CFG, "diffusion_unet", CFG, demos, tmp_path)


def test_the_learning_rate_warms_up_and_ends_near_zero():
    factors = [lr_factor(s, 100, 10) for s in range(100)]
    assert max(factors) == factors[9] == factors[10] == 1.0
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_stages_divide_the_steps_and_each_gets_some():
    stages = (Stage(0.3, ("a",)), Stage(0.7, ("b",)))
    assert stage_starts(stages, 10) == [0, 3, 10]
    assert stage_starts((Stage(1.0),), 7) == [0, 7]
    with pytest.raises(ConfigError, match="train.steps=1 is too few for the 2 stages"):
        stage_starts(stages, 1)


def test_in_a_stage_only_its_modules_learn_and_the_next_builds_on_their_averages(demos):
    torch.manual_seed(0)
    cfg = CarpCfg(Tp=8, Ta=4, encoder=(8,), tokenizer=TokenizerCfg(patches=(1, 2), codes=8), network=GptCfg(1, 8, 1))
    training = _Training(replace(CFG, steps=10), CarpPolicy(cfg, demos.features), demos, torch.device("cpu"))
    live, mean = training.policy, training.ema.model

    def snapshot(model):
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def moved(before, after):
        return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}

    start = snapshot(live)
    for step in range(4):
        training._step(step)
    learnt, averaged = snapshot(live), snapshot(mean)
    assert moved(start, learnt) == {"tokenizer"}
    assert moved(learnt, averaged) == {"tokenizer"}
    for step in range(4, 10):
        training._step(step)
    assert moved(averaged, snapshot(live)) == moved(averaged, snapshot(mean)) == {"gpt", "encoder"}


def test_the_learning_rate_runs_through_its_course_in_every_stage(demos):
    cfg = CarpCfg(Tp=8, Ta=4, tokenizer=TokenizerCfg(patches=(1, 2), codes=8), network=GptCfg(1, 8, 1))
    training = _Training(replace(CFG, steps=10), CarpPolicy(cfg, demos.features), demos, torch.device("cpu"))
    rates = []
    for step in range(10):
        training._step(step)
        rates.append(training.optimizer.param_groups[0]["lr"] / CFG.lr)
    assert rates == [lr_factor(s, 4, 2) for s in range(4)] + [lr_factor(s, 6, 2) for s in range(6)]


def test_the_result_file_is_plain_json(demos, tiny, tmp_path):
    fit(CFG, "diffusion_unet", tiny, demos, tmp_path)
    assert json.loads((tmp_path / RESULT).read_text())["identity"]["policy"] == "diffusion_unet"
