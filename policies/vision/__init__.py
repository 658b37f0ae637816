"""What policies make of pictures and point clouds."""

from policies.vision.images import ImageCfg, ImageEncoder
from policies.vision.points import PointEncoder, PointsCfg

__all__ = ["ImageCfg", "ImageEncoder", "PointEncoder", "PointsCfg"]
