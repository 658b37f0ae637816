import numpy as np
import pytest

from hardware.sim import SimBackend
from robostack.errors import InvalidAction, RobostackError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import eval_seed
from simgen.experts.expert import Expert
from simgen.propose import propose

SPEC = propose("put the red cube in the bowl", "panda")


def test_the_backend_is_the_environment():
    seed = eval_seed(11)
    episode, code = Expert(TaskEnv(SPEC)).solve(seed)
    assert code == ""
    backend = SimBackend(SPEC, seed=seed)
    backend.connect()
    for k, action in enumerate(episode.action):
        seen = backend.observe()
        assert np.array_equal(seen.state, episode.state[k])
        assert np.array_equal(seen.environment_state, episode.environment_state[k])
        assert seen.t_s == pytest.approx(k * 0.05)
        backend.act(action)
    assert seen.language == SPEC.instruction.text


def test_connecting_again_after_a_stop_starts_over():
    backend = SimBackend(SPEC, seed=eval_seed(1))
    backend.connect()
    start = backend.observe()
    action = start.state.astype(float)
    action[2] += 0.05
    for _ in range(5):
        backend.act(action)
    backend.stop()
    backend.connect()
    again = backend.observe()
    assert again.t_s == 0.0
    assert np.array_equal(again.state, start.state)


def test_the_held_pose_is_the_last_one_sent_even_if_the_caller_reuses_its_array():
    backend = SimBackend(SPEC)
    backend.connect()
    action = backend.observe().state.astype(float)
    sent = backend.act(action)
    kept = sent.copy()
    action[:3] += 0.1
    sent[:3] += 0.1
    backend.stop()
    assert np.array_equal(backend.act(action), kept)


def test_a_closed_backend_says_how_to_go_on():
    backend = SimBackend(SPEC)
    backend.connect()
    backend.close()
    with pytest.raises(RobostackError, match=r"not connected: call connect\(\) first"):
        backend.act(np.zeros(10))


def test_a_degenerate_rotation_is_refused():
    backend = SimBackend(SPEC)
    backend.connect()
    with pytest.raises(InvalidAction, match="rot6d"):
        backend.act(np.zeros(10))
