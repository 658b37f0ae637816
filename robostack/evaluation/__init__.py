"""Rollouts, statistics, and the report."""
