"""All policies by name: the table that the trainer and the checkpoints look names up in."""

from policies.base import PolicyRecord
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.lerobot import LerobotActCfg, LerobotDiffusionCfg, build_act, build_diffusion
from robostack.registry import Registry

POLICIES: Registry[PolicyRecord] = Registry("policy")
POLICIES.add("diffusion_unet", PolicyRecord(cfg=DiffusionCfg, build=DiffusionPolicy))
POLICIES.add("lerobot_act", PolicyRecord(cfg=LerobotActCfg, build=build_act))
POLICIES.add("lerobot_diffusion", PolicyRecord(cfg=LerobotDiffusionCfg, build=build_diffusion))
