import numpy as np
import pytest

from robostack.sim import make_task
from robostack.sim.scene import train_seed
from simgen.experts.expert import Expert
from simgen.transfer import transfer

pytest.importorskip("pybullet")


@pytest.fixture(scope="module")
def demos():
    env = make_task("put_in_bowl", "ur5e")
    expert = Expert(env)
    episodes = {train_seed(i): expert.solve(train_seed(i)) for i in range(3)}
    assert not any(code for _, code in episodes.values())
    return env.task, {seed: episode.action for seed, (episode, _) in episodes.items()}


def test_pick_and_place_transfers_open_loop(demos):
    report = transfer(*demos)
    assert (report.n, report.k, report.engine) == (3, 3, "pybullet")


def test_in_the_reference_engine_every_demonstration_succeeds_again(demos):
    assert transfer(*demos, engine="mujoco").k == 3


def test_actions_that_do_nothing_fail_with_a_code(demos):
    spec, actions = demos
    idle = {seed: np.repeat(a[:1], 40, axis=0) for seed, a in actions.items()}
    assert set(transfer(spec, idle).codes.values()) == {"NOT_REACHED"}
