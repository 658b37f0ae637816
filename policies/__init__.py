"""Learned policies: networks, samplers, one trainer.

Convention of diffusion time, everywhere in this package: k = 0 is nearly clean, k = K - 1 is nearly pure noise,
k = -1 is exactly clean; ``x_k = sqrt(abar_k) x0 + sigma_k eps``.
"""

import os

# Read by OpenMP when torch is loaded. On a machine that does other work too, threads that spin while they wait for one
# another slowed training of a small network down by 2 to 7 in four of five back-to-back measurements.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
