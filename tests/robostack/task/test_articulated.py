"""Drawers, doors and buttons: the atom joint, and faces and hollows that move."""

import math

import pytest

from robostack.errors import SpecError
from robostack.task import geometry as geo
from robostack.task.evaluate import check_bindings, margin
from robostack.task.predicate import atom


@pytest.mark.parametrize("card", ["drawer", "cabinet", "button"])
@pytest.mark.parametrize(
    ("comparison", "value", "fraction", "expected"),
    [
        (">=", 0.8, 0.8, 0.0),
        (">=", 0.8, 0.75, -0.05),
        ("<=", 0.05, 0.0, 0.05),
        ("<=", 0.05, 0.3, -0.25),
        ("==", 0.5, 0.5, 0.07),
        ("==", 0.5, 0.58, -0.01),
        ("==", 0.5, 0.42, -0.01),
    ],
)
def test_the_margin_of_joint_is_in_fractions_of_its_range(scene, card, comparison, value, fraction, expected):
    s = scene(o=card).turn("o", fraction)
    (joint,) = s.world.entities["o"].joints
    assert margin(atom("joint", "o", joint, comparison, value), s.world) == pytest.approx(expected, abs=1e-9)


def test_the_tolerance_of_equality_is_an_argument(scene):
    s = scene(o="drawer").turn("o", 0.45)
    assert margin(atom("joint", "o", "slide", "==", 0.5, frac=0.01), s.world) == pytest.approx(-0.04)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_what_lies_in_a_drawer_stays_in_it_when_it_opens(scene, fraction):
    s = scene(a="block", o="drawer").put("o", (0.5, 0, 0)).turn("o", fraction)
    inside = (0.5 - 0.2 * fraction, 0.0, 0.05 + 0.01 + 0.02)
    assert margin(atom("in", "a", "o"), s.put("a", inside).world) >= 0.0
    aside = (0.5 - 0.2 * fraction + 0.13, 0.0, 0.08)
    assert margin(atom("in", "a", "o"), s.put("a", aside).world) < 0.0


def test_the_place_of_a_closed_drawer_is_not_in_an_open_one(scene):
    s = scene(a="block", o="drawer").put("o", (0.5, 0, 0)).turn("o", 1.0).put("a", (0.5, 0, 0.08))
    assert margin(atom("in", "a", "o"), s.world) < 0.0


def test_the_top_of_the_case_does_not_move_with_the_drawer(scene):
    s = scene(a="block", o="drawer").put("o", (0.5, 0, 0)).put("a", (0.5, 0, 0.18)).turn("o", 1.0)
    assert margin(atom("on", "a", "o"), s.world) >= 0.0


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_face_of_a_button_goes_down_with_its_cap(scene, fraction):
    s = scene(a="block", o="button").put("o", (0.5, 0, 0)).turn("o", fraction)
    assert geo.face(s.world, "o").center[2] == pytest.approx(0.04 - 0.012 * fraction)
    s.put("a", (0.5, 0, 0.04 - 0.012 * fraction + 0.02))
    assert margin(atom("on", "a", "o"), s.world) >= 0.0


def test_touching_a_moving_part_is_touching_the_entity(scene):
    s = scene(a="block", o="drawer").put("o", (0.5, 0, 0)).turn("o", 1.0)
    part = s.world.entities["o"].joints["slide"].body
    geom = next(g for g in s.world.entities["o"].geoms if s.model.geom_bodyid[g] == part)
    assert s.world.geom_owner[geom] == s.world.index["o"]
    s.put("a", (0.3 - 0.1 - 0.0199, 0, 0.05))
    assert margin(atom("touching", "a", "o"), s.world) >= 0.0
    assert margin(atom("near", "a", "o", 0.001), s.world) >= 0.0
    assert margin(atom("near", "a", "o", 0.001), s.turn("o", 0.0).world) < 0.0


@pytest.mark.parametrize(("speed", "true"), [(0.049, True), (0.051, False)])
def test_a_moving_joint_is_not_still(scene, speed, true):
    s = scene(o="cabinet").turn("o", 0.5, speed=speed)
    assert (margin(atom("still", "o"), s.world) >= 0.0) is true


@pytest.mark.parametrize(
    ("pred", "cards", "message"),
    [
        (atom("joint", "o", "hinge", ">=", 0.8), {"o": "drawer"}, r"'o' has no joint 'hinge'; it has \['slide'\]"),
        (atom("joint", "o", "slide", ">=", 0.8), {"o": "block"}, "'joint' needs a joint, which 'o' .card 'block'"),
    ],
)
def test_a_joint_that_the_card_lacks_is_named(scene, make_spec, pred, cards, message):
    role = "fixture" if cards["o"] == "drawer" else "manipuland"
    with pytest.raises(SpecError, match=message):
        check_bindings(make_spec(pred, cards, roles={"o": role}), scene(**cards).snapshot().world)


def test_a_diverged_joint_satisfies_nothing(scene):
    s = scene(o="drawer")
    s.data.qpos[0] = math.nan
    for comparison in (">=", "<=", "=="):
        assert math.isnan(margin(atom("joint", "o", "slide", comparison, 0.5), s.world))
