"""Derived progress and the rewards made of it, on scenes set by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from robostack.errors import DataError
from robostack.task.predicate import Pred, atom
from robostack.task.progress import Progress
from robostack.task.reward import BONUS, CountBonus, Shaping
from robostack.task.spec import Subgoal

PARSE = TypeAdapter(Pred).validate_python
OPEN = PARSE({"name": "joint", "args": ["o", "slide", ">=", 0.8]})
CLOSED = PARSE({"name": "joint", "args": ["o", "slide", "<=", 0.05]})
INSIDE = atom("in", "a", "o")
ROLES = {"o": "fixture", "p": "receptacle"}


def subgoal(skill, goal, *args):
    return Subgoal(skill=skill, args=args, goal=goal)


@pytest.fixture
def stack(scene, make_spec):
    """Put a, then b on the plate p; the tool is far away."""
    cards = {"a": "block", "b": "block", "p": "plate"}
    first, second = atom("on", "a", "p"), atom("on", "b", "p")
    spec = make_spec(
        PARSE({"and": [first, second]}),
        cards,
        roles=ROLES,
        subgoals=(subgoal("place_on", first, "a", "p"), subgoal("place_on", second, "b", "p")),
    )
    s = scene(**cards).put("p", (0.5, 0, 0.005)).put("a", (0.5, 0.3, 0.02)).put("b", (0.5, -0.3, 0.02)).snapshot()
    return s, Progress(spec, s.world)


def test_progress_starts_at_0_and_ends_at_1(stack):
    s, progress = stack
    assert progress.value == progress.update() == 0.0
    s.put("a", (0.54, 0, 0.03)).put("b", (0.46, 0, 0.03))
    assert progress.update() == 1.0


def test_a_stage_grows_with_reach_transport_and_descent(stack):
    s, progress = stack
    values = [progress.value]
    for tool in ((0.5, 0.2, 0.2), (0.5, 0.3, 0.02)):
        s.reach(tool)
        values.append(progress.update())
    for place in ((0.5, 0.3, 0.02), (0.5, 0.15, 0.12), (0.54, 0.0, 0.12), (0.54, 0.0, 0.06)):
        s.put("a", place).grip("a").reach(place)
        values.append(progress.update())
    s.put("a", (0.54, 0.0, 0.03)).let_go()
    values.append(progress.update())
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    assert values[-1] == pytest.approx(0.45, abs=0.2)  # the first of two subgoals


def test_lifting_what_must_rest_on_the_table_in_the_end_is_no_loss(scene, make_spec):
    goal = PARSE({"and": [atom("near", "a", "b", 0.03), atom("on", "a", "table")]})
    cards = {"a": "block", "b": "block"}
    s = scene(**cards).put("a", (0.3, 0, 0.02)).put("b", (0.6, 0, 0.02)).snapshot()
    progress = Progress(make_spec(goal, cards, subgoals=(subgoal("place_beside", goal, "a", "b", 0.06, 0.0),)), s.world)
    s.put("a", (0.45, 0, 0.02))
    aside = progress.update()
    s.put("a", (0.45, 0, 0.05))
    assert progress.update() == pytest.approx(aside, abs=0.03)
    assert aside > 0.1


def test_a_drawer_that_is_closed_again_keeps_what_was_achieved(scene, make_spec):
    cards = {"a": "block", "o": "drawer"}
    goal = PARSE({"and": [INSIDE, CLOSED]})
    subgoals = (
        subgoal("open", OPEN, "o", "slide"),
        subgoal("place_in", INSIDE, "a", "o"),
        subgoal("close", CLOSED, "o", "slide"),
    )
    s = scene(**cards).put("o", (0.5, 0, 0)).put("a", (0.5, 0.3, 0.02)).snapshot()
    progress = Progress(make_spec(goal, cards, roles=ROLES, subgoals=subgoals), s.world)
    assert progress.value == 0.0  # closed, but not yet the closing that is asked for
    values = [progress.update()]
    for fraction, inside in ((0.9, False), (0.9, True), (0.4, True), (0.0, True)):
        x = 0.5 - 0.2 * fraction
        s.turn("o", fraction).put("a", (x, 0, 0.08) if inside else (0.5, 0.3, 0.02)).reach((x, 0, 0.05))
        values.append(progress.update())
    assert values == sorted(values)
    assert values[1] >= 0.3
    assert values[2] >= 0.6
    assert values[-1] == 1.0


def test_a_goal_that_was_met_but_is_not_any_more_is_not_almost_met(scene, make_spec):
    s = scene(a="block", o="drawer").put("o", (0.5, 0, 0)).put("a", (0.5, 0.3, 0.02)).snapshot()
    progress = Progress(
        make_spec(PARSE({"and": [INSIDE, CLOSED]}), {"a": "block", "o": "drawer"}, roles=ROLES), s.world
    )
    s.put("a", (0.5, 0, 0.08))
    assert progress.update() == 1.0
    s.turn("o", 1.0).put("a", (0.3, 0, 0.08))
    assert progress.update() < 0.95


def test_what_falls_off_again_is_lost_again(stack):
    s, progress = stack
    s.put("a", (0.54, 0, 0.03))
    placed = progress.update()
    s.put("a", (0.5, 0.3, 0.02))
    assert progress.update() < placed - 0.3


def test_a_pressed_button_is_done_for_good(scene, make_spec):
    pressed = PARSE({"name": "joint", "args": ["o", "press", ">=", 0.8]})
    spec = make_spec(
        PARSE({"once": pressed}), {"o": "button"}, roles=ROLES, subgoals=(subgoal("press", pressed, "o", "press"),)
    )
    s = scene(o="button").snapshot()
    progress = Progress(spec, s.world)
    s.turn("o", 0.4)
    assert 0.2 < progress.update() < 0.9
    s.turn("o", 0.9)
    assert progress.update() == 1.0
    s.turn("o", 0.0)
    assert progress.update() == 1.0
    progress.reset()
    assert progress.update() == 0.0


def test_subgoals_may_look_back_at_the_reset_state(scene, make_spec):
    back = PARSE(
        {"implies": [{"not": {"not": {"initially": atom("near", "a", "b", 0.5)}}}, atom("far", "a", "b", 0.4)]}
    )
    spec = make_spec(back, {"a": "block", "b": "block"}, subgoals=(subgoal("achieve", back),))
    s = scene(a="block", b="block").put("a", (0, 0, 0.02)).put("b", (0.2, 0, 0.02)).snapshot()
    progress = Progress(spec, s.world)
    values = [progress.value]
    for x in (0.3, 0.4, 0.5):
        s.put("b", (x, 0, 0.02))
        values.append(progress.update())
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert 0.0 < values[1] < values[2] < 1.0


def test_a_sequence_advances_part_by_part(scene, make_spec):
    s = scene(o="drawer").put("o", (1.0, 0, 0)).snapshot()
    progress = Progress(make_spec(PARSE({"seq": [OPEN, CLOSED]}), {"o": "drawer"}, roles=ROLES), s.world)
    values = []
    for fraction in (0.0, 0.4, 0.8, 0.8, 0.4, 0.0):
        s.turn("o", fraction).reach((1.0 - 0.2 * fraction, 0, 0.05))
        values.append(progress.update())
    assert values == sorted(values)
    assert values[-1] == 1.0


@pytest.mark.parametrize(
    "goal",
    [
        {
            "count": {
                "var": "x",
                "among": ["a", "b", "c"],
                "cmp": ">=",
                "n": 2,
                "pred": {"name": "in", "args": ["$x", "p"]},
            }
        },
        atom("contains_count", "p", ("a", "b", "c"), ">=", 2.0),
        {"or": [atom("in", "a", "p"), {"not": {"or": [{"not": atom("in", "b", "p")}, atom("still", "zone")]}}]},
        {"implies": [atom("still", "a"), atom("in", "c", "p")]},
        {"not": atom("near", "a", "b", 0.5)},
    ],
)
def test_every_kind_of_goal_has_a_progress(scene, make_spec, goal):
    cards = {"a": "ball", "b": "ball", "c": "ball", "p": "tray", "zone": "zone"}
    s = scene(**cards).put("p", (0, 0, 0))
    for i, name in enumerate("abc"):
        s.put(name, (0.3, 0.1 * i, 0.02))
    s.snapshot()
    progress = Progress(make_spec(PARSE(goal), cards, roles=ROLES | {"zone": "zone"}), s.world)
    values = [progress.update()]
    rng = np.random.default_rng(0)
    for _ in range(50):
        for name in "abc":
            s.put(name, (*rng.uniform(-0.4, 0.4, 2), 0.02))
        values.append(progress.update())
        assert np.isfinite(progress.components).all()
    assert values[0] == 0.0
    assert all(0.0 <= v <= 1.0 for v in values)
    assert np.std(values) > 1e-3


def test_a_diverged_state_changes_nothing(stack):
    s, progress = stack
    s.put("a", (0.5, 0.1, 0.02))
    before = progress.update()
    s.data.qpos[0] = math.nan
    assert progress.update() == before


# ---------------------------------------------------------------- rewards


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.5, 1.0), st.booleans())
def test_shaping_telescopes(phis, gamma, terminal):
    """The discounted sum over an episode is gamma^T phi_T - phi_0, and - phi_0 when the last state is terminal."""
    shaping = Shaping(gamma)
    shaping.reset(0.3)
    rewards = [shaping.step(p, terminal=terminal and k == len(phis) - 1) for k, p in enumerate(phis)]
    total = sum(r * gamma**k for k, r in enumerate(rewards))
    assert total == pytest.approx((0.0 if terminal else gamma ** len(phis) * phis[-1]) - 0.3, abs=1e-9)


def test_rare_cells_earn_more():
    counts = CountBonus((0.5, 1.0))
    assert counts.bins == (32, 64)
    first = [counts.visit((0.1, 0.2)) for _ in range(4)]
    assert first == [BONUS / math.sqrt(n) for n in (1, 2, 3, 4)]
    assert counts.visit((0.9, 0.2)) == BONUS
    assert counts.visit((1.0, 0.2)) == BONUS  # holding has a cell of its own
    assert len(counts) == 3


def test_few_bins_for_early_stages_but_never_fewer_than_eight():
    assert CountBonus((0.01, 0.2, 1.0)).bins == (8, 13, 64)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_counts_survive_a_checkpoint(visits):
    counts, again = CountBonus((0.5, 1.0)), CountBonus((0.5, 1.0))
    for visit in visits:
        counts.visit(visit)
    again.load_state_dict(json.loads(json.dumps(counts.state_dict())))
    assert again.state_dict() == counts.state_dict()
    assert again.visit((0.5, 0.5)) == counts.visit((0.5, 0.5))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"bins": [8, 8]}, "has bins .8, 8., this task .32, 64."),
        ({"counts": [1, 2]}, "damaged"),
        ({"cells": None}, "damaged"),
        ({"cells": [["x", 1]]}, "damaged"),
        ({"cells": [[1]]}, "cells of another size"),
        ({"counts": [0]}, "counts below 1"),
        ({}, "damaged .'bins'."),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(damage, message):
    counts = CountBonus((0.5, 1.0))
    counts.visit((0.1, 0.1))
    before = counts.state_dict()
    with pytest.raises(DataError, match=message):
        counts.load_state_dict({**before, **damage} if damage else {})
    assert counts.state_dict() == before
