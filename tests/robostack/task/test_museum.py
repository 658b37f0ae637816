"""Success predicates that went wrong elsewhere; each is rejected here for the reason it went wrong there."""

import math

import numpy as np
import pytest

from robostack.task.evaluate import GoalMonitor, failure_code, margin
from robostack.task.predicate import And, all_of, atom

DT = 0.05


def watch(monitor, seconds, start=0.0):
    for k in range(round(seconds / DT)):
        monitor.update(start + k * DT)
    return monitor


def test_a_stack_is_judged_in_height_too(scene):
    """Position errors in x and y alone call two blocks a stack that share a place at any height, or hover."""
    s = scene(a="block", b="block").put("b", (0, 0, 0.02))
    stacked = atom("on", "a", "b")
    assert margin(stacked, s.put("a", (0, 0, 0.06)).world) >= 0.0
    for z in (0.02, 0.04, 0.066, 0.1, 0.3):
        assert margin(stacked, s.put("a", (0, 0, z)).world) < 0.0, z


def test_rotation_counts_unless_the_shape_hides_it(scene):
    """A pose check that skips the rotation of symmetric objects also accepts them lying on their side."""
    standing = (0.0, 0.0, 0.025, 1.0, 0.0, 0.0, 0.0)
    s = scene(a="cylinder").put("a", (0, 0, 0.025), tilt=math.pi / 2)
    assert margin(atom("pose_at", "a", standing), s.world) < 0.0
    assert margin(atom("pose_at", "a", standing), s.put("a", (0, 0, 0.025), tilt=1.0, axis=(0, 0, 1)).world) >= 0.0


@pytest.mark.parametrize("shift", [0.085, 0.1, 0.12])
@pytest.mark.parametrize("angle", np.linspace(0, 2 * math.pi, 8, endpoint=False))
def test_a_small_container_grants_no_more_slack_than_a_large_one(scene, shift, angle):
    """A tolerance divided by the length of the container's axis lets objects beside a small one pass."""
    s = scene(a="ball", b="bowl").put("b", (0, 0, 0))
    outside = (shift * math.cos(angle), shift * math.sin(angle), 0.026)
    assert margin(atom("in", "a", "b"), s.put("a", outside).world) < 0.0
    assert margin(atom("in", "a", "b"), s.put("a", (0, 0, 0.026)).world) >= 0.0


def test_touching_a_container_from_outside_is_not_inside(scene):
    """Contact plus nearness in x and y accepts what leans on the wall, lies under the rim, or below the container."""
    s = scene(a="block", b="bowl").put("b", (0, 0, 0))
    leaning = s.put("a", (0.074 + 0.0199, 0, 0.02))
    assert margin(atom("touching", "a", "b"), leaning.world) >= 0.0
    assert margin(atom("in", "a", "b"), leaning.world) < 0.0
    below = s.put("b", (0, 0, 0.039)).put("a", (0, 0, 0.02))
    assert margin(atom("touching", "a", "b"), below.world) >= 0.0
    assert margin(atom("in", "a", "b"), below.world) < 0.0


def test_what_stood_upright_once_has_to_stand_upright_at_the_end(scene, make_spec):
    """A latched predicate forgives everything that comes later."""
    cards = {"a": "tower"}
    goal = all_of(atom("upright", "a"), atom("moved", "a", 0.1))
    s = scene(**cards).put("a", (0, 0, 0.15)).snapshot().put("a", (0.2, 0, 0.15))
    monitor = watch(GoalMonitor(make_spec(goal, cards), s.world), 1.0)
    assert monitor.success
    s.put("a", (0.2, 0, 0.02), tilt=math.pi / 2)
    watch(monitor, 0.1, start=1.0)
    assert not monitor.success
    assert failure_code(monitor.spec, s.world, monitor) == "GOAL_LOST:upright(a)"


def test_passing_through_the_goal_is_no_success(scene, make_spec):
    """Success at a single instant rewards throwing an object past its place."""
    cards = {"a": "block", "z": "zone"}
    spec = make_spec(atom("on", "a", "z"), cards, roles={"z": "zone"})
    s = scene(**cards).put("z", (0.3, 0, 0)).put("a", (0, 0, 0.02)).snapshot()
    monitor = GoalMonitor(spec, s.world)
    for k in range(60):
        x = 0.01 * k
        s.put("a", (x, 0, 0.02)).push("a", linear=(0.01 / DT, 0, 0))
        monitor.update(k * DT)
    assert monitor.moved["a"]
    assert math.isnan(monitor.first_success_s)


def test_an_object_in_the_gripper_is_not_placed(scene, make_spec):
    """Holding an object at its place is not putting it there."""
    cards = {"a": "block", "z": "zone"}
    spec = make_spec(atom("on", "a", "z"), cards, roles={"z": "zone"})
    s = scene(**cards).put("a", (1, 0, 0.02)).snapshot().put("z", (0.3, 0, 0)).put("a", (0.3, 0, 0.02)).grip("a")
    monitor = watch(GoalMonitor(spec, s.world), 2.0)
    assert math.isnan(monitor.first_success_s)
    assert failure_code(spec, s.world, monitor) == "NOT_RELEASED"


def test_one_object_cannot_fill_two_places(scene, make_spec):
    """Goals that reuse a target are met by one object where two are meant."""
    cards = {"a": "block", "b": "block", "p": "plate", "q": "plate"}
    on = {"name": "on", "args": ["$x", "$y"]}
    inner = {"exists": {"var": "y", "among": {"card": "plate"}, "distinct": True, "pred": on}}
    goal = And.model_validate({"and": [{"forall": {"var": "x", "among": ["a", "b"], "pred": inner}}]})
    s = scene(**cards).put("p", (0, 0, 0.005)).put("q", (0, 0.4, 0.005))
    s.put("a", (0.03, 0, 0.03)).put("b", (-0.03, 0, 0.03))
    assert margin(goal, s.world) < 0.0
    assert margin(goal, s.put("b", (0, 0.4, 0.03)).world) >= 0.0


def test_a_barely_open_drawer_is_not_closed_and_a_half_open_one_not_open(scene):
    """Loose joint tolerances accept half the way."""
    s = scene(o="drawer")
    for fraction in (0.06, 0.5, 0.79):
        s.turn("o", fraction)
        assert margin(atom("joint", "o", "slide", ">=", 0.8), s.world) < 0.0
        assert margin(atom("joint", "o", "slide", "<=", 0.05), s.world) < 0.0
