"""Displacement since reset, and rest: moved, still."""

from __future__ import annotations

import math

from robostack.errors import SpecError
from robostack.task.atoms.record import atom
from robostack.task.world import Snapshot, World


def snapshot(world: World) -> Snapshot:
    """The state at reset; raises SpecError when the world has none."""
    if world.initial is None:
        raise SpecError("'moved' and 'lifted' compare with the state at reset: set world.initial after reset")
    return world.initial


@atom("moved", "entity number", cost=0, snapshot=True)
def moved(world: World, a: str, d: float) -> float:
    """``a`` is at least ``d`` from where it was at reset: 3-D displacement of its body origin - d [m]."""
    x, y, z = world.data.xpos[world.entities[a].body].tolist()
    p, q, r = snapshot(world).pos[a].tolist()
    return math.sqrt((x - p) ** 2 + (y - q) ** 2 + (z - r) ** 2) - d


@atom("still", "entity", unit="m/s", cost=0)
def still(world: World, a: str, *, lin: float = 0.02, ang: float = 0.2, rate: float = 0.05) -> float:
    """``a`` is at rest: min(lin - speed [m/s], (ang - angular speed [rad/s]) * lin / ang) [m/s].

    Each joint of an articulated one adds (rate - its speed [fractions of its range per s]) * lin / rate.
    """
    speed, turn = world.velocity(a)
    margin = min(lin - speed, (ang - turn) * lin / ang)
    speeds = (world.joint_speed(a, name) for name in world.entities[a].joints)
    return min((margin, *((rate - speed) * lin / rate for speed in speeds)))
