"""Learned policies: networks, samplers, one trainer.

Convention of diffusion time, everywhere in this package: k = 0 is nearly clean, k = K - 1 is nearly pure noise,
k = -1 is exactly clean; ``x_k = sqrt(abar_k) x0 + sigma_k eps``.
"""
