"""Pictures as a part of the context: crop, convolve, and tell where things are.

After Chi et al. (arXiv 2303.04137): one network per camera, trained with the policy, whose last grid is read by a
spatial softmax (Finn et al., arXiv 1509.06113): each channel becomes the mean position of what it responds to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from policies.context import ContextPart, View
from policies.vision.backbones import BACKBONES, load_weights
from robostack.errors import ConfigError

PIXELS = {
    "unit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""What is taken from pixels in [0, 1], and what they are divided by: ``unit`` makes [-1, 1] of them."""


@dataclass(frozen=True)
class ImageCfg:
    """How a policy looks at pictures.

    Attributes:
        cameras: whose pictures.
        backbone: ``small``, or the paper's ``resnet18``.
        crop: share of height and width that is looked at, anywhere in training, in the middle otherwise; 1 is all.
        pixels: how they become numbers: ``unit`` or ``imagenet``.
        shared: one network for all cameras, instead of one each.
        keypoints: positions per picture.
        width: of the vector made from them.
        weights: safetensors file that the backbone begins with; None for random weights.
    """

    cameras: Sequence[str] = ("front",)
    backbone: str = "small"
    crop: float = 0.875
    pixels: str = "unit"
    shared: bool = False
    keypoints: int = 32
    width: int = 64
    weights: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "cameras", tuple(str(c) for c in self.cameras))
        BACKBONES[self.backbone]
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ConfigError(f"image.cameras={list(self.cameras)} must be names of different cameras, at least one")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"image.crop={self.crop} must be in (0, 1]: the share of a picture that is looked at")
        if self.pixels not in PIXELS:
            raise ConfigError(f"unknown image.pixels '{self.pixels}': use one of {', '.join(PIXELS)}")
        if self.keypoints < 1 or self.width < 1:
            raise ConfigError(f"image.keypoints={self.keypoints} and image.width={self.width} must be at least 1")

    def cropped(self, name: str, height: int, width: int) -> tuple[int, int]:
        """Size of what is looked at; raises ConfigError where the backbone would make less than 2 x 2 cells of it."""
        size, least = (round(self.crop * height), round(self.crop * width)), 2 * BACKBONES[self.backbone].stride
        if min(size) < least:
            raise ConfigError(
                f"camera '{name}' is {width}x{height}, of which image.crop={self.crop} leaves {size[1]}x{size[0]}: "
                f"image.backbone={self.backbone} needs {least}x{least}; record larger pictures"
            )
        return size


class SpatialSoftmax(nn.Module):
    """Mean position (x, y) in [-1, 1] of each channel's activation, after a 1 x 1 convolution to as many channels."""

    def __init__(self, channels: int, keypoints: int):
        super().__init__()
        self.channels = nn.Conv2d(channels, keypoints, 1)

    def forward(self, grid: Float[Tensor, "N C h w"]) -> Float[Tensor, "N K 2"]:
        """One position per keypoint."""
        logits = self.channels(grid).float()
        share = logits.flatten(2).softmax(dim=2).view_as(logits)
        x, y = (torch.linspace(-1, 1, n, device=grid.device) for n in (logits.shape[3], logits.shape[2]))
        return torch.stack([(share.sum(2) * x).sum(2), (share.sum(3) * y).sum(2)], dim=2)


class Eye(nn.Module):
    """From a picture, normalised and cropped, to a vector."""

    def __init__(self, cfg: ImageCfg):
        super().__init__()
        backbone = BACKBONES[cfg.backbone]
        self.backbone = backbone.build()
        self.pool = SpatialSoftmax(backbone.channels, cfg.keypoints)
        self.head = nn.Linear(2 * cfg.keypoints, cfg.width)

    def forward(self, pictures: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N F"]:
        """One vector per picture."""
        return self.head(self.pool(self.backbone(pictures)).flatten(1))


class ImageEncoder(ContextPart):
    """The vectors of all cameras at all steps."""

    mean: Tensor
    std: Tensor

    def __init__(self, cfg: ImageCfg, cameras: Sequence[tuple[str, int, int]], To: int):
        """Build for (name, height, width) cameras; raises ConfigError where one is too small."""
        super().__init__()
        self.cfg = cfg
        self.sizes = {name: cfg.cropped(name, height, width) for name, height, width in cameras}
        self.eyes = nn.ModuleList(Eye(cfg) for _ in range(1 if cfg.shared else len(cameras)))
        mean, std = PIXELS[cfg.pixels]
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None], persistent=False)
        self.width = To * len(cameras) * cfg.width

    def prepare(self, view: View) -> None:
        """Load the weights that the backbones begin with."""
        del view  # Unused.
        if self.cfg.weights is not None:
            for eye in self.eyes:
                load_weights(eye.get_submodule("backbone"), self.cfg.weights)

    def forward(self, view: View, generator: torch.Generator | None = None) -> Float[Tensor, "B C"]:
        """Vectors of all steps, oldest first; within a step in the order of the cameras."""
        seen = []
        for i, (name, size) in enumerate(self.sizes.items()):
            images = view.observed.images[name]
            offsets = random_offsets(images, size, generator) if self.training and generator is not None else None
            pictures = crop(images, size, offsets).flatten(0, 1).movedim(-1, 1)  # channels last in memory
            vectors = self.eyes[0 if self.cfg.shared else i]((pictures - self.mean) / self.std)
            seen.append(vectors.unflatten(0, images.shape[:2]))
        return torch.cat(seen, dim=2).flatten(1)


def random_offsets(
    images: UInt8[Tensor, "B To H W 3"], size: tuple[int, int], generator: torch.Generator
) -> Int[Tensor, "B 2"]:
    """Corner of a crop for each sample, anywhere that it fits; the same for all of a sample's steps."""
    free = (images.shape[2] - size[0], images.shape[3] - size[1])
    drawn = [torch.randint(n + 1, (len(images),), generator=generator) for n in free]
    return torch.stack(drawn, dim=1).to(images.device)


def crop(
    images: UInt8[Tensor, "B To H W 3"], size: tuple[int, int], offsets: Int[Tensor, "B 2"] | None
) -> UInt8[Tensor, "B To h w 3"]:
    """Parts of pictures: at each sample's own corner, or the middle without any."""
    h, w = size
    if offsets is None:
        top, left = (images.shape[2] - h) // 2, (images.shape[3] - w) // 2
        return images[:, :, top : top + h, left : left + w]
    device = images.device
    rows = offsets[:, 0, None] + torch.arange(h, device=device)
    columns = offsets[:, 1, None] + torch.arange(w, device=device)
    sample = torch.arange(len(images), device=device)[:, None, None, None]
    step = torch.arange(images.shape[1], device=device)[None, :, None, None]
    return images[sample, step, rows[:, None, :, None], columns[:, None, None, :]]
