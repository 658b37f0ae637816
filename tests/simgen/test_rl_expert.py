"""A learned actor is numbers in a file: it runs without torch, to the bit, and its training can be interrupted."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robostack.errors import CheckpointError, ConfigError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import train_seed
from robostack.task.evaluate import margin
from simgen.experts.method import Context
from simgen.experts.result import Code, EpisodeOver
from simgen.experts.rl import Actor, LearnedMethod, success_rate
from simgen.experts.rl_env import Eye, Moves, Scout, SubgoalEnv
from simgen.experts.skills import Skills

sys.path.insert(0, str(Path(__file__).parent))
from search_tasks import topple

QUICK = topple(horizon_s=3.0)


def actor(width, *, moves=None, seed=0):
    rng, moves = np.random.default_rng(seed), moves or Moves()
    sizes = [width, 16, 16, int(np.count_nonzero(moves.step))]
    draws = [rng.standard_normal((b, a)).astype(np.float32) for a, b in zip(sizes, sizes[1:], strict=False)]
    biases = tuple(rng.standard_normal(b).astype(np.float32) for b in sizes[1:])
    mean, scale = rng.standard_normal(width).astype(np.float32), np.ones(width, np.float32)
    return Actor(tuple(draws), biases, mean, scale, moves)


@pytest.fixture(scope="module")
def env():
    return TaskEnv(QUICK)


@pytest.fixture
def width(env):
    env.reset_scene(train_seed(0))
    return Eye(env, QUICK.subgoals[0].goal).width


def test_an_actor_comes_back_from_its_file_unchanged(tmp_path, width):
    made, x = actor(width), np.random.default_rng(1).standard_normal(width).astype(np.float32)
    made.save(tmp_path / "rl_0.npz")
    read = Actor.load(tmp_path / "rl_0.npz")
    assert read.moves == made.moves
    assert np.array_equal(read.decide(x), made.decide(x))
    assert made.decide(x).dtype == np.float32
    assert np.abs(made.decide(x)).max() <= 1.0


def test_an_actor_decides_the_same_bits_in_every_process_and_without_torch(tmp_path, width):
    made = actor(width)
    made.save(tmp_path / "rl_0.npz")
    code = (
        "import sys, pathlib, numpy as np\n"
        "from simgen.experts.rl import Actor\n"
        f"a = Actor.load(pathlib.Path({str(tmp_path / 'rl_0.npz')!r}))\n"
        "x = np.linspace(-1, 1, len(a.mean)).astype(np.float32)\n"
        "assert 'torch' not in sys.modules and 'stable_baselines3' not in sys.modules\n"
        "sys.stdout.write(a.decide(x).tobytes().hex())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    x = np.linspace(-1, 1, width).astype(np.float32)
    assert run.stdout == made.decide(x).tobytes().hex()


def _cut(path):
    path.write_bytes(path.read_bytes()[:100])


def _poison(path):
    with np.load(path) as file:
        values = dict(file)
    values["w0"] = np.full_like(values["w0"], np.nan)
    np.savez(path, **values)


def _misfit(path):
    with np.load(path) as file:
        values = dict(file)
    values["w1"] = values["w1"][:, :3]
    np.savez(path, **values)


@pytest.mark.parametrize("damage", [_cut, _poison, _misfit, Path.unlink, lambda p: p.write_text("hello")])
def test_a_damaged_actor_is_refused(tmp_path, width, damage):
    path = tmp_path / "rl_0.npz"
    actor(width).save(path)
    damage(path)
    with pytest.raises(CheckpointError, match="rl_0.npz holds no learned actor.*train it again"):
        Actor.load(path)


@pytest.mark.parametrize(
    "values", [{"repeat": 0}, {"step": (0.0,) * 5}, {"step": (-0.1, 0.1, 0.1, 0.0, 0.0)}, {"height": 2.0}]
)
def test_moves_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError, match="rl: repeat="):
        Moves(**values)


def _shout(path):
    with np.load(path) as file:
        values = dict(file)
    values["noise"] = np.array(7.0)
    np.savez(path, **values)


def test_noise_is_part_of_the_actor_and_bounded(tmp_path, width):
    path = tmp_path / "rl_0.npz"
    replace(actor(width), noise=0.3).save(path)
    assert Actor.load(path).noise == 0.3
    _shout(path)
    with pytest.raises(CheckpointError, match="noise 7.0 is not within 0 to 1"):
        Actor.load(path)


def test_the_method_knows_only_what_it_learned(tmp_path, env):
    env.reset_scene(train_seed(0))
    skills, before = Skills(env), env.scene.get_state()
    for folder in (None, tmp_path):
        ctx = Context(env, skills, env.apply, 0, train_seed(0), folder)
        assert LearnedMethod().attempt(ctx, QUICK.subgoals[0]).code is Code.PRECOND_FALSE
    actor(7).save(tmp_path / "rl_0.npz")
    result = LearnedMethod().attempt(Context(env, skills, env.apply, 0, 0, tmp_path), QUICK.subgoals[0])
    assert result.code is Code.PRECOND_FALSE
    assert "expects 7 observations" in result.info
    assert np.array_equal(env.scene.get_state(), before)


def test_the_same_actor_makes_the_same_episode_and_its_noise_another_one_per_scene(tmp_path, env, width):
    replace(actor(width), noise=0.3).save(tmp_path / "rl_0.npz")
    ends = []
    for scene_seed in (0, 0, 1):
        env.reset_scene(train_seed(1))

        def send(action):
            if env.over:
                raise EpisodeOver
            assert action.dtype == np.float32
            env.apply(action)

        with pytest.raises(EpisodeOver):  # random weights topple nothing in 3 s
            LearnedMethod().attempt(Context(env, Skills(env), send, 0, scene_seed, tmp_path), QUICK.subgoals[0])
        ends.append(env.scene.get_state())
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


# The learning problem.


def test_the_return_is_the_change_of_potential():
    problem = SubgoalEnv(QUICK, 0, Moves())
    problem.reset()
    first = problem.eye.progress.potential()
    rng, total, last = np.random.default_rng(0), 0.0, False
    while not last:
        _, reward, over, late, info = problem.step(rng.uniform(-1, 1, 3))
        total, last = total + reward, over or late
    assert not info["success"]
    assert total == pytest.approx(problem.eye.progress.potential() - first, abs=1e-6)


def test_progress_is_full_exactly_when_the_goal_holds():
    problem = SubgoalEnv(QUICK, 0, Moves())
    problem.reset()
    assert problem.eye.progress.shares() == [0.0]
    scene = problem.env.scene
    scene.data.joint("can_free").qpos[2:] = [0.03, np.cos(np.pi / 4), np.sin(np.pi / 4), 0.0, 0.0]
    scene.set_state(scene.get_state())
    assert margin(problem.goal, scene.world) >= 0
    assert problem.eye.progress.shares() == [1.0]
    assert problem.eye.progress.focus([1.0])[0].tolist() == [0.0, 0.0, 0.0]


def test_observations_are_finite_and_the_tool_stays_within_reach():
    problem = SubgoalEnv(QUICK, 0, Moves(step=(0.04, 0.04, 0.04, 0.3, 0.5)))
    obs, _ = problem.reset()
    for _ in range(12):
        assert np.isfinite(obs).all()
        assert problem.observation_space.contains(obs)
        obs, *_ = problem.step(np.array([1.0, 1.0, -1.0, 1.0, -1.0]))
    pos = problem.limb.where()[:3]
    x0, y0, x1, y1 = problem.env.scene.card.workspace
    assert (pos[:2] <= [x1 + 0.1, y1 + 0.1]).all()
    assert pos[2] >= problem.skills.planner.tip_below


def test_the_tool_goes_to_its_height_before_the_first_decision():
    low, high = (SubgoalEnv(QUICK, 0, Moves(height=h)) for h in (0.1, 0.0))
    low.reset()
    high.reset()
    assert low.limb.where()[2] == pytest.approx(0.1)
    assert low.env.t_s > 0.0 == high.env.t_s
    assert low.limb.where()[:2].tolist() == high.limb.where()[:2].tolist()
    under = SubgoalEnv(QUICK, 0, Moves(height=1e-3))  # lower than the fingers allow: as low as they do
    under.reset()
    assert under.limb.where()[2] >= under.skills.planner.tip_below


def test_the_scout_shows_now_and_then_how_it_is_done():
    problem, solved = SubgoalEnv(topple(), 0, Moves(step=(0.06, 0.06, 0.0, 0.0, 0.0), height=0.1)), 0
    scout = Scout(problem, np.random.default_rng(0))
    for _ in range(6):
        problem.reset()
        scout.begin()
        over = late = False
        while not (over or late):
            decision = scout.decide()
            assert problem.action_space.contains(decision)
            _, _, over, late, info = problem.step(decision)
        solved += info["success"]
    assert solved >= 2


# Training.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from simgen.experts.rl_train import RlBudget, train_rl

    budget = RlBudget(rounds=2, steps=40, explore=20, batch=16, hidden=16, test=2)
    out = tmp_path_factory.mktemp("rl")
    return budget, out, train_rl(QUICK, 0, seed=3, budget=budget, out=out)


def test_training_leaves_a_report_and_an_actor(trained, env):
    budget, out, report = trained
    assert report.actor == out / "rl_0.npz"
    assert report.n == 2
    assert [steps for steps, _ in report.curve] == [60, 100]
    assert success_rate(env, Actor.load(report.actor), 0, []) == 0
    best, kept = Actor.load(out / "rl_0_training" / "best.npz"), Actor.load(report.actor)
    assert all(np.array_equal(x, y) for x, y in zip(best.weights, kept.weights, strict=True))
    assert kept.noise == 0.0  # nothing is solved with any: the least of equals


def test_an_interrupted_training_ends_with_the_same_bits(trained, tmp_path):
    from simgen.experts import rl_train

    budget, _, report = trained
    rl_train._Run(QUICK, 0, 3, budget, tmp_path).round()  # and then the power fails
    again = rl_train.train_rl(QUICK, 0, seed=3, budget=budget, out=tmp_path)
    a, b = Actor.load(report.actor), Actor.load(again.actor)
    assert again.curve == report.curve
    assert all(np.array_equal(x, y) for x, y in zip(a.weights, b.weights, strict=True))


def test_the_numpy_actor_is_the_network(trained, tmp_path):
    import torch

    from simgen.experts import rl_train

    budget, out, _ = trained
    run = rl_train._Run(QUICK, 0, 3, budget, out)
    assert run.finished
    x = np.random.default_rng(0).standard_normal(run.env.eye.width).astype(np.float32)
    scaled = torch.as_tensor((x - run.mean) * run.scale)[None]
    expected = run.model.policy.actor(scaled, deterministic=True).detach().numpy()[0]
    assert run.actor().decide(x) == pytest.approx(expected, abs=1e-5)


def test_another_training_does_not_continue_this_one(trained):
    from simgen.experts.rl_train import train_rl

    budget, out, _ = trained
    with pytest.raises(CheckpointError, match="another task, seed or budget"):
        train_rl(QUICK, 0, seed=4, budget=budget, out=out)
    with pytest.raises(ConfigError, match="subgoals 0 to 0, not 5"):
        train_rl(QUICK, 5, seed=3, budget=budget, out=out)


def test_a_damaged_training_is_refused(trained, tmp_path):
    import shutil

    from simgen.experts.rl_train import train_rl

    budget, out, _ = trained
    shutil.copytree(out / "rl_0_training", tmp_path / "rl_0_training")
    _cut(tmp_path / "rl_0_training" / "params_2.pt")
    with pytest.raises(CheckpointError, match="is damaged"):
        train_rl(QUICK, 0, seed=3, budget=replace(budget), out=tmp_path)
