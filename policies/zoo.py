"""All policies by name: the table that the trainer and the checkpoints look names up in."""

from typing import Any, Protocol, runtime_checkable

from policies.base import PolicyRecord
from policies.beso import BesoCfg, BesoPolicy
from policies.carp import TOKEN_SAMPLERS, CarpCfg, CarpPolicy
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.lerobot import ACT_SAMPLERS, LerobotActCfg, LerobotDiffusionCfg, build_act, build_diffusion
from policies.samplers import ONE_STEP_SAMPLERS, SAMPLERS
from policies.samplers.karras import KARRAS_SAMPLERS
from policies.streaming import StreamingCfg, StreamingPolicy
from robostack.registry import Registry

OWN_SAMPLER = "own"
"""Name of whatever sampler a policy is configured with."""


@runtime_checkable
class Choosy(Protocol):
    """A configuration with which not every sampler of its policy fits."""

    def require_sampler(self, name: str) -> None:
        """Raise UnknownName or ConfigError."""
        ...


POLICIES: Registry[PolicyRecord] = Registry("policy")
POLICIES.add("diffusion_unet", PolicyRecord(cfg=DiffusionCfg, build=DiffusionPolicy, samplers=SAMPLERS))
POLICIES.add(
    "diffusion_transformer",
    PolicyRecord(cfg=DiffusionTransformerCfg, build=DiffusionPolicy, samplers=SAMPLERS),
)
POLICIES.add("streaming", PolicyRecord(cfg=StreamingCfg, build=StreamingPolicy, samplers=ONE_STEP_SAMPLERS))
POLICIES.add("carp", PolicyRecord(cfg=CarpCfg, build=CarpPolicy, samplers=TOKEN_SAMPLERS))
POLICIES.add("beso", PolicyRecord(cfg=BesoCfg, build=BesoPolicy, samplers=KARRAS_SAMPLERS))
POLICIES.add("lerobot_act", PolicyRecord(cfg=LerobotActCfg, build=build_act, samplers=ACT_SAMPLERS))
POLICIES.add(
    "lerobot_diffusion",
    PolicyRecord(cfg=LerobotDiffusionCfg, build=build_diffusion, samplers=ONE_STEP_SAMPLERS),
)


def require_sampler(policy: str, cfg: Any, sampler: str) -> None:
    """Refuse before a training what acting with its policy would refuse; ``own`` is always right.

    Raises:
        UnknownName: a sampler of other policies; lists those of this one.
        ConfigError: one that does not fit the configuration.
    """
    if sampler == OWN_SAMPLER:
        return
    _ = POLICIES[policy].samplers[sampler]
    if isinstance(cfg, Choosy):
        cfg.require_sampler(sampler)
