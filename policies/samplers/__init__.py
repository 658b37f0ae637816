"""Samplers by name. DDIM-10 is the baseline that every other sampler is compared with."""

from policies.samplers.bac import Bac
from policies.samplers.base import Denoiser, Sampler, SamplerState
from policies.samplers.diffusion import DDIM, DDPM
from policies.samplers.noise import LaneNoise, seeded
from policies.samplers.schedule import NoiseSchedule
from robostack.registry import Registry

SAMPLERS: Registry[Sampler] = Registry("sampler")
SAMPLERS.add("ddpm100", DDPM(100))
for _steps in (1, 2, 5, 10, 16, 20, 50, 100):
    SAMPLERS.add(f"ddim{_steps}", DDIM(_steps))
SAMPLERS.add("bac", Bac(DDIM(10)))

__all__ = [
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "Bac",
    "Denoiser",
    "LaneNoise",
    "NoiseSchedule",
    "Sampler",
    "SamplerState",
    "seeded",
]
