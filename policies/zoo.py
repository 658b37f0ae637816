"""All policies by name: the table that the trainer and the checkpoints look names up in."""

from policies.base import PolicyRecord
from policies.beso import BesoCfg, BesoPolicy
from policies.carp import TOKEN_SAMPLERS, CarpCfg, CarpPolicy
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.lerobot import LerobotActCfg, LerobotDiffusionCfg, build_act, build_diffusion
from policies.samplers import SAMPLERS
from policies.samplers.karras import KARRAS_SAMPLERS
from policies.streaming import StreamingCfg, StreamingPolicy
from robostack.registry import Registry

POLICIES: Registry[PolicyRecord] = Registry("policy")
POLICIES.add("diffusion_unet", PolicyRecord(cfg=DiffusionCfg, build=DiffusionPolicy, samplers=SAMPLERS))
POLICIES.add("streaming", PolicyRecord(cfg=StreamingCfg, build=StreamingPolicy))
POLICIES.add("carp", PolicyRecord(cfg=CarpCfg, build=CarpPolicy, samplers=TOKEN_SAMPLERS))
POLICIES.add("beso", PolicyRecord(cfg=BesoCfg, build=BesoPolicy, samplers=KARRAS_SAMPLERS))
POLICIES.add("lerobot_act", PolicyRecord(cfg=LerobotActCfg, build=build_act))
POLICIES.add("lerobot_diffusion", PolicyRecord(cfg=LerobotDiffusionCfg, build=build_diffusion))
