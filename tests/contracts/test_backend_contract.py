"""What every machine keeps, real or simulated. A new backend joins by one line in ``BACKENDS``."""

import numpy as np
import pytest

from hardware.sim import SimBackend
from robostack.errors import InvalidAction, RobostackError
from robostack.runtime.protocols import Backend
from simgen.propose import propose


def simulated(robot, mode="ee_pose"):
    spec = propose("put the red cube in the bowl", robot)
    return SimBackend(spec.model_copy(update={"robot": spec.robot.model_copy(update={"control_mode": mode})}))


BACKENDS = {
    "sim-panda": lambda: simulated("panda"),
    "sim-panda-joints": lambda: simulated("panda", "joint_pos"),
    "sim-so101": lambda: simulated("so101"),
}


@pytest.fixture(scope="module", params=BACKENDS)
def shared(request):
    backend = BACKENDS[request.param]()
    yield backend
    backend.close()


@pytest.fixture
def backend(shared):
    shared.close()
    shared.connect()
    return shared


def rest(backend):
    return backend.observe().state.astype(float)


def moved(backend):
    action = rest(backend)
    action[0] += 0.02
    return action


def test_it_is_a_backend(backend):
    assert isinstance(backend, Backend)


def test_nothing_works_before_connect(backend):
    action = rest(backend)
    backend.close()
    for use in (backend.observe, lambda: backend.act(action)):
        with pytest.raises(RobostackError, match="connect") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_connect_and_close_are_idempotent(backend):
    backend.act(moved(backend))
    before = backend.observe()
    backend.connect()
    assert np.array_equal(backend.observe().state, before.state)
    backend.close()
    backend.close()
    backend.connect()
    assert np.isfinite(backend.observe().state).all()


def test_observations_have_the_widths_of_the_features(backend):
    obs, features = backend.observe(), backend.features
    assert obs.state.shape == (len(features.state),)
    assert obs.environment_state.shape == (len(features.environment_state),)
    assert obs.state.dtype == obs.environment_state.dtype == np.float32
    assert tuple(obs.images) == tuple(name for name, *_ in features.cameras)
    assert len(features.action) == len(rest(backend))


def test_act_returns_what_was_sent_and_time_goes_on(backend):
    action, t0 = moved(backend), backend.observe().t_s
    sent = backend.act(action)
    assert np.array_equal(sent, action)
    assert backend.observe().t_s == pytest.approx(t0 + 1.0 / backend.features.rate_hz)
    for _ in range(20):
        backend.act(action)
    assert abs(backend.observe().state[0] - action[0]) < 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_and_nothing_moves(backend, value):
    backend.act(rest(backend))
    before, action = backend.observe(), rest(backend)
    action[1] = value
    with pytest.raises(InvalidAction, match="NaN or infinite"):
        backend.act(action)
    after = backend.observe()
    assert after.t_s == before.t_s
    assert np.array_equal(after.state, before.state)


def test_another_width_is_refused(backend):
    with pytest.raises(InvalidAction, match="shape"):
        backend.act(rest(backend)[:-1])


def test_stop_latches_until_the_next_connect(backend):
    action = moved(backend)
    for _ in range(10):
        held = backend.act(action)
    backend.stop()
    backend.stop()
    away = action.copy()
    away[0] -= 0.1
    positions = []
    for _ in range(20):
        assert np.array_equal(backend.act(away), held)
        positions.append(backend.observe().state[0])
    assert abs(positions[-1] - action[0]) < 0.01
    backend.connect()
    assert np.array_equal(backend.act(action), action)


def test_observations_do_not_change_afterwards(backend):
    obs = backend.observe()
    kept = obs.state.copy()
    backend.act(moved(backend))
    assert np.array_equal(obs.state, kept)
