"""Imports every gate, so that the registry knows them."""

from simgen.gates import (
    g1_static,
    g2_grounding,
    g3_physics,
    g4_settle,
    g5_reach,
    g6_predicate,
    g7_solve,
    g8_alignment,
    g9_replay,
)

__all__ = [
    "g1_static",
    "g2_grounding",
    "g3_physics",
    "g4_settle",
    "g5_reach",
    "g6_predicate",
    "g7_solve",
    "g8_alignment",
    "g9_replay",
]
