"""Meshes of others -> objects to work with, or the reason why not: repaired, cut, weighed, dropped, grasped."""
