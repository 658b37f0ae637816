import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robostack.errors import InvalidAction
from robostack.sim.rotation import canonical_rotation, rot6d, rot_from_6d, yaw_rotation
from robostack.task.symmetry import group

FINITE = ("none", "cube", "box", "square_prism")
quaternions = arrays(float, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1)


def rotation(quat):
    w, x, y, z = quat / np.linalg.norm(quat)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def is_rotation(rot, atol=1e-9):
    return np.allclose(rot.T @ rot, np.eye(3), atol=atol) and np.linalg.det(rot) > 0


@given(quaternions)
def test_rot6d_loses_nothing(quat):
    rot = rotation(quat)
    assert np.allclose(rot_from_6d(rot6d(rot)), rot, atol=1e-12)


@given(arrays(float, 6, elements=st.floats(-1e3, 1e3)))
def test_any_six_numbers_give_a_rotation_or_a_refusal(values):
    try:
        rot = rot_from_6d(values)
    except InvalidAction:
        a, b = values[:3], values[3:]
        assert np.linalg.norm(a) < 1e-6 or np.linalg.norm(np.cross(a, b)) < 1.1e-6 * np.linalg.norm(a)
    else:
        assert is_rotation(rot, atol=1e-6)  # nearly parallel columns cost digits


@pytest.mark.parametrize("values", [[0] * 6, [1, 0, 0, 2, 0, 0], [1e200, 0, 0, 0, 1e200, 0], [1e-9, 0, 0, 0, 1, 0]])
def test_degenerate_columns_are_refused_with_the_fix(values):
    with pytest.raises(InvalidAction, match="send the first two columns of a rotation matrix"):
        rot_from_6d(np.array(values, float))


@pytest.mark.parametrize("symmetry", FINITE)
@given(quat=quaternions, data=st.data())
def test_equivalent_orientations_have_one_canonical_form(symmetry, quat, data):
    rot = rotation(quat)
    scores = np.sort([np.trace(rot @ g) for g in group(symmetry)])
    if len(scores) > 1 and scores[-1] - scores[-2] < 1e-6:
        return  # on the border between two equivalents either is nearest
    element = data.draw(st.sampled_from(list(group(symmetry))))
    canonical = canonical_rotation(rot, symmetry)
    assert np.allclose(canonical_rotation(rot @ element, symmetry), canonical, atol=1e-9)
    assert np.allclose(canonical_rotation(canonical, symmetry), canonical, atol=1e-9)
    assert any(np.allclose(rot @ g, canonical, atol=1e-9) for g in group(symmetry))


@given(quat=quaternions, yaw=st.floats(-7, 7))
def test_axial_objects_show_their_tilt_but_not_their_spin(quat, yaw):
    rot = rotation(quat)
    canonical = canonical_rotation(rot, "axial")
    assert is_rotation(canonical)
    assert np.allclose(canonical[:, 2], rot[:, 2], atol=1e-9 if rot[2, 2] > -0.9999 else 2e-3)  # singular upside down
    if rot[2, 2] > -0.999:
        assert np.allclose(canonical_rotation(rot @ yaw_rotation(yaw), "axial"), canonical, atol=1e-6)
        assert np.allclose(canonical_rotation(canonical, "axial"), canonical, atol=1e-6)


@given(quaternions)
def test_a_sphere_has_no_orientation(quat):
    assert np.array_equal(canonical_rotation(rotation(quat), "sphere"), np.eye(3))


@given(quaternions)
def test_the_canonical_form_of_a_cube_is_within_its_fundamental_zone(quat):
    angle = np.arccos(np.clip((np.trace(canonical_rotation(rotation(quat), "cube")) - 1) / 2, -1, 1))
    assert angle <= np.deg2rad(62.8)  # the largest disorientation of the cubic group
