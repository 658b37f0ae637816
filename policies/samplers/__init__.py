"""Samplers by name. DDIM-10 is the baseline that every other sampler is compared with."""

from policies.samplers.base import Denoiser, Sampler, SamplerState
from policies.samplers.diffusion import DDIM, DDPM, Ladder
from policies.samplers.dpmpp import DPMpp
from policies.samplers.noise import LaneNoise, seeded
from policies.samplers.rti import RTI
from policies.samplers.schedule import NoiseSchedule
from robostack.registry import Registry

SAMPLERS: Registry[Sampler] = Registry("sampler")
SAMPLERS.add("ddpm100", DDPM(100))
for _steps in (1, 2, 5, 10, 16, 20, 50, 100):
    SAMPLERS.add(f"ddim{_steps}", DDIM(_steps))
for _steps in (2, 3, 5, 8, 10, 15, 20):
    SAMPLERS.add(f"dpmpp{_steps}", DPMpp(_steps))
SAMPLERS.add("rti", RTI())  # A checkpoint's own plan takes its place; see policies.accel.rti_auto.
for _list in ((2, 1, 0), (5, 3, 2, 1, 0), (15, 13, 11, 9, 7, 5, 3, 2, 1, 0)):  # Lists of the paper's implementation.
    SAMPLERS.add(f"rti{len(_list)}", RTI(_list, mode="heuristic"))

__all__ = [
    "DDIM", "DDPM", "RTI", "SAMPLERS", "DPMpp", "Denoiser", "Ladder", "LaneNoise", "NoiseSchedule", "Sampler",
    "SamplerState", "seeded",
]  # fmt: skip
