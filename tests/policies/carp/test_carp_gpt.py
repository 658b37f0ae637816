import pytest
import torch

from policies.carp.gpt import GptCfg, ScaleGpt, scale_mask
from robostack.errors import ConfigError

PATCHES, DA = (1, 2, 3), 3


@pytest.fixture(params=[0, 24], ids=["start_token", "wide_condition"])
def gpt(request):
    torch.manual_seed(0)
    cfg = GptCfg(depth=3, width=16, heads=4, gate=1.0, condition=request.param)
    gpt = ScaleGpt(DA, 11, PATCHES, codes=16, code_dim=4, cfg=cfg).eval()
    with torch.no_grad():
        gpt.head.weight.mul_(50)  # Begins near zero, where every difference would be invisible.
    return gpt


def inputs(gpt, B=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    start, modulation = gpt.condition(torch.randn(B, 11, generator=g))
    coarse = [torch.randn(B, DA, 4, p, generator=g) for p in PATCHES[1:]]
    return [gpt.first(start), *(gpt.tokens(h, s + 1) for s, h in enumerate(coarse))], modulation


def test_the_cache_gives_what_a_full_recomputation_gives(gpt):
    scales, modulation = inputs(gpt)
    whole, _ = gpt(torch.cat(scales, dim=1), modulation)
    cache, parts = None, []
    for x in scales:
        logits, cache = gpt(x, modulation, cache)
        parts.append(logits)
    assert whole.std() > 0.05
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-4)


def test_a_scale_sees_itself_and_those_before_and_none_after(gpt):
    scales, modulation = inputs(gpt)
    whole, _ = gpt(torch.cat(scales, dim=1), modulation)
    bounds = [0, 3, 9, 18]
    for changed in range(3):
        other = [x + (s == changed) * torch.randn(1, 1, 16) for s, x in enumerate(scales)]
        difference = (gpt(torch.cat(other, dim=1), modulation)[0] - whole).abs().amax((0, 2))
        for s in range(3):
            moved = difference[bounds[s] : bounds[s + 1]] > 1e-6
            assert moved.all() if s >= changed else not moved.any()


def test_within_a_scale_all_tokens_see_each_other(gpt):
    scales, modulation = inputs(gpt)
    whole, _ = gpt(torch.cat(scales, dim=1), modulation)
    scales[2][:, -1] += torch.randn(16)
    changed, _ = gpt(torch.cat(scales, dim=1), modulation)
    assert ((changed - whole).abs().amax((0, 2))[9:] > 1e-6).all()


def test_the_mask_is_block_causal():
    wanted = [[1, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert scale_mask((1, 2)).int().tolist() == wanted


def test_tokens_are_ordered_by_position_then_dimension(gpt):
    latent = torch.zeros(1, DA, 4, 2)
    base = gpt.tokens(latent, 1)
    latent[0, 2, :, 1] = 1.0  # Dimension 2 of position 1.
    moved = (gpt.tokens(latent, 1) - base).abs().amax((0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [1 * DA + 2]


def test_the_observation_reaches_every_scale(gpt):
    scales, modulation = inputs(gpt)
    whole, _ = gpt(torch.cat(scales, dim=1), modulation)
    _, other = gpt.condition(torch.randn(2, 11))
    assert ((gpt(torch.cat(scales, dim=1), other)[0] - whole).abs().amax((0, 2)) > 1e-4).all()


@pytest.mark.parametrize("values", [{"width": 10, "heads": 4}, {"depth": 0}])
def test_sizes_that_cannot_work_are_refused(values):
    with pytest.raises(ConfigError, match="must divide width"):
        GptCfg(**values)
    with pytest.raises(ConfigError, match=r"condition=-1 must be a width, or 0"):
        GptCfg(condition=-1)
