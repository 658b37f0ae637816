"""Scripted experts. They read the simulator's state, and act through the actuators only."""
