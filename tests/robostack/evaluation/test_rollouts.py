"""Evaluation: seeded, resumable, the same for any number of workers, and honest about failures."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from policies.checkpoint import save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.unet1d import UnetCfg
from robostack.errors import CheckpointError, ConfigError, DataError, UnknownName
from robostack.evaluation.environment import task_features
from robostack.evaluation.rollouts import Rollout, choose_seeds, evaluate, run_episode
from robostack.evaluation.run_report import choose_rollouts
from robostack.runtime.execution import Executor
from robostack.runtime.protocols import Horizon
from robostack.sim.env import TaskEnv
from robostack.sim.scene import eval_seed, train_seed
from robostack.task.benchmark import PushTTask
from robostack.types import ActionChunk
from simgen.propose import propose

TARGET = "policies.checkpoint.load_policy"
CFG = DiffusionCfg(network=UnetCfg(down_dims=(8, 16), kernel=3, step_dim=16), encoder=(), sampler="ddim10")


@pytest.fixture(scope="module")
def spec():
    return propose("put the red cube in the bowl", "panda").model_copy(update={"horizon_s": 1.0})


@pytest.fixture(scope="module")
def checkpoint(spec, tmp_path_factory):
    env = TaskEnv(spec)
    torch.manual_seed(0)  # some random weights command what ends an episode early
    policy = DiffusionPolicy(CFG, env.features)
    return save_checkpoint(
        tmp_path_factory.mktemp("policy") / "checkpoint", policy, "diffusion_unet", step=0, metrics={}
    )


def run(spec, checkpoint, out, **changes):
    settings = {"n": 3, "seed": 0, "workers": 1, "sampler": "ddim10", "execution": "sync", "latency": "none"} | changes
    return evaluate(spec, checkpoint, load_policy_target=TARGET, out_dir=out, progress=False, **settings)


def comparable(report):
    return [(r.seed, r.success, r.failure, r.steps, r.qpos.tobytes()) for r in report.rollouts]


def test_results_do_not_depend_on_the_number_of_workers(spec, checkpoint, tmp_path):
    setting = {"execution": "rtc", "latency": "fixed:100"}  # what keeps the most between decisions
    one = run(spec, checkpoint, tmp_path / "one", **setting)
    two = run(spec, checkpoint, tmp_path / "two", workers=2, **setting)
    assert comparable(one) == comparable(two)
    assert one.n == 3
    assert one.latency_p50_ms > 0


def test_a_repeated_evaluation_keeps_its_episodes_and_a_longer_one_adds_to_them(spec, checkpoint, tmp_path):
    first = run(spec, checkpoint, tmp_path, n=1)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "episodes").iterdir()}
    longer = run(spec, checkpoint, tmp_path, n=2)
    assert comparable(longer)[:1] == comparable(first)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())


def test_another_sampler_is_not_mixed_into_the_same_folder(spec, checkpoint, tmp_path):
    run(spec, checkpoint, tmp_path, n=1)
    with pytest.raises(DataError, match="another sampler"):
        run(spec, checkpoint, tmp_path, n=1, sampler="ddpm100")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"execution": "rti"}, "another execution:"),
        ({"latency": "fixed:100", "execution": "rtc"}, "execution, latency"),
    ],
)
def test_another_execution_or_latency_is_not_mixed_into_the_same_folder(spec, checkpoint, tmp_path, changes, what):
    run(spec, checkpoint, tmp_path, n=1)
    with pytest.raises(DataError, match=what):
        run(spec, checkpoint, tmp_path, n=1, **changes)


def test_the_same_latency_in_another_spelling_is_the_same_evaluation(spec, checkpoint, tmp_path):
    first = run(spec, checkpoint, tmp_path, n=1, latency="fixed:100")
    assert comparable(run(spec, checkpoint, tmp_path, n=1, latency="fixed:100.0")) == comparable(first)


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"execution": "asynch"}, UnknownName, "did you mean 'async'"),
        ({"latency": "150ms"}, ConfigError, "fixed:<milliseconds>"),
    ],
)
def test_an_unknown_execution_or_latency_leaves_no_folder(spec, checkpoint, tmp_path, changes, error, reason):
    with pytest.raises(error, match=reason):
        run(spec, checkpoint, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_the_effort_of_every_execution_is_counted(spec, checkpoint, tmp_path):
    steps, Ta, K = 20, CFG.Ta, 10
    sync = run(spec, checkpoint, tmp_path / "sync", n=1)
    assert (sync.decisions, sync.held_steps) == (math.ceil(steps / Ta), 0)
    assert sync.nfe_per_decision == K
    assert sync.nfe_per_action == pytest.approx(K * math.ceil(steps / Ta) / steps)
    rti = run(spec, checkpoint, tmp_path / "rti", n=1, execution="rti", sampler="ddim2")
    assert (rti.decisions, rti.nfe_per_decision, rti.nfe_per_action) == (steps, 2, 2)


def test_a_latency_is_paid_in_steps_in_which_the_robot_waits(spec, checkpoint, tmp_path):
    d, Ta, steps = 4, CFG.Ta, 20
    waits = run(spec, checkpoint, tmp_path / "sync", n=1, latency="fixed:200")
    assert waits.held_steps == 2 * d  # of 4 + 8 + 4 + 4 steps
    assert waits.decisions == math.ceil(steps / (d + Ta))
    for execution in ("async", "rtc", "ensemble"):
        goes_on = run(spec, checkpoint, tmp_path / execution, n=1, latency="fixed:200", execution=execution)
        assert goes_on.held_steps == d
        assert goes_on.nfe_per_action == pytest.approx(10 * goes_on.decisions / (steps - d))


def test_a_damaged_episode_is_named(spec, checkpoint, tmp_path):
    run(spec, checkpoint, tmp_path, n=1)
    (file,) = (tmp_path / "episodes").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match="is damaged"):
        run(spec, checkpoint, tmp_path, n=1)


def test_a_policy_of_another_robot_is_refused(checkpoint, tmp_path):
    other = propose("put the red cube in the bowl", "ur5e")
    with pytest.raises(CheckpointError, match="robot: panda != ur5e"):
        run(other, checkpoint, tmp_path)


@pytest.mark.parametrize("changes", [{"n": 0}, {"workers": 0}])
def test_zero_episodes_or_workers_are_refused(spec, checkpoint, tmp_path, changes):
    with pytest.raises(ConfigError, match="n >= 1 and workers >= 1"):
        run(spec, checkpoint, tmp_path, **changes)


def test_evaluation_scenes_are_never_training_scenes():
    assert not {train_seed(i) for i in range(1000)} & set(choose_seeds(0, 1000))
    assert choose_seeds(0, 2) == [eval_seed(0), eval_seed(1)]
    assert not set(choose_seeds(0, 1000)) & set(choose_seeds(1, 1000))


class Scripted:
    """Sends one constant action."""

    def __init__(self, env, action):
        self.features, self.horizon, self._action = env.features, Horizon(To=1, Tp=4, Ta=4), action

    def reset(self, mask, seeds):
        pass

    def infer(self, obs, plan=None):
        return ActionChunk(obs.t_s, 0.05, np.tile(np.asarray(self._action, np.float32), (1, 4, 1)))


def test_nan_from_a_policy_is_a_failed_episode_and_moves_nothing(spec):
    env = TaskEnv(spec)
    rollout = run_episode(env, Executor(Scripted(env, np.full(10, np.nan))), eval_seed(0))
    assert (rollout.success, rollout.failure, rollout.steps) == (False, "INVALID_ACTION", 0)


def test_a_checkpoint_that_answers_with_nan_fails_its_episodes_and_not_the_evaluation(spec, tmp_path):
    policy = DiffusionPolicy(CFG, TaskEnv(spec).features)
    policy.action_norm.offset.fill_(float("nan"))
    checkpoint = save_checkpoint(tmp_path / "nan", policy, "diffusion_unet", step=0, metrics={})
    assert run(spec, checkpoint, tmp_path / "out", n=1).failures == {"INVALID_ACTION": 1}


def test_a_policy_that_holds_still_fails_with_the_reason(spec):
    env = TaskEnv(spec)
    env.reset_scene(eval_seed(0))
    rollout = run_episode(env, Executor(Scripted(env, env.observe().state)), eval_seed(0))
    assert (rollout.failure, rollout.steps) == ("NOT_REACHED", 20)


def test_one_failure_and_the_first_successes_are_shown():
    def rollout(seed, success):
        code, qpos = "" if success else "DROPPED", np.zeros((3, 2), np.float32)
        return Rollout(seed, success, 1.0, code, 3, 0, 10, np.zeros(1), qpos)

    good, bad = [rollout(i, True) for i in range(4)], [rollout(9, False), rollout(10, False)]
    assert [r.seed for r in choose_rollouts((*good, *bad))] == [0, 1, 9]
    assert [r.seed for r in choose_rollouts(tuple(good))] == [0, 1, 2]
    assert [r.seed for r in choose_rollouts(tuple(bad))] == [9, 10]
    assert [r.seed for r in choose_rollouts((dataclasses.replace(good[0], qpos=np.zeros((0, 2))),))] == []


def test_pusht_is_evaluated_like_any_task_and_its_coverage_is_recorded(tmp_path):
    pytest.importorskip("gym_pusht")
    task = PushTTask(horizon_s=3.0)
    policy = DiffusionPolicy(CFG, task_features(task))
    checkpoint = save_checkpoint(tmp_path / "checkpoint", policy, "diffusion_unet", step=0, metrics={})
    setting = {"n": 2, "execution": "rti", "sampler": "ddim2", "latency": "fixed:100"}
    one, two = (run(task, checkpoint, tmp_path / name, **setting) for name in ("one", "two"))
    assert comparable(one) == comparable(two)
    assert one.failures == {"TIMEOUT": 2}
    assert all(r.steps == 30 and r.qpos.shape == (30, 7) for r in one.rollouts)
    assert 0 <= one.mean_score == np.mean([r.score for r in one.rollouts]) < 0.95
    again = run(task, checkpoint, tmp_path / "one", **setting)
    assert [r.score for r in again.rollouts] == [r.score for r in one.rollouts]


def test_a_policy_of_another_task_is_refused_for_pusht(checkpoint, tmp_path):
    pytest.importorskip("gym_pusht")
    with pytest.raises(CheckpointError, match="trained for another setting"):
        run(PushTTask(), checkpoint, tmp_path)


def test_tasks_have_no_score(spec, checkpoint, tmp_path):
    report = run(spec, checkpoint, tmp_path, n=1)
    assert report.rollouts[0].score is None
    assert math.isnan(report.mean_score)
