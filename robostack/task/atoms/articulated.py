"""Where the joint of an articulated entity stands."""

from __future__ import annotations

from robostack.task.atoms.record import atom
from robostack.task.predicate import Cmp
from robostack.task.world import World


@atom("joint", "entity joint comparison fraction", unit="1", cost=0, needs={0: "joints"})
def joint(world: World, o: str, name: str, comparison: Cmp, value: float, *, frac: float = 0.07) -> float:
    """How far joint ``name`` of ``o`` is open, as fraction f of its range: f - v, v - f, or frac - |f - v| for ==."""
    fraction = world.fraction(o, name)
    if comparison == ">=":
        return fraction - value
    return value - fraction if comparison == "<=" else frac - abs(fraction - value)
