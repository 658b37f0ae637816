"""Goals with memory, judged by the monitor: once, seq, initially; and rest and release of what has joints."""

import math

import pytest
from pydantic import TypeAdapter

from robostack.errors import SpecError
from robostack.task.evaluate import (
    GoalMonitor,
    check,
    failure_code,
    init_violation,
    margin,
    margin_at_start,
    memoryless,
)
from robostack.task.predicate import Pred, atom
from robostack.task.spec import Hold

DT = 0.05
PARSE = TypeAdapter(Pred).validate_python
PRESSED = {"name": "joint", "args": ["o", "press", ">=", 0.8]}
OPEN = {"name": "joint", "args": ["o", "slide", ">=", 0.8]}
CLOSED = {"name": "joint", "args": ["o", "slide", "<=", 0.05]}


class Episode:
    """A monitored scene; ``step(n)`` lets n control steps pass."""

    def __init__(self, scene, make_spec, goal, cards, **spec):
        roles = {"o": "fixture", "t": "tool"}
        self.spec = make_spec(PARSE(goal), cards, roles=roles, **spec)
        check(self.spec)
        self.scene = scene(roles=roles, **cards).put("o", (0.5, 0, 0)).snapshot()
        self.monitor, self.steps = GoalMonitor(self.spec, self.scene.world), 0

    def step(self, n=1):
        for _ in range(n):
            self.monitor.update(self.steps * DT)
            self.steps += 1
        return self.monitor

    def code(self):
        return failure_code(self.spec, self.scene.world, self.monitor)


@pytest.fixture
def episode(scene, make_spec):
    return lambda goal, cards, **spec: Episode(scene, make_spec, goal, cards, **spec)


def test_a_button_that_springs_back_was_pressed_once(episode):
    e = episode({"once": PRESSED}, {"o": "button"})
    assert not e.step(20).holding
    assert e.code() == "NOT_REACHED"
    e.scene.turn("o", 0.5)
    e.step()
    e.scene.turn("o", 0.0)
    e.step(20)
    assert e.code() == "GOAL_NOT_MET:joint(o, press, >=, 0.8)"
    e.scene.turn("o", 0.9)
    e.step()
    e.scene.turn("o", 0.0)
    assert e.step(10).success
    assert e.monitor.goal_margin() == pytest.approx(0.1)


def test_without_once_a_button_that_springs_back_is_no_success(episode):
    e = episode(PRESSED, {"o": "button"})
    e.scene.turn("o", 0.9)
    e.step(5)
    e.scene.turn("o", 0.0)
    assert math.isnan(e.step(20).first_success_s)


def test_a_latch_is_forgotten_at_reset(episode):
    e = episode({"once": PRESSED}, {"o": "button"})
    e.scene.turn("o", 1.0)
    e.step()
    e.scene.turn("o", 0.0)
    e.monitor.reset()
    assert not e.step(20).success


def test_a_sequence_counts_in_its_order_only(episode):
    e = episode({"seq": [OPEN, CLOSED]}, {"o": "drawer"})
    assert not e.step(20).holding  # closed from the start: not enough
    assert e.monitor.goal_margin() < 0.0
    e.scene.turn("o", 0.9)
    assert not e.step(20).holding
    assert e.code() == "GOAL_NOT_MET:joint(o, slide, <=, 0.05)"
    e.scene.turn("o", 0.0)
    assert e.step(11).success
    e.scene.turn("o", 0.5)
    assert not e.step().success  # the last part has to be true now
    assert e.code() == "GOAL_LOST:joint(o, slide, <=, 0.05)"


def test_parts_of_a_sequence_are_not_true_at_the_same_instant(episode):
    e = episode({"seq": [atom("upright", "a"), atom("still", "a")]}, {"a": "block"} | {"o": "button"})
    e.step()
    assert e.monitor.goal_margin() < 0.0
    e.step()
    assert e.monitor.goal_margin() >= 0.0


def test_a_conjunction_with_a_latch_needs_the_rest_now(episode):
    e = episode({"and": [{"once": PRESSED}, atom("moved", "a", 0.1)]}, {"o": "button", "a": "block"})
    e.scene.turn("o", 0.9)
    e.step()
    e.scene.turn("o", 0.0)
    assert not e.step(20).success
    e.scene.put("a", (5, 0, 0.02))
    assert e.step(11).success


def test_margins_look_back_at_the_reset_state(episode):
    pred = {"implies": [{"initially": atom("near", "a", "b", 0.05)}, atom("far", "a", "b", 0.1)]}
    e = episode(pred, {"a": "block", "b": "block", "o": "drawer"})
    e.scene.put("a", (0, 0, 0.02)).put("b", (0.06, 0, 0.02)).snapshot()
    e.monitor.reset()
    goal = e.spec.goal
    assert margin(goal, e.scene.world) == pytest.approx(e.monitor.goal_margin()) == pytest.approx(0.02 - 0.05)
    e.scene.put("b", (0.2, 0, 0.02))
    assert margin(goal, e.scene.world) == pytest.approx(e.monitor.goal_margin()) == pytest.approx(0.06)
    assert e.step(11).success
    e.scene.snapshot()  # the next episode starts with the blocks apart: nothing is asked
    e.monitor.reset()
    e.scene.put("b", (0.06, 0, 0.02))
    assert margin(goal, e.scene.world) == pytest.approx(e.monitor.goal_margin()) == pytest.approx(0.16 - 0.05)


def test_initially_is_judged_for_every_member_of_a_set(episode):
    stays = {"implies": [{"initially": atom("on", "$x", "o")}, atom("on", "$x", "o")]}
    e = episode(
        {"forall": {"var": "x", "among": {"card": "block"}, "pred": stays}}, {"a": "block", "b": "block", "o": "drawer"}
    )
    e.scene.put("a", (0.5, 0, 0.18)).put("b", (0.2, 0.3, 0.02)).snapshot()
    e.monitor.reset()
    assert e.step(11).success
    e.scene.put("b", (0.2, 0.4, 0.02))
    assert e.step().success
    e.scene.put("a", (0.2, 0.2, 0.02))
    assert not e.step().success
    assert e.code() == "GOAL_LOST:on(a, o)"


# ---------------------------------------------------------------- rest and release


@pytest.mark.parametrize(("speed", "success"), [(0.049, True), (0.051, False)])
def test_a_drawer_that_still_moves_is_no_success(episode, speed, success):
    e = episode(OPEN, {"o": "drawer"})
    e.scene.turn("o", 0.9, speed=speed)
    assert e.step(20).success is success
    assert success or e.code() == "NOT_STILL"


def hand_on(e, entity):
    """Put a finger into the moving part."""
    body = next(iter(e.scene.world.entities[entity].joints.values())).body
    e.scene.data.mocap_pos[0] = e.scene.data.xpos[body] + [0, 0, 0.0195]
    e.scene.forward()


@pytest.mark.parametrize("released", [True, False])
def test_a_drawer_has_to_be_let_go(episode, released):
    e = episode(OPEN, {"o": "drawer"}, hold=Hold(released=released))
    e.scene.turn("o", 0.9)
    hand_on(e, "o")
    assert e.step(20).success is not released
    assert not released or e.code() == "NOT_RELEASED"
    e.scene.let_go()
    assert e.step(11).success


def test_a_button_that_was_pressed_once_may_be_touched(episode):
    e = episode({"once": PRESSED}, {"o": "button"})
    e.scene.turn("o", 0.9)
    hand_on(e, "o")
    assert e.step(11).success


def test_a_tool_has_to_be_let_go_as_well(episode):
    e = episode(atom("moved", "a", 0.1), {"a": "block", "t": "block", "o": "button"})
    e.scene.put("a", (3, 0, 0.02)).put("t", (4, 0, 0.02)).grip("t")
    assert not e.step(20).success
    assert e.code() == "NOT_RELEASED"
    e.scene.let_go()
    assert e.step(11).success


def test_a_drawer_that_was_not_touched_is_not_reached(episode):
    e = episode(OPEN, {"o": "drawer"})
    e.step(5)
    assert e.code() == "NOT_REACHED"
    e.scene.turn("o", 0.4)
    e.step()
    assert e.code() == "GOAL_NOT_MET:joint(o, slide, >=, 0.8)"


def test_a_diverged_state_latches_nothing(episode):
    e = episode({"once": PRESSED}, {"o": "button"})
    e.scene.turn("o", 0.9)
    e.scene.data.qvel[0] = math.inf
    e.step(5)
    assert math.isnan(e.monitor.goal_margin())
    e.scene.data.qvel[0] = 0.0
    e.scene.turn("o", 0.0)
    assert not e.step(20).success


def test_the_deciding_member_of_a_set_is_named(episode):
    on = {"name": "on", "args": ["$x", "$y"]}
    exists = {"var": "y", "among": {"card": "plate"}, "distinct": True, "pred": on}
    goal = {"forall": {"var": "x", "among": ["a", "b"], "pred": {"exists": exists}}}
    e = episode(goal, {"a": "block", "b": "block", "p": "plate", "q": "plate", "o": "button"})
    e.scene.put("p", (0, 0, 0.005)).put("q", (0, 0.4, 0.005)).put("a", (0, 0, 0.03)).put("b", (0, 0.3, 0.02))
    e.step()
    assert failure_code(e.spec, e.scene.world, e.monitor).endswith(":on(b, q)")
    e.scene.put("b", (0, 0.4, 0.03))
    assert e.step(11).success
    e.scene.put("b", (0.03, 0, 0.03)).put("a", (-0.03, 0, 0.03))  # both on one plate
    assert not e.step(20).success


@pytest.mark.parametrize(
    ("cmp", "n", "code"), [("==", 1, "not on(b, p)"), ("<=", 1, "not on(b, p)"), (">=", 3, "on(c, p)")]
)
def test_the_deciding_member_of_a_count_is_named(episode, cmp, n, code):
    body = {"var": "x", "among": ["a", "b", "c"], "cmp": cmp, "n": n, "pred": {"name": "on", "args": ["$x", "p"]}}
    e = episode({"count": body}, {"a": "block", "b": "block", "c": "block", "p": "plate", "o": "button"})
    e.scene.put("p", (0, 0, 0.005)).put("a", (0, 0, 0.03)).put("b", (0.05, 0, 0.03)).put("c", (0, 0.4, 0.02))
    e.step()
    assert e.code().endswith(f":{code}")


def test_the_first_false_predicate_of_init_is_returned(scene, make_spec):
    wrong, right = atom("joint", "o", "slide", ">=", 0.8), atom("joint", "o", "slide", "<=", 0.05)
    s = scene(o="drawer").snapshot()
    spec = make_spec(right, {"o": "drawer"}, roles={"o": "fixture"}, init=(right, wrong))
    assert init_violation(spec, s.world) == wrong
    assert init_violation(spec.model_copy(update={"init": (right,)}), s.world) is None
    s.data.qpos[0] = math.nan
    assert init_violation(spec, s.world) == right


@pytest.mark.parametrize(
    ("goal", "closed", "opened"),
    [({"once": OPEN}, -0.8, 0.1), ({"seq": [OPEN, CLOSED]}, -0.8, -1e-6), (OPEN, -0.8, 0.1)],
)
def test_a_goal_is_judged_at_the_start_too(episode, goal, closed, opened):
    e = episode(goal, {"o": "drawer"})
    assert margin_at_start(e.spec.goal, e.scene.world) == pytest.approx(closed)
    assert margin_at_start(e.spec.goal, e.scene.turn("o", 0.9).world) == pytest.approx(opened)
    e.scene.data.qpos[0] = math.nan
    assert math.isnan(margin_at_start(e.spec.goal, e.scene.world))


def test_one_state_is_enough_for_the_memoryless_goal(episode):
    e = episode({"seq": [OPEN, CLOSED]}, {"o": "drawer"})
    assert margin(memoryless(e.spec.goal), e.scene.world) >= 0.0
    with pytest.raises(SpecError, match="remember an episode"):
        margin(e.spec.goal, e.scene.world)
