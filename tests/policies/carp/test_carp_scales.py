import pytest
import torch
import torch.nn.functional as F

from policies.carp.scales import area_matrix, bicubic_matrix

SHAPES = [(1, 1), (4, 1), (4, 2), (4, 3), (4, 4), (8, 3), (8, 5), (9, 4)]


@pytest.mark.parametrize(("length", "size"), SHAPES)
def test_area_matrices_are_torchs_area_interpolation(length, size):
    x = torch.randn(3, 5, length)
    torch.testing.assert_close(x @ area_matrix(length, size), F.interpolate(x, size=size, mode="area"))


@pytest.mark.parametrize(("length", "size"), SHAPES)
def test_bicubic_matrices_are_torchs_bicubic_interpolation_along_one_axis(length, size):
    x = torch.randn(3, 5, size)
    wanted = F.interpolate(x[..., None], size=(length, 1), mode="bicubic", align_corners=False)[..., 0]
    torch.testing.assert_close(x @ bicubic_matrix(size, length), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 4, 7])
def test_at_equal_resolution_both_change_nothing(length):
    torch.testing.assert_close(area_matrix(length, length), torch.eye(length))
    torch.testing.assert_close(bicubic_matrix(length, length), torch.eye(length))


@pytest.mark.parametrize(("length", "size"), SHAPES)
def test_constants_stay_constant(length, size):
    torch.testing.assert_close(area_matrix(length, size).sum(0), torch.ones(size))
    torch.testing.assert_close(bicubic_matrix(size, length).sum(0), torch.ones(length))
