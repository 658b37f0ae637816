import numpy as np
import pytest

from robostack.runtime.execution import Executor
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
