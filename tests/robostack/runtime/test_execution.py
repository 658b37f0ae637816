import dataclasses

import numpy as np
import pytest

from robostack.errors import ConfigError, InvalidAction, UnknownName
from robostack.runtime.execution import EXECUTORS, Executor
from robostack.runtime.latency import LatencyModel
from robostack.runtime.protocols import Horizon, Policy
from robostack.types import ActionChunk, Features, Observation

DT = 0.05
FEATURES = Features(("s",), ("e",), ("a", "b"), (), "ee_pose", 1 / DT, "toy")


class Scripted:
    """Chunk n holds the actions (n, k); every window that it was shown is kept."""

    def __init__(self, To=2, Ta=4, dt=DT):
        self.features, self.horizon, self.dt = FEATURES, Horizon(To, To + Ta + 3, Ta), dt
        self.windows: list[Observation] = []
        self.resets: list[tuple[list[bool], list[int]]] = []

    def reset(self, mask, seeds):
        self.resets.append((mask.tolist(), seeds.tolist()))

    def infer(self, obs, plan=None):
        n, Ta = len(self.windows), self.horizon.Ta
        self.windows.append(obs)
        actions = np.stack([np.full(Ta, float(n)), np.arange(Ta, dtype=float)], axis=-1)
        return ActionChunk(obs.t_s, self.dt, actions[None])


class Tracker:
    """Goes after a target in the plane's first axis: its plan is the target's last seen motion, continued.

    ``n`` actions; the network was "evaluated" three times per decision.
    """

    continues_plans = True

    def __init__(self, To=2, Ta=4, n=12):
        self.features = dataclasses.replace(FEATURES, state=("a", "b"), environment_state=("target",))
        self.horizon = Horizon(To, To + n - 1, Ta)
        self.plans = []

    def reset(self, mask, seeds):
        self.plans.clear()

    def evaluations(self):
        return np.array([3])

    def infer(self, obs, plan=None):
        self.plans.append((obs.t_s, plan))
        now, before = obs.environment_state[0, -1, 0], obs.environment_state[0, 0, 0]
        ahead = np.arange(1, self.horizon.Tp - self.horizon.To + 2)
        target = now + (now - before) * ahead
        return ActionChunk(obs.t_s, DT, np.stack([target, np.zeros_like(target)], axis=-1)[None])


def track(execution, latency, steps=400, **settings):
    """Mean distance to a target that goes to and fro; the executor, and all commands."""
    policy = Tracker(**settings)
    executor = Executor(policy, execution, LatencyModel.parse(latency))
    executor.reset(0)
    rng, x, target, velocity, errors, commands = np.random.default_rng(1), 0.0, 0.0, 0.05, [], []
    for step in range(steps):
        if rng.random() < 0.08:
            velocity = -velocity
        obs = Observation(step * DT, np.array([x, 0.0]), np.array([target]))
        commands.append(executor.act(obs))
        x, target = commands[-1][0], target + velocity
        errors.append(abs(x - target))
    return float(np.mean(errors)), executor, np.array(commands)


def observation(step, dt=DT):
    return Observation(step * dt, np.array([float(step)]), np.array([10.0 * step]), language="go")


def started(**kwargs):
    policy = Scripted(**kwargs)
    executor = Executor(policy)
    executor.reset(7)
    return policy, executor


def seen(window):
    return window.state[0, :, 0].tolist()


def test_the_scripted_policy_is_a_policy():
    assert isinstance(Scripted(), Policy)


def test_the_first_window_is_padded_with_the_first_observation():
    policy, executor = started(To=3)
    executor.act(observation(0))
    assert seen(policy.windows[0]) == [0.0, 0.0, 0.0]
    assert policy.windows[0].state.shape == (1, 3, 1)
    assert policy.windows[0].environment_state.shape == (1, 3, 1)
    assert policy.windows[0].language == "go"


def test_a_decision_sees_the_newest_observations():
    policy, executor = started(To=3, Ta=4)
    for step in range(9):
        executor.act(observation(step))
    assert [seen(w) for w in policy.windows] == [[0, 0, 0], [2, 3, 4], [6, 7, 8]]
    assert [w.t_s for w in policy.windows] == pytest.approx([0.0, 4 * DT, 8 * DT])


def test_a_window_carries_what_is_looked_at():
    policy, executor = started(To=3)
    for step in range(9):
        look = np.full((2, 4, 3), step, np.uint8)
        points = np.full((5, 6), step, np.float32)
        executor.act(dataclasses.replace(observation(step), images={"front": look}, points=points))
    assert policy.windows[-1].images["front"].shape == (1, 3, 2, 4, 3)
    assert policy.windows[-1].images["front"][0, :, 0, 0, 0].tolist() == seen(policy.windows[-1])
    assert policy.windows[-1].points.shape == (1, 3, 5, 6)
    assert policy.windows[-1].points[0, :, 0, 0].tolist() == seen(policy.windows[-1])


@pytest.mark.parametrize("Ta", [1, 3, 8])
def test_one_inference_per_executed_chunk(Ta):
    policy, executor = started(Ta=Ta)
    for step in range(5 * Ta):
        executor.act(observation(step))
        assert len(policy.windows) == step // Ta + 1


def test_action_k_of_a_chunk_is_due_k_periods_after_its_first():
    _, executor = started(Ta=4)
    rng = np.random.default_rng(0)
    for step in range(12):
        obs = observation(step)
        jitter = 0.0 if step % 4 == 0 else rng.uniform(-0.4, 0.4) * DT  # a clock that is not exact
        action = executor.act(Observation(obs.t_s + jitter, obs.state, obs.environment_state))
        assert action.tolist() == [step // 4, step % 4]


def test_steps_that_were_missed_are_skipped_not_replayed():
    policy, executor = started(Ta=4)
    assert executor.act(observation(0)).tolist() == [0, 0]
    assert executor.act(observation(3)).tolist() == [0, 3]
    assert executor.act(observation(9)).tolist() == [1, 0]
    assert len(policy.windows) == 2


def test_a_reset_forgets_the_last_episode_and_seeds_the_policy():
    policy, executor = started(To=2, Ta=4)
    for step in range(3):
        executor.act(observation(step))
    executor.reset(8)
    assert executor.act(observation(0)).tolist() == [1, 0]
    assert seen(policy.windows[-1]) == [0, 0]
    assert policy.resets == [([True], [7]), ([True], [8])]


def test_every_decision_and_nothing_else_is_timed():
    _, executor = started(Ta=4)
    for step in range(9):
        executor.act(observation(step))
    assert len(executor.latency.samples_s) == 3
    assert all(s >= 0 for s in executor.latency.samples_s)


def test_the_caller_may_keep_and_change_an_action():
    _, executor = started(Ta=4)
    first = executor.act(observation(0))
    assert first.shape == (2,)
    assert executor.act(observation(0)).tolist() == first.tolist()


# Latency.


def delayed(execution, latency, **kwargs):
    """A scripted robot whose state tells its pose; columns of the action: number of the chunk, index within it."""
    policy = Scripted(**kwargs)
    policy.features = dataclasses.replace(FEATURES, state=("b", "x", "a"))
    policy.continues_plans = True
    executor = Executor(policy, execution, LatencyModel.parse(latency))
    executor.reset(0)
    return policy, executor


def commands(executor, steps):
    pose = np.array([-2.0, 9.0, -1.0])  # b, x, a: standing still is (a, b) = (-1, -2)
    return [tuple(executor.act(Observation(k * DT, pose, np.zeros(1)))) for k in range(steps)]


def test_a_robot_that_waits_holds_its_pose_then_its_last_command_and_does_not_skip():
    _, executor = delayed("sync", "fixed:100", Ta=3)
    still = [(-1, -2)] * 2
    assert commands(executor, 11) == [*still, (0, 0), (0, 1), (0, 2), (0, 2), (0, 2), (1, 0), (1, 1), (1, 2), (1, 2)]
    assert executor.counters.starved == 5


def test_an_asynchronous_robot_goes_on_and_takes_up_the_new_plan_where_it_is_due():
    policy, executor = delayed("async", "fixed:100", Ta=3)
    policy.horizon = Horizon(2, 8, 3)
    policy.infer = lengthened(policy, 7)
    assert commands(executor, 10) == [
        *[(-1, -2)] * 2, (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3)
    ]  # fmt: skip
    assert executor.counters.starved == 2
    assert executor.counters.dropped == 6


def lengthened(policy, n):
    """Chunks of n actions instead of Ta."""

    def infer(obs, plan=None):
        number = float(len(policy.windows))
        policy.windows.append(obs)
        return ActionChunk(obs.t_s, DT, np.stack([np.full(n, number), np.arange(float(n))], axis=-1)[None])

    return infer


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_rti_decides_as_often_as_decisions_end(delay):
    policy, executor = delayed("rti", f"fixed:{50 * delay}")
    policy.infer = lengthened(policy, 8)
    out = commands(executor, 12)
    period = max(1, delay)
    assert [round(w.t_s / DT) for w in policy.windows] == list(range(0, 12, period))
    assert out[delay:] == [((k - delay) // period, delay + (k - delay) % period) for k in range(delay, 12)]


def test_a_plan_too_short_for_the_delay_is_renewed_before_it_ends():
    policy, executor = delayed("async", "fixed:150", Ta=8)
    policy.horizon, policy.infer = Horizon(2, 10, 8), lengthened(policy, 9)
    commands(executor, 60)
    assert executor.counters.starved == 3  # the wait for the first plan
    assert [round(w.t_s / DT) for w in policy.windows[:3]] == [0, 6, 12]


def test_a_decision_longer_than_its_plan_never_moves_the_robot_but_waiting_does():
    policy, executor = delayed("rtc", "fixed:1000", Ta=4)
    assert set(commands(executor, 50)) == {(-1, -2)}
    assert executor.counters.stale == 2
    _, executor = delayed("sync", "fixed:1000", Ta=4)
    assert (0, 3) in commands(executor, 50)


def test_without_latency_asynchronous_is_synchronous():
    for execution in ("async", "rtc"):
        assert track(execution, "none")[2].tolist() == track("sync", "none")[2].tolist()


def test_without_latency_rti_is_synchronous_with_one_action():
    assert track("rti", "none", Ta=4)[2].tolist() == track("sync", "none", Ta=1)[2].tolist()


def test_an_ensemble_of_one_chunk_is_that_chunk_and_of_many_their_mean():
    policy, executor = delayed("ensemble", "none")
    policy.infer = lengthened(policy, 4)
    out = commands(executor, 8)
    assert out[0] == (0, 0)
    w = np.exp(-0.01 * np.arange(4))
    for k in range(3, 8):  # chunks k - 3 .. k, of which the actions 3 .. 0 are due
        assert out[k] == pytest.approx((w @ np.arange(k - 3, k + 1) / w.sum(), w @ np.arange(3, -1, -1) / w.sum()))


def test_a_policy_that_continues_plans_is_given_what_is_left_and_how_much_of_it_is_certain():
    policy = track("rtc", "fixed:100", steps=12)[1].policy
    (first, no_plan), (second, plan), (third, _) = policy.plans
    assert no_plan is None
    assert (round(second / DT), round(third / DT)) == (4, 8)
    assert plan.actions.shape == (1, 12 - 4, 2)
    assert (plan.frozen, plan.jacobian) == (2, "identity")
    assert first == 0


def test_the_plan_that_is_handed_over_is_what_is_executed_meanwhile():
    _, executor, done = track("rtc", "fixed:150", steps=100)
    given = [(t_s, p) for t_s, p in executor.policy.plans if p is not None]
    assert len(given) > 10
    for t_s, plan in given[:-1]:
        step = round(t_s / DT)
        np.testing.assert_array_equal(plan.actions[0, : plan.frozen], done[step : step + plan.frozen])


def test_only_executions_that_continue_plans_hand_them_over():
    for name in EXECUTORS:
        plans = [p for _, p in track(name, "fixed:100", steps=30)[1].policy.plans]
        assert any(p is not None for p in plans) == name.startswith("rtc")
    assert {p.jacobian for _, p in track("rtc_vjp", "none", steps=30)[1].policy.plans if p} == {"vjp"}


@pytest.mark.parametrize("execution", list(EXECUTORS))
def test_a_fixed_latency_is_deterministic(execution):
    first, second = (track(execution, "fixed:130", steps=60)[2] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_measured_latency_is_paid_too():
    assert track("async", "measured:60000", steps=40)[1].counters.starved > 0


@pytest.mark.parametrize("execution", list(EXECUTORS))
def test_slow_decisions_cost_success(execution):
    fast, slow, slower = (track(execution, latency)[0] for latency in ("none", "fixed:200", "fixed:400"))
    assert fast < slow < slower


def test_going_on_with_the_old_plan_beats_waiting():
    for execution in ("async", "rtc", "rti"):
        assert track(execution, "fixed:200")[0] < 0.7 * track("sync", "fixed:200")[0]


def test_evaluations_are_counted_per_decision_and_unknown_when_the_policy_does_not_tell():
    executor = track("rti", "none", steps=10)[1]
    assert executor.evaluations == 3 * 10
    _, executor = delayed("sync", "none")
    commands(executor, 5)
    assert executor.evaluations is None


def test_an_episode_leaves_nothing_to_the_next():
    policy = Tracker()
    executor = Executor(policy, "rtc", LatencyModel.parse("fixed:100"))

    def episode():
        executor.reset(0)
        return [executor.act(Observation(k * DT, np.zeros(2), np.array([0.1 * k]))).tolist() for k in range(20)]

    first = episode()
    counters = dataclasses.replace(executor.counters)
    assert episode() == first
    assert executor.counters == counters
    assert executor.evaluations == 3 * len(executor.latency.samples_s)


def test_a_policy_that_cannot_continue_a_plan_is_refused_with_the_alternatives():
    with pytest.raises(ConfigError, match=r"Scripted cannot continue a plan.*async, ensemble, rti, sync$"):
        Executor(Scripted(), "rtc")


def test_an_unknown_execution_is_refused():
    with pytest.raises(UnknownName, match="unknown execution 'asynch': did you mean 'async'"):
        Executor(Scripted(), "asynch")


def test_a_robot_that_cannot_hold_still_is_refused_under_latency():
    with pytest.raises(ConfigError, match="latency=fixed:50 makes the robot wait.*use latency=none"):
        Executor(Scripted(), "sync", LatencyModel.parse("fixed:50"))


def test_nothing_of_a_chunk_with_nan_is_executed():
    policy, executor = delayed("async", "none")
    policy.infer = lambda obs, plan=None: ActionChunk(obs.t_s, DT, np.full((1, 4, 2), np.nan))
    with pytest.raises(InvalidAction, match="NaN"):
        commands(executor, 1)
