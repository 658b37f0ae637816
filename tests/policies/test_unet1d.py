import pytest
import torch

from policies.networks.unet1d import PAPER, ConditionalUnet1D, SinusoidalPosEmb, UnetCfg
from robostack.errors import ConfigError

SMALL = UnetCfg((8, 16, 32), kernel=5, groups=8, step_dim=16)


def block_shapes(name, cin, cout, cond, kernel):
    shapes = {f"{name}.cond_encoder.1.weight": (2 * cout, cond), f"{name}.cond_encoder.1.bias": (2 * cout,)}
    for i, width in enumerate((cin, cout)):
        shapes |= {
            f"{name}.blocks.{i}.block.0.weight": (cout, width, kernel),
            f"{name}.blocks.{i}.block.0.bias": (cout,),
        }
        shapes |= {f"{name}.blocks.{i}.block.1.weight": (cout,), f"{name}.blocks.{i}.block.1.bias": (cout,)}
    if cin != cout:
        shapes |= {f"{name}.residual_conv.weight": (cout, cin, 1), f"{name}.residual_conv.bias": (cout,)}
    return shapes


def official_shapes(da, cond, dims, kernel, d):
    """State dict of the authors' ConditionalUnet1D, written down from its structure."""
    shapes = {}
    for i, (a, b) in ((1, (d, 4 * d)), (3, (4 * d, d))):
        name = f"diffusion_step_encoder.{i}"
        shapes |= {f"{name}.weight": (b, a), f"{name}.bias": (b,)}
    width, last = d + cond, len(dims) - 1
    for i, (a, b) in enumerate(zip([da, *dims], dims, strict=False)):
        shapes |= block_shapes(f"down_modules.{i}.0", a, b, width, kernel)
        shapes |= block_shapes(f"down_modules.{i}.1", b, b, width, kernel)
        if i < last:
            shapes |= {f"down_modules.{i}.2.conv.weight": (b, b, 3), f"down_modules.{i}.2.conv.bias": (b,)}
    for i in range(2):
        shapes |= block_shapes(f"mid_modules.{i}", dims[-1], dims[-1], width, kernel)
    for i in range(last):
        a, b = dims[last - i], dims[last - i - 1]
        shapes |= block_shapes(f"up_modules.{i}.0", 2 * a, b, width, kernel)
        shapes |= block_shapes(f"up_modules.{i}.1", b, b, width, kernel)
        shapes |= {f"up_modules.{i}.2.conv.weight": (b, b, 4), f"up_modules.{i}.2.conv.bias": (b,)}
    c = dims[0]
    shapes |= {"final_conv.0.block.0.weight": (c, c, kernel), "final_conv.0.block.0.bias": (c,)}
    shapes |= {"final_conv.0.block.1.weight": (c,), "final_conv.0.block.1.bias": (c,)}
    return shapes | {"final_conv.1.weight": (da, c, 1), "final_conv.1.bias": (da,)}


@pytest.mark.parametrize(("dims", "d"), [((8, 16, 32), 16), ((16, 32), 8), ((8,), 4)])
def test_the_state_dict_has_the_official_names_and_shapes(dims, d):
    net = ConditionalUnet1D(10, 46, UnetCfg(dims, kernel=5, groups=8, step_dim=d))
    assert {name: tuple(p.shape) for name, p in net.state_dict().items()} == official_shapes(10, 46, dims, 5, d)


def test_the_official_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = ConditionalUnet1D(10, 46, PAPER)  # robomimic Can: 23 observed numbers, 2 steps.
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(65.88, abs=0.3)


@pytest.mark.parametrize("Tp", [4, 8, 16])
def test_the_output_has_the_shape_of_the_input(Tp):
    net = ConditionalUnet1D(3, 5, SMALL)
    assert net(torch.zeros(2, Tp, 3), torch.tensor([0, 99]), torch.zeros(2, 5)).shape == (2, Tp, 3)


def test_a_horizon_that_cannot_be_halved_is_refused_with_one_that_can():
    SMALL.check_horizon(16)
    with pytest.raises(ConfigError, match=r"Tp=14 is not divisible by 4.*use Tp=16"):
        SMALL.check_horizon(14)


@pytest.mark.parametrize(
    ("values", "culprit"),
    [({"down_dims": (12,)}, "down_dims"), ({"down_dims": ()}, "down_dims"), ({"kernel": 4}, "kernel"),
     ({"step_dim": 5}, "step_dim")],
)  # fmt: skip
def test_sizes_that_cannot_be_built_are_refused(values, culprit):
    with pytest.raises(ConfigError, match=f"network.{culprit}"):
        UnetCfg(**values)


def test_the_step_embedding_is_sines_then_cosines():
    e = SinusoidalPosEmb(8)(torch.tensor([0, 7]))
    torch.testing.assert_close(e[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    freqs = torch.tensor([1, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(e[1], torch.cat([(7 * freqs).sin(), (7 * freqs).cos()]))


def test_every_parameter_receives_a_gradient():
    torch.manual_seed(0)
    net = ConditionalUnet1D(3, 5, SMALL)
    net(torch.randn(2, 8, 3), torch.tensor([3, 50]), torch.randn(2, 5)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.slow
def test_outputs_equal_those_of_an_independent_implementation_with_the_same_weights():
    lerobot = pytest.importorskip("lerobot.policies.diffusion.modeling_diffusion")
    config = pytest.importorskip("lerobot.policies.diffusion.configuration_diffusion").DiffusionConfig()
    config.down_dims, config.n_groups, config.kernel_size, config.diffusion_step_embed_dim = SMALL.down_dims, 8, 5, 16
    types = pytest.importorskip("lerobot.configs.types")
    config.output_features = {"action": types.PolicyFeature(type=types.FeatureType.ACTION, shape=(3,))}
    other = lerobot.DiffusionConditionalUnet1d(config, global_cond_dim=5)
    mine = ConditionalUnet1D(3, 5, SMALL)
    other.load_state_dict({_their_name(name): value for name, value in mine.state_dict().items()})
    x, k, cond = torch.randn(2, 8, 3), torch.tensor([0, 42]), torch.randn(2, 5)
    torch.testing.assert_close(mine(x, k, cond), other(x, k, cond), atol=1e-5, rtol=1e-5)


def _their_name(name):
    name = name.replace("blocks.0.block", "conv1.block").replace("blocks.1.block", "conv2.block")
    return name.replace(".2.conv.", ".2.")
