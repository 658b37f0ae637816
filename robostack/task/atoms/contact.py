"""What touches what: grasped, lifted, released, touching."""

from __future__ import annotations

from robostack.task import geometry as geo
from robostack.task.atoms.motion import snapshot
from robostack.task.atoms.record import atom
from robostack.task.world import ROBOT, World

TOUCH = 1e-3  # size of the negative margin where only the presence of a contact decides [m]


@atom("grasped", "entity", unit="1", cost=2, needs={0: "geoms"})
def grasped(world: World, a: str, *, opposing: float = 0.3) -> float:
    """Both pads press on ``a`` from opposite sides: -(least dot product of a left and a right normal) - opposing.

    -1 - opposing when a pad does not touch. One state holds no slip history, so whether the grasp slips is not judged
    here; ``lifted`` and the hold window tell.
    """
    normals: tuple[list[list[float]], list[list[float]]] = ([], [])
    contact = world.data.contact
    for i, other in geo.contacts(world, a):
        if other != ROBOT:
            continue
        g1, g2 = contact.geom[i].tolist()
        for side, pads in enumerate(world.robot.pads):
            if g1 in pads or g2 in pads:
                sign = 1.0 if g1 in pads else -1.0
                normals[side].append([sign * n for n in contact.frame[i][:3].tolist()])
    dots = [sum(p * q for p, q in zip(n, m, strict=True)) for n in normals[0] for m in normals[1]]
    return -min(dots, default=1.0) - opposing


@atom("lifted", "entity number", cost=1, needs={0: "geoms"}, snapshot=True)
def lifted(world: World, a: str, h: float) -> float:
    """``a`` is ``h`` higher than at reset and nothing but the robot touches it: bottom(a) - bottom at reset - h [m].

    -1 mm where something else touches it.
    """
    height = geo.bottom(world, a) - snapshot(world).bottom[a] - h
    if height < 0.0:
        return height
    return -TOUCH if any(other != ROBOT for _, other in geo.contacts(world, a)) else height


@atom("released", "entity", cost=2, needs={0: "geoms"})
def released(world: World, a: str, *, clear: float = 0.03) -> float:
    """The gripper let go and withdrew: distance(pads, a) - clear [m]; at most -1 mm while the robot touches ``a``."""
    pads = (*world.robot.pads[0], *world.robot.pads[1])
    margin = geo.geom_distance(world, pads, world.entities[a].geoms) - clear
    if margin >= 0.0 and any(other == ROBOT for _, other in geo.contacts(world, a)):
        return -TOUCH
    return margin


@atom("touching", "entity support", unit="N", cost=2, needs={0: "geoms", 1: "geoms"})
def touching(world: World, a: str, b: str, *, force: float = 0.05) -> float:
    """``a`` presses on ``b``: sum of the normal forces between them - force [N]."""
    code = geo.owner(world, b)
    return sum((geo.normal_force(world, i) for i, other in geo.contacts(world, a) if other == code), 0.0) - force
