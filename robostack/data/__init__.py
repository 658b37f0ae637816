"""Datasets as arrays: episodes, windows over them, and their normalisation."""
