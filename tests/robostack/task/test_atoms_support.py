import math

import mujoco
import pytest

from robostack.task.evaluate import margin
from robostack.task.predicate import atom

MM = 1e-3


def holds(pred, scene):
    return margin(pred, scene.world) >= 0.0


@pytest.fixture
def stack(scene):
    return scene(a="block", b="block").put("b", (0.4, 0.1, 0.02)).put("a", (0.4, 0.1, 0.06))


ON = atom("on", "a", "b")


def test_a_block_on_a_block_is_on_it_and_the_other_way_round_it_is_not(stack):
    assert holds(ON, stack)
    assert not holds(atom("on", "b", "a"), stack)


@pytest.mark.parametrize(("gap", "true"), [(0.001, True), (0.003, False), (-0.004, True), (-0.006, False)])
def test_on_tolerates_two_mm_of_air_and_five_of_penetration(stack, gap, true):
    assert holds(ON, stack.put("a", (0.4, 0.1, 0.06 + gap))) is true


@pytest.mark.parametrize(("offset", "true"), [(0.014, True), (0.016, False)])
@pytest.mark.parametrize("direction", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_on_needs_the_centre_of_mass_five_mm_inside_the_edge(stack, offset, true, direction):
    dx, dy = direction
    assert holds(ON, stack.put("a", (0.4 + offset * dx, 0.1 + offset * dy, 0.06))) is true


def test_on_rejects_hovering_beside_and_underneath(stack):
    assert not holds(ON, stack.put("a", (0.4, 0.1, 0.11)))
    assert not holds(ON, stack.put("a", (0.44, 0.1, 0.02)))
    assert not holds(ON, stack.put("b", (0.4, 0.1, 0.06)).put("a", (0.4, 0.1, 0.02)))


def test_on_uses_the_side_that_looks_up_after_a_block_has_toppled(stack):
    for axis in ((1, 0, 0), (0, 1, 0)):
        for quarter in (1, 2, 3):
            assert holds(ON, stack.put("b", (0.4, 0.1, 0.02), tilt=quarter * math.pi / 2, axis=axis))


def test_a_beam_on_its_narrow_side_offers_that_side(scene):
    s = scene(a="block", b="beam").put("b", (0, 0, 0.02), tilt=math.pi / 2, axis=(1, 0, 0))
    assert holds(ON, s.put("a", (0.044, 0, 0.06)))
    assert not holds(ON, s.put("a", (0.046, 0, 0.06)))
    assert not holds(ON, s.put("a", (0, 0.006, 0.06)))


def test_on_a_steep_plate_is_false_even_in_touch(scene):
    s = scene(a="block", b="plate").put("b", (0, 0, 0.2), tilt=math.radians(61)).put("a", (0, 0, 0.205))
    assert not holds(ON, s)


def test_a_round_face_has_a_round_edge(scene):
    s = scene(a="block", b="plate").put("b", (0, 0, 0.005))
    diagonal = 0.075 / math.sqrt(2)
    assert holds(ON, s.put("a", (diagonal - MM, diagonal - MM, 0.03)))
    assert not holds(ON, s.put("a", (diagonal + MM, diagonal + MM, 0.03)))


def test_a_tall_object_can_be_on_a_plate(scene):
    s = scene(a="tower", b="plate").put("b", (0, 0, 0.005)).put("a", (0, 0, 0.16))
    assert holds(ON, s)


def test_a_height_alone_does_not_make_on(scene):
    s = scene(a="block", b="block", c="block").put("b", (0, 0, 0.02)).put("c", (0, 0.1, 0.02)).put("a", (0, 0.1, 0.06))
    assert holds(atom("on", "a", "c"), s)
    assert not holds(ON, s)


@pytest.mark.parametrize(("z", "true"), [(0.02, True), (0.021, True), (0.023, False), (0.07, False)])
def test_on_the_table(scene, z, true):
    assert holds(atom("on", "a", "table"), scene(a="block").put("a", (0.4, 0.1, z))) is true


def test_a_finite_table_ends_at_its_edge(scene):
    s = scene(table="box", a="block")
    assert holds(atom("on", "a", "table"), s.put("a", (0.394, 0, 0.02)))
    assert not holds(atom("on", "a", "table"), s.put("a", (0.396, 0, 0.02)))


@pytest.mark.parametrize(("x", "true"), [(0.064, True), (0.066, False), (-0.064, True), (-0.066, False)])
def test_on_a_zone_is_decided_by_the_centre_of_mass(scene, x, true):
    s = scene(a="block", b="zone").put("b", (0.5, 0.2, 0))
    assert holds(ON, s.put("a", (0.5 + x, 0.2, 0.02))) is true


def test_over_a_zone_is_not_on_it(scene):
    s = scene(a="block", b="zone").put("b", (0.5, 0.2, 0))
    assert holds(ON, s.put("a", (0.5, 0.2, 0.021)))
    assert not holds(ON, s.put("a", (0.5, 0.2, 0.023)))


def test_a_turned_zone_turns_its_edges(scene):
    s = scene(a="block", b="zone").put("b", (0, 0, 0), tilt=math.pi / 4, axis=(0, 0, 1))
    assert holds(ON, s.put("a", (0.08, 0, 0.02)))
    assert not holds(ON, s.put("a", (0.06, 0.06, 0.02)))


IN = atom("in", "a", "b")


@pytest.fixture
def bowl(scene):
    return scene(a="block", b="bowl").put("b", (0.4, 0.1, 0)).put("a", (0.4, 0.1, 0.026))


def test_a_block_on_the_bowls_ground_is_in_it(bowl):
    assert holds(IN, bowl)


def test_in_rejects_hovering_beside_and_underneath(bowl):
    assert not holds(IN, bowl.put("a", (0.4, 0.1, 0.029)))
    assert not holds(IN, bowl.put("a", (0.4, 0.1, 0.09)))
    assert not holds(IN, bowl.put("a", (0.4 + 0.075 + 0.02, 0.1, 0.02)))
    assert not holds(IN, bowl.put("b", (0.4, 0.1, 0.04)).put("a", (0.4, 0.1, 0.02)))


def test_touching_the_rim_from_outside_is_not_in(bowl):
    s = bowl.put("a", (0.4 + 0.074 + 0.02, 0.1, 0.03))
    assert holds(atom("near", "a", "b", 0.002), s)
    assert not holds(IN, s)


@pytest.mark.parametrize(("z", "true"), [(0.049, True), (0.051, False)])
def test_in_ends_at_the_rim(bowl, z, true):
    """Leaning on the wall so that it touches the bowl at any height."""
    assert holds(IN, bowl.put("a", (0.4 + 0.0498, 0.1, z))) is true


@pytest.mark.parametrize(("y", "true"), [(0.057, True), (0.059, False)])
def test_in_has_no_slack_at_the_wall(scene, y, true):
    """The ball is pressed into the wall: its centre passes the inner face."""
    s = scene(a="ball", b="tray").put("b", (0, 0, 0)).put("a", (0, y, 0.024))
    assert holds(atom("in", "a", "b", frac=0.0), s) is true


def test_in_needs_half_of_the_object_inside(scene):
    s = scene(a="tower", b="bowl").put("b", (0, 0, 0))
    assert not holds(IN, s.put("a", (0, 0, 0.156)))
    leaning = s.put("a", (0, 0, 0.045), tilt=math.pi / 2)
    assert not holds(IN, leaning)
    assert holds(atom("in", "a", "b", frac=0.2), leaning)


def test_an_object_supported_by_something_in_the_bowl_is_in(scene):
    s = scene(a="ball", c="block", b="bowl").put("b", (0, 0, 0)).put("c", (0, 0, 0.016), tilt=0.0)
    s.put("a", (0.0, 0.0, 0.0495)).put("c", (0, 0, 0.01))
    assert holds(IN, s)
    s.put("c", (0, 0, -0.5))
    assert not holds(IN, s)


def test_contains_count_counts(scene):
    s = scene(a="block", c="block", d="block", b="bowl").put("b", (0, 0, 0)).put("a", (0.025, 0, 0.026))
    s.put("c", (-0.025, 0, 0.026)).put("d", (0.3, 0, 0.02))
    for n, true in ((0, True), (1, True), (2, True), (3, False), (4, False)):
        assert holds(atom("contains_count", "b", ("a", "c", "d"), ">=", float(n)), s) is true
    for n, true in ((0, False), (1, False), (2, True), (3, True)):
        assert holds(atom("contains_count", "b", ("a", "c", "d"), "<=", float(n)), s) is true
    assert [n for n in range(4) if holds(atom("contains_count", "b", ("a", "c", "d"), "==", float(n)), s)] == [2]


@pytest.mark.parametrize(("z", "true"), [(0.061, True), (0.059, False)])
def test_above_needs_height(stack, z, true):
    assert holds(atom("above", "a", "b"), stack.put("a", (0.4, 0.1, z))) is true


@pytest.mark.parametrize(("x", "true"), [(0.027, True), (0.029, False)])
def test_above_needs_three_tenths_of_overlap(stack, x, true):
    assert holds(atom("above", "a", "b"), stack.put("a", (0.4 + x, 0.1, 0.1))) is true


def test_above_the_table(scene):
    assert holds(atom("above", "a", "table"), scene(a="block").put("a", (0, 0, 0.021)))
    assert not holds(atom("above", "a", "table"), scene(a="block").put("a", (0, 0, 0.019)))


def test_support_atoms_hold_after_the_physics_has_settled(scene):
    s = scene(a="block", b="bowl").put("b", (0, 0, 0)).put("a", (0.01, 0.02, 0.04), tilt=0.3, axis=(1, 1, 0))
    for _ in range(1500):
        mujoco.mj_step(s.model, s.data)
    s.forward()
    assert holds(IN, s)
    assert holds(atom("still", "a"), s)
