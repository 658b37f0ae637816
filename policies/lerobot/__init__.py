"""lerobot's policies behind our interface: their networks, losses and normalisers, our trainer, seeds and checkpoints.

Importing this loads neither lerobot nor its models, which costs seconds; building a policy does.
"""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from policies.base import TrainablePolicy
from policies.lerobot.cfg import ACT_SAMPLERS, LerobotActCfg, LerobotDiffusionCfg
from robostack.errors import MissingExtra
from robostack.types import Features

__all__ = ["ACT_SAMPLERS", "LerobotActCfg", "LerobotDiffusionCfg", "build_act", "build_diffusion"]


def build_act(cfg: LerobotActCfg, features: Features) -> TrainablePolicy:
    """An untrained ``policies.lerobot.act.LerobotAct``; raises MissingExtra without lerobot."""
    return _load("act").LerobotAct(cfg, features)


def build_diffusion(cfg: LerobotDiffusionCfg, features: Features) -> TrainablePolicy:
    """An untrained ``policies.lerobot.diffusion.LerobotDiffusion``; raises MissingExtra without lerobot."""
    return _load("diffusion").LerobotDiffusion(cfg, features)


def _load(name: str) -> ModuleType:
    """A module of this package that needs lerobot, without its dependencies' warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"policies.lerobot.{name}")
        except ImportError as error:
            raise MissingExtra("lerobot", "train") from error
