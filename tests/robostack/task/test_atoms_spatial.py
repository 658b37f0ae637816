import itertools
import math

import numpy as np
import pytest

from robostack.task.evaluate import margin
from robostack.task.predicate import atom
from robostack.task.symmetry import angle_modulo, group

DEG = math.pi / 180
LEFT, FRONT = (0.0, 1.0), (1.0, 0.0)


def holds(pred, scene):
    return margin(pred, scene.world) >= 0.0


@pytest.fixture
def two(scene):
    return scene(a="block", b="block").put("b", (0.4, 0.0, 0.02))


@pytest.mark.parametrize(("gap", "true"), [(0.049, True), (0.051, False)])
def test_near_and_far_measure_between_surfaces(two, gap, true):
    two.put("a", (0.4 + 0.04 + gap, 0.0, 0.02))
    assert holds(atom("near", "a", "b", 0.05), two) is true
    assert holds(atom("far", "a", "b", 0.05), two) is not true


def test_distance_is_in_three_dimensions_and_negative_in_penetration(two):
    assert margin(atom("far", "a", "b", 0.0), two.put("a", (0.4, 0.0, 0.16)).world) == pytest.approx(0.1, abs=1e-6)
    assert margin(atom("far", "a", "b", 0.0), two.put("a", (0.4, 0.0, 0.057)).world) == pytest.approx(-0.003, abs=1e-4)


def test_near_the_table(scene):
    s = scene(a="ball").put("a", (0.3, 0.3, 0.07))
    assert margin(atom("near", "a", "table", 0.06), s.world) == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "along", "across"),
    [
        ("left_of", (0, 1), (1, 0)),
        ("right_of", (0, -1), (1, 0)),
        ("front_of", (1, 0), (0, 1)),
        ("behind", (-1, 0), (0, 1)),
    ],
)
def test_directions_are_the_robots(two, name, along, across):
    def at(u, w):
        return two.put("a", (0.4 + u * along[0] + w * across[0], u * along[1] + w * across[1], 0.02))

    pred = atom(name, "a", "b")
    assert holds(pred, at(0.021, 0.0))
    assert not holds(pred, at(0.019, 0.0))
    assert holds(pred, at(0.15, 0.099))
    assert not holds(pred, at(0.15, 0.101))
    assert holds(pred, at(0.15, -0.099))
    assert not holds(pred, at(0.15, -0.101))
    assert not holds(pred, at(-0.1, 0.0))


@pytest.mark.parametrize(("card", "axis"), [("cylinder", (1, 0, 0)), ("bowl", (0, 1, 0)), ("beam", (1, 0, 0))])
def test_upright_ends_at_fifteen_degrees(scene, card, axis):
    s = scene(a=card)
    assert holds(atom("upright", "a"), s.put("a", (0, 0, 0.2), tilt=14.9 * DEG, axis=axis))
    assert not holds(atom("upright", "a"), s.put("a", (0, 0, 0.2), tilt=15.1 * DEG, axis=axis))


def test_upright_respects_symmetry(scene):
    s = scene(cube="block", beam="beam", bowl="bowl", ball="ball")
    for name in ("cube", "beam", "bowl", "ball"):
        s.put(name, (0, 0, 0.2), tilt=math.pi, axis=(1, 0, 0))
    assert [n for n in s.world.entities if holds(atom("upright", n), s)] == ["cube", "beam", "ball"]
    for name in ("cube", "beam", "bowl", "ball"):
        s.put(name, (0, 0, 0.2), tilt=math.pi / 2, axis=(1, 0, 0))
    assert [n for n in s.world.entities if holds(atom("upright", n), s)] == ["cube", "ball"]
    assert not holds(atom("upright", "cube"), s.put("cube", (0, 0, 0.2), tilt=15.1 * DEG))


def pose(x, y, z, yaw=0.0):
    return (x, y, z, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2))


def test_pose_at_bounds_position_and_rotation(scene):
    s = scene(a="beam").put("a", (0.4, 0.1, 0.02), tilt=0.5, axis=(0, 0, 1))
    assert holds(atom("pose_at", "a", pose(0.4, 0.114, 0.02, 0.5)), s)
    assert not holds(atom("pose_at", "a", pose(0.4, 0.116, 0.02, 0.5)), s)
    assert not holds(atom("pose_at", "a", pose(0.4, 0.1, 0.036, 0.5)), s)
    assert holds(atom("pose_at", "a", pose(0.4, 0.1, 0.02, 0.5 + 14.9 * DEG)), s)
    assert not holds(atom("pose_at", "a", pose(0.4, 0.1, 0.02, 0.5 + 15.1 * DEG)), s)


def test_pose_at_is_modulo_symmetry(scene):
    s = scene(cube="block", beam="beam", ball="ball", can="cylinder", tray="tray")
    for quarter, true in ((1, ["cube", "ball", "can"]), (2, ["cube", "beam", "ball", "can"])):
        for name in s.world.entities:
            s.put(name, (0, 0, 0.2))
        target = pose(0.0, 0.0, 0.2, quarter * math.pi / 2)
        assert [n for n in s.world.entities if holds(atom("pose_at", n, target), s)] == true


def test_symmetry_groups_are_groups_of_the_right_order():
    for name, order in (("none", 1), ("box", 4), ("square_prism", 8), ("cube", 24)):
        members = {tuple(m.ravel().round().astype(int)) for m in group(name)}
        assert len(members) == order
        assert all(np.linalg.det(m) == pytest.approx(1.0) for m in group(name))
        products = {tuple((p @ q).ravel().round().astype(int)) for p in group(name) for q in group(name)}
        assert products == members


def test_angle_modulo_an_axis_ignores_turns_about_it():
    assert angle_modulo(np.eye(3), pose(0, 0, 0, 2.0)[3:], "axial", (0.0, 0.0, 1.0)) == pytest.approx(0.0, abs=1e-6)
    assert angle_modulo(np.eye(3), pose(0, 0, 0, 2.0)[3:], "axial", (1.0, 0.0, 0.0)) == pytest.approx(2.0)


@pytest.fixture
def row(scene):
    s = scene(a="block", b="block", c="block")
    return s.put("a", (0.3, 0.0, 0.02)).put("b", (0.3, 0.06, 0.02)).put("c", (0.3, 0.12, 0.02))


ROW = ("a", "b", "c")


@pytest.mark.parametrize(("offset", "true"), [(0.029, True), (0.031, False)])
def test_aligned_measures_from_the_best_line(row, offset, true):
    """The middle block off by d: the best line halves it."""
    assert holds(atom("aligned", ROW), row.put("b", (0.3 + offset, 0.06, 0.02))) is true


@pytest.mark.parametrize(("d", "true"), [(0.081, True), (0.079, False)])
def test_spread_is_the_largest_distance(row, d, true):
    assert holds(atom("spread", ROW, d), row) is true


def test_aligned_and_spread_do_not_depend_on_the_order(row):
    row.put("b", (0.311, 0.063, 0.02)).put("a", (0.297, -0.013, 0.02), tilt=0.3, axis=(0, 0, 1))
    for build in (lambda p: atom("aligned", p), lambda p: atom("spread", p, 0.1)):
        assert len({margin(build(p), row.world) for p in itertools.permutations(ROW)}) == 1


def test_aligned_does_not_depend_on_the_direction_of_the_line(scene):
    s = scene(a="block", b="block", c="block")
    margins = []
    for angle in np.linspace(0.0, math.pi, 13):
        points = ((-0.1, 0.0), (0.02, 0.018), (0.1, -0.004))
        for name, (u, v) in zip(ROW, points, strict=True):
            x, y = u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle)
            s.put(name, (x, y, 0.02))
        margins.append(margin(atom("aligned", ROW), s.world))
    assert margins == pytest.approx([margins[0]] * len(margins), abs=1e-9)


def test_two_objects_in_one_place_are_aligned(scene):
    s = scene(a="block", b="block").put("a", (0, 0, 0.02)).put("b", (0, 0, 0.06))
    assert margin(atom("aligned", ("a", "b")), s.world) == pytest.approx(0.015)


def test_sorted_needs_a_centimetre_between_neighbours(row):
    assert holds(atom("sorted", ROW, LEFT), row)
    assert not holds(atom("sorted", ROW, (0.0, -2.0)), row)
    assert not holds(atom("sorted", ROW, FRONT), row)
    assert holds(atom("sorted", ROW, LEFT), row.put("b", (0.3, 0.011, 0.02)))
    assert not holds(atom("sorted", ROW, LEFT), row.put("b", (0.3, 0.009, 0.02)))


def test_every_relation_is_invariant_to_moving_the_scene(scene):
    preds = [
        atom("on", "a", "p"),
        atom("on", "a", "b"),
        atom("in", "a", "bowl"),
        atom("near", "a", "bowl", 0.1),
        atom("left_of", "a", "bowl"),
        atom("behind", "a", "b"),
        atom("above", "a", "b"),
        atom("upright", "a"),
        atom("aligned", ("a", "b", "p")),
        atom("spread", ("a", "b", "bowl"), 0.3),
        atom("sorted", ("a", "b", "p"), (1.0, 1.0)),
        atom("touching", "b", "table"),
    ]
    places = {"a": (0.31, 0.02, 0.031), "b": (0.28, 0.1, 0.0195), "p": (0.3, 0.0, 0.005), "bowl": (0.5, -0.1, 0.0)}
    s = scene(a="block", b="block", p="plate", bowl="bowl")
    rows = []
    for dx, dy in ((0.0, 0.0), (0.2, -0.3), (-0.41, 0.07)):
        for name, (x, y, z) in places.items():
            s.put(name, (x + dx, y + dy, z), tilt=0.1, axis=(0, 0, 1))
        rows.append([margin(p, s.world) for p in preds])
    assert np.allclose(rows[0], rows[1], atol=1e-6)
    assert np.allclose(rows[0], rows[2], atol=1e-6)
