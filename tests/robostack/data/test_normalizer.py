import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from robostack.data.normalizer import MODES, Normalizer
from robostack.errors import ConfigError, DataError

VALUES = st.floats(-100, 100, width=32)


@given(x=np_arrays(np.float32, (7, 3), elements=VALUES), mode=st.sampled_from(MODES))
@settings(max_examples=60, deadline=None)
def test_unnormalize_inverts_normalize(x, mode):
    n = Normalizer.fit(x, mode)
    span = np.abs(x).max() + 1
    np.testing.assert_allclose(n.unnormalize(n.normalize(x)), x, atol=1e-5 * span, rtol=1e-4)


def test_limits_map_every_column_onto_minus_one_to_one():
    x = np.random.default_rng(0).normal(3, [0.1, 5, 100], size=(50, 3)).astype(np.float32)
    y = Normalizer.fit(x, "limits").normalize(x)
    np.testing.assert_allclose(y.min(axis=0), -1, atol=1e-4)
    np.testing.assert_allclose(y.max(axis=0), 1, atol=1e-4)


def test_gaussian_gives_zero_mean_and_unit_deviation():
    x = np.random.default_rng(0).normal(3, 5, size=(4, 50, 2)).astype(np.float32)
    y = Normalizer.fit(x, "gaussian").normalize(x).reshape(-1, 2)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("mode", ["limits", "gaussian"])
def test_a_column_without_range_is_centred_and_not_scaled(mode):
    x = np.full((20, 1), 0.7, np.float32) + np.linspace(0, 5e-5, 20, dtype=np.float32)[:, None]
    n = Normalizer.fit(x, mode)
    assert n.scale == 1.0
    assert np.abs(n.normalize(x)).max() < 1e-4


def test_modes_may_differ_by_column():
    x = np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)
    np.testing.assert_allclose(Normalizer.fit(x, ["limits", "identity"]).normalize(x), [[-1, 2], [1, 6]])


def test_no_columns_at_all_are_allowed():
    assert Normalizer.fit(np.zeros((5, 0), np.float32)).scale.shape == (0,)


def test_a_dict_round_trip_changes_nothing():
    n = Normalizer.fit(np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32))
    again = Normalizer.from_dict(n.to_dict())
    np.testing.assert_array_equal(again.scale, n.scale)
    np.testing.assert_array_equal(again.offset, n.offset)


def test_an_unknown_mode_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'minmax'.*limits, gaussian, identity"):
        Normalizer.fit(np.zeros((3, 1), np.float32), "minmax")


@pytest.mark.parametrize("x", [np.zeros((0, 2)), np.array([[1.0], [np.nan]])])
def test_data_that_is_empty_or_holds_nan_is_refused(x):
    with pytest.raises(DataError, match="empty or holds NaN"):
        Normalizer.fit(x)
