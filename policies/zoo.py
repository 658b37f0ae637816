"""All policies by name: the table that the trainer and the checkpoints look names up in."""

from policies.base import PolicyRecord
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.streaming import StreamingCfg, StreamingPolicy
from robostack.registry import Registry

POLICIES: Registry[PolicyRecord] = Registry("policy")
POLICIES.add("diffusion_unet", PolicyRecord(cfg=DiffusionCfg, build=DiffusionPolicy))
POLICIES.add("diffusion_transformer", PolicyRecord(cfg=DiffusionTransformerCfg, build=DiffusionPolicy))
POLICIES.add("streaming", PolicyRecord(cfg=StreamingCfg, build=StreamingPolicy))
