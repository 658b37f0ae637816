"""Convolutional networks from a picture to a grid of features.

Their normalisation is over groups of 16 channels: statistics of batches and averaged weights do not go together (Chi et
al., arXiv 2303.04137).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robostack.errors import CheckpointError
from robostack.registry import Registry

_OF_BATCHES = ("running_mean", "running_var", "num_batches_tracked")


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of 16 channels."""
    return nn.GroupNorm(max(1, channels // 16), channels)


@dataclass(frozen=True)
class Backbone:
    """A kind of network.

    Attributes:
        build: makes one with new weights.
        channels: of its grid.
        stride: pixels per cell of its grid.
    """

    build: Callable[[], nn.Module]
    channels: int
    stride: int


class SmallCnn(nn.Sequential):
    """Three convolutions, 15 thousand parameters: trains in minutes on a processor."""

    def __init__(self):
        layers: list[nn.Module] = []
        for cin, cout, kernel, stride in ((3, 16, 5, 2), (16, 32, 3, 2), (32, 32, 3, 1)):
            conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
            layers += [conv, group_norm(cout), nn.ReLU()]
        super().__init__(*layers)


class ResNet18(nn.Module):
    """torchvision's ResNet18 (He et al., arXiv 1512.03385) without pooling and classifier; its parameter names."""

    def __init__(self):
        super().__init__()
        from torchvision.models import resnet18

        whole = resnet18(weights=None, norm_layer=group_norm)
        for name, module in whole.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
        """The grid of features."""
        for module in self.children():
            x = module(x)
        return x


BACKBONES: Registry[Backbone] = Registry("backbone")
BACKBONES.add("small", Backbone(SmallCnn, channels=32, stride=4))
BACKBONES.add("resnet18", Backbone(ResNet18, channels=512, stride=32))


def load_weights(network: nn.Module, path: str) -> None:
    """Begin with the weights of a safetensors file, such as torchvision's of a ResNet18.

    A classifier and the statistics of batches are left out; scales and biases of batch norms go to the group norms.

    Raises:
        CheckpointError: no such file, a damaged one, or weights of another network.
    """
    try:
        given = load_file(Path(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"image.weights={path} cannot be read ({error}): pass a safetensors file") from error
    kept = {name: t for name, t in given.items() if not name.startswith("fc.") and not name.endswith(_OF_BATCHES)}
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    for name in [*expected, *kept]:
        found = tuple(kept[name].shape) if name in kept else "missing"
        if expected.get(name) != found:
            raise CheckpointError(
                f"image.weights={path} does not fit the backbone: '{name}' is {found} there, "
                f"{expected.get(name, 'missing')} here: choose the image.backbone that they were made for"
            )
    with torch.no_grad():
        network.load_state_dict(kept)
