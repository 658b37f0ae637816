"""Learned policies: networks, samplers, one trainer.

Convention of diffusion time, everywhere in this package: k = 0 is nearly clean, k = K - 1 is nearly pure noise,
k = -1 is exactly clean; ``x_k = sqrt(abar_k) x0 + sigma_k eps``.
"""

import os

# Read by OpenMP when torch is loaded. Threads that spin while they wait make training of a small network 2 to 7 times
# slower as soon as anything else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
