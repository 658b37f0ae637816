"""Protocols between policies, critics and machines, and the loop that joins them."""
