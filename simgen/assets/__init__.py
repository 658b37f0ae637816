"""Meshes of others -> objects to work with: read, repaired, decomposed, weighed, dropped, grasped; or refused, with the reason."""
