"""What the search simulates is what happens; it is a function of the seed; it solves what no skill knows."""

import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robostack.errors import ConfigError
from robostack.sim.env import TaskEnv
from robostack.sim.replay import replays_exactly
from robostack.sim.scene import Scene, train_seed
from robostack.task.evaluate import margin
from robostack.task.predicate import all_of, atom
from robostack.task.spec import Subgoal
from simgen.experts.expert import Expert
from simgen.experts.method import Context
from simgen.experts.result import Code
from simgen.experts.skills import Skills
from simgen.experts.trajopt import Budget, Search, TrajOpt
from simgen.experts.trajopt_cost import Objective, dense, destination, movables
from simgen.experts.trajopt_moves import Gaussian, Moves, Timing, philox
from simgen.experts.trajopt_rollout import Actions, Rollouts, ToolPath, fork

sys.path.insert(0, str(Path(__file__).parent))
from search_tasks import topple

SMALL = Budget(population=16, elites=4, iterations=2, plans=8)


def start(spec, seed=0):
    env = TaskEnv(spec)
    env.reset_scene(train_seed(seed))
    skills = Skills(env)
    return env, skills, Context(env, skills, env.apply, 0, train_seed(seed))


def random_path(skills, rng, steps=12):
    step = rng.uniform(-0.01, 0.01, (steps, 3))
    step[:, 2] = -np.abs(step[:, 2])
    return ToolPath(skills.pose.pos + np.cumsum(step, axis=0), np.linspace(0, 0.3, steps), np.linspace(1, 0, steps))


@pytest.fixture(scope="module", params=["ee_pose", "joint_pos"])
def batch(request):
    env, skills, _ = start(topple(request.param))
    rng = np.random.default_rng(0)
    actions = Actions(env, skills.planner)
    candidates = [actions.of(random_path(skills, rng), env.controller.q) for _ in range(5)]
    states = []
    for threads in (1, 2):
        rollouts = Rollouts(env, threads=threads)
        states.append(rollouts.simulate(candidates))
        rollouts.close()
    return env, candidates, states


def test_the_number_of_threads_changes_no_bit(batch):
    _, _, (one, two) = batch
    assert np.array_equal(one, two)
    assert not np.array_equal(one[0], one[1])


def test_what_was_simulated_is_what_happens(batch):
    env, candidates, (states, _) = batch
    before = env.scene.get_state()
    twin = fork(env)
    now = np.empty(states.shape[-1])
    for k, action in enumerate(candidates[3]):
        twin.apply(action)
        mujoco.mj_getState(env.scene.model, twin.scene.data, now, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        assert np.array_equal(now, states[3, k])
    assert np.array_equal(env.scene.get_state(), before)  # the original has not moved
    assert env.t_s == 0.0
    assert np.array_equal(env.controller.q, env.scene.ik.home)


def test_zones_stay_where_the_seed_put_them():
    from robostack.paths import data_dirs

    env = TaskEnv(data_dirs()[-1] / "presets/push_to_region/panda.json")
    env.reset_scene(train_seed(3))
    skills, rollouts = Skills(env), Rollouts(env, threads=1)
    path = random_path(skills, np.random.default_rng(1), steps=4)
    states = rollouts.simulate([Actions(env, skills.planner).of(path, env.controller.q)])
    world = rollouts.world_at(states[0, -1])
    assert np.array_equal(world.pos("left_region"), env.scene.world.pos("left_region"))
    assert margin(env.task.goal, world) == pytest.approx(margin(env.task.goal, env.scene.world), abs=1e-3)
    rollouts.close()


def test_the_way_out_is_the_way_in_reversed():
    rng = np.random.default_rng(0)
    path = ToolPath(rng.random((9, 3)), rng.random(9), rng.random(9))
    there_and_back = path.then_back(4)
    assert len(there_and_back) == 13
    assert np.array_equal(there_and_back.pos[9:], path.pos[[7, 6, 5, 4]])
    assert len(path.then_back(20)) == 29


def test_candidates_keep_to_workspace_and_speed():
    env, skills, _ = start(topple())
    timing = Timing(knots=8, steps=4, dt_s=env.dt_s)
    moves = Moves(env, skills.planner, env.task.goal, timing)
    begin = np.array([*skills.pose.pos, 0.0, 1.0])
    rng = np.random.default_rng(0)
    for k in range(40):
        wild = moves.stroke(begin, rng) if k % 2 else begin + rng.standard_normal((8, 5))
        knots = np.concatenate([begin[None], moves.feasible(begin, wild)])
        assert np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1).max() <= timing.stride + 1e-9
        assert knots[1:, 4].min() >= 0
        assert knots[1:, 4].max() <= 1
        assert moves.path(begin, knots[1:]).pos[-1] == pytest.approx(knots[-1, :3])


@pytest.mark.parametrize("rule", ["cem", "mppi"])
def test_both_updates_walk_downhill(rule):
    target = np.full((4, 5), 0.3)
    belief = Gaussian(np.zeros((4, 5)), np.full((4, 5), 0.2))
    errors = []
    for k in range(25):
        sample = belief.sample(64, philox("hill", k))
        costs = ((sample - target) ** 2).sum(axis=(1, 2))
        belief = belief.updated(sample, costs, elites=8, rule=rule)
        errors.append(float(((belief.mean - target) ** 2).sum()))
    assert errors[-1] < 0.02 * errors[0]


def test_mppi_with_equal_costs_is_cem():
    belief = Gaussian(np.zeros((3, 5)), np.ones((3, 5)))
    sample = belief.sample(16, philox("equal"))
    a, b = (belief.updated(sample, np.ones(16), elites=16, rule=rule) for rule in ("cem", "mppi"))
    assert a.mean == pytest.approx(b.mean)
    assert a.sigma == pytest.approx(b.sigma)


def test_a_shifted_plan_goes_on_where_it_was():
    belief = Gaussian(np.arange(30.0).reshape(6, 5), np.ones((6, 5)))
    later = belief.shifted(2, np.full(5, 0.5))
    assert np.array_equal(later.mean[:4], belief.mean[2:])
    assert np.array_equal(later.mean[4], belief.mean[-1])
    assert (later.sigma == 0.5).all()


def test_the_random_numbers_depend_on_the_key_alone():
    assert np.array_equal(philox("a", 1).random(4), philox("a", 1).random(4))
    assert not np.array_equal(philox("a", 1).random(4), philox("a", 2).random(4))
    # recorded once: every process must draw these
    assert philox("task", 7).integers(1000, size=3).tolist() == [34, 443, 847]


def test_the_dense_cost_feels_every_part_of_a_conjunction():
    env, _, _ = start(topple())
    world = env.scene.world
    near, far = atom("near", "can", "table", 0.1), atom("far", "can", "table", 0.5)
    worse = all_of(far, atom("far", "can", "table", 0.9))
    assert dense(all_of(near, far), world) > dense(worse, world)
    assert dense(near, world) == pytest.approx(margin(near, world))


def test_what_a_goal_moves_and_where_to_is_read_from_it():
    env, _, _ = start(topple())
    world = env.scene.world
    assert movables(env.task.goal, world) == ("can",)
    assert destination(env.task.goal, "can", world) is None
    there = atom("pose_at", "can", (0.5, 0.1, 0.06, 1.0, 0.0, 0.0, 0.0))
    assert destination(there, "can", world).tolist() == [0.5, 0.1, 0.06]


@pytest.fixture(scope="module")
def solved():
    episodes = []
    for threads in (1, 2):
        expert = Expert(TaskEnv(topple()), methods=("skill", "trajopt"))
        expert._chain[-1] = TrajOpt(Budget(population=16, elites=4, iterations=2, plans=8, threads=threads))
        episodes.append((*expert.solve(train_seed(0)), expert))
    return episodes


def test_what_no_skill_knows_is_found(solved):
    episode, code, expert = solved[0]
    assert code == "", expert.log
    assert expert.methods == ("trajopt",)
    assert "PRECOND_FALSE" in expert.log[0]
    assert replays_exactly(Scene(expert.env.task), episode)
    assert episode.action.dtype == np.float32


def test_the_episode_does_not_depend_on_the_number_of_threads(solved):
    assert solved[0][0].final_sha == solved[1][0].final_sha


def test_a_second_episode_has_a_budget_of_its_own(solved):
    episode, _, expert = solved[1]
    again, code = expert.solve(train_seed(0))
    assert code == ""
    assert again.final_sha == episode.final_sha


def test_a_spent_budget_moves_nothing():
    env, _, ctx = start(topple())
    method = TrajOpt(Budget(population=8, elites=2, iterations=1, plans=1, horizon_s=0.4, knots=2, replan_s=0.2))
    impossible = Subgoal(skill="achieve", args=(), goal=atom("lifted", "can", 1.0))
    assert method.attempt(ctx, impossible).code is Code.POST_FALSE
    before = env.scene.get_state()
    for _ in range(3):
        again = method.attempt(ctx, impossible)
        assert again.code is Code.TIMEOUT
        assert "1 plans" in again.info
    assert np.array_equal(env.scene.get_state(), before)
    env.reset_scene(train_seed(0))
    assert method.attempt(ctx, impossible).code is Code.POST_FALSE  # another episode


def test_a_plan_that_violates_is_not_executed():
    env, _, ctx = start(topple(never=(atom("far", "can", "table", 1e-9),)))  # hardly anything is allowed
    env.task = env.task.model_copy(update={"never": (atom("near", "can", "table", 1.0),)})
    search = Search(ctx, env.task.subgoals[0], Budget(population=8, elites=2, iterations=1, plans=2, threads=1))
    result = search.run(0)
    search.rollouts.close()
    assert result.code is Code.POST_FALSE
    assert env.t_s == 0.0


def test_a_plan_is_judged_in_the_copy_as_in_the_batch():
    env, skills, ctx = start(topple())
    search = Search(ctx, env.task.subgoals[0], SMALL)
    plan = search.plan(0, None)
    objective = Objective(env, env.task.subgoals[0].goal, window=search.objective.window)
    states = search.rollouts.simulate([plan.actions])
    assert objective.judge(search.rollouts, states[0], plan.path) == plan.worth
    assert search.verified(plan) == plan.worth.held
    search.rollouts.close()


@pytest.mark.parametrize(
    ("values", "culprit"),
    [
        ({"population": 0, "elites": 1}, "population=0"),
        ({"elites": 100}, "elites=100"),
        ({"update": "sgd"}, "cem or mppi"),
        ({"replan_s": 9.0}, "replan_s=9"),
        ({"plans": 0}, "plans=0"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(values, culprit):
    with pytest.raises(ConfigError, match=culprit):
        Budget(**values)
