"""Samplers by name. DDIM-10 is the baseline that every other sampler is compared with."""

from policies.samplers.bac import Bac
from policies.samplers.base import Denoiser, Sampler, SamplerState
from policies.samplers.diffusion import DDIM, DDPM, Ladder, OneStep
from policies.samplers.dpmpp import DPMpp
from policies.samplers.noise import LaneNoise, seeded
from policies.samplers.rti import RTI
from policies.samplers.schedule import NoiseSchedule
from policies.samplers.ticks import BacTicks
from robostack.registry import Registry

SAMPLERS: Registry[Sampler] = Registry("sampler")
for _steps in (10, 100):
    SAMPLERS.add(f"ddpm{_steps}", DDPM(_steps))
for _steps in (1, 2, 5, 10, 16, 20, 50, 100):
    SAMPLERS.add(f"ddim{_steps}", DDIM(_steps))
for _steps in (2, 3, 5, 8, 10, 15, 20):
    SAMPLERS.add(f"dpmpp{_steps}", DPMpp(_steps))
SAMPLERS.add("rti", RTI())  # A checkpoint's own plan takes its place; see policies.accel.rti_auto.
for _list in ((2, 1, 0), (5, 3, 2, 1, 0), (15, 13, 11, 9, 7, 5, 3, 2, 1, 0)):  # Lists of the paper's implementation.
    SAMPLERS.add(f"rti{len(_list)}", RTI(_list, mode="heuristic"))

SAMPLERS.add("bac", Bac(DDIM(10)))
SAMPLERS.add("rti_bac", Bac(RTI(), share=0.5))  # Likewise over the checkpoint's own plan.
SAMPLERS.add("rti_bac_ticks", BacTicks(RTI()))
OVER_RTI = ("rti_bac", "rti_bac_ticks")
"""Samplers that cache blocks of a checkpoint's own ``rti``."""

ONE_STEP_SAMPLERS: Registry[OneStep] = Registry("sampler")
"""Those of ``SAMPLERS`` whose steps know nothing of each other, for policies that step by other means."""
for _name in SAMPLERS:
    if isinstance(_record := SAMPLERS[_name], OneStep):
        ONE_STEP_SAMPLERS.add(_name, _record)

__all__ = [
    "DDIM", "DDPM", "ONE_STEP_SAMPLERS", "OVER_RTI", "RTI", "SAMPLERS", "Bac", "BacTicks", "DPMpp", "Denoiser",
    "Ladder", "LaneNoise", "NoiseSchedule", "Sampler", "SamplerState", "seeded",
]  # fmt: skip
