"""Networks, without any knowledge of diffusion, data or training."""
