"""The atoms of the predicate language: pure functions of a World that return a signed margin, true iff >= 0.

Every atom computes its terms cheapest first and returns the first negative one: the sign is exact everywhere, the
value is the least term when the atom holds. Frame of directions: the robot's, x forward, y left, z up.
"""

from robostack.task.atoms import articulated, contact, motion, spatial, support
from robostack.task.atoms.record import ATOMS, ArgKind, AtomRecord

__all__ = ["ATOMS", "ArgKind", "AtomRecord", "articulated", "contact", "motion", "spatial", "support"]
