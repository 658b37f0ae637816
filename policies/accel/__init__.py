"""Making decisions cheaper: what is measured on a trained policy and kept beside its weights."""
