"""Asset cards -> bodies. Shapes touch through primitives and show, where it helps the eye, a mesh.

Body origins lie at the centre of the resting box for convex shapes, and on the plane they stand on for hollow ones and
for fixtures. Which lengths make up a size says the table ``SHAPES``.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robostack.errors import SpecError
from robostack.sim.cards import AssetCard
from robostack.sim.objects import articulated, containers, mesh, primitives, tools
from robostack.sim.objects.shape import SHAPES, Blank, JointShape, Rgba, Shape, ShapeKind, shape

__all__ = ["COLORS", "SHAPES", "Blank", "JointShape", "Shape", "ShapeKind", "build_object", "shape"]

_BUILDERS = (articulated, containers, mesh, primitives, tools)  # importing them fills SHAPES

COLORS: dict[str, Rgba] = {
    "red": (0.84, 0.18, 0.16, 1.0),
    "green": (0.20, 0.62, 0.32, 1.0),
    "blue": (0.16, 0.38, 0.78, 1.0),
    "yellow": (0.95, 0.77, 0.15, 1.0),
    "orange": (0.93, 0.48, 0.13, 1.0),
    "purple": (0.50, 0.28, 0.66, 1.0),
    "pink": (0.92, 0.52, 0.66, 1.0),
    "cyan": (0.20, 0.70, 0.76, 1.0),
    "brown": (0.47, 0.31, 0.20, 1.0),
    "white": (0.93, 0.93, 0.92, 1.0),
    "gray": (0.52, 0.53, 0.55, 1.0),
    "black": (0.13, 0.13, 0.14, 1.0),
}


def build_object(
    spec: mujoco.MjSpec,
    body,
    card: AssetCard,
    size: tuple[float, ...] | None,
    color: str,
    *,
    mass: float | None = None,
    friction: float | None = None,
) -> Shape:
    """Add the card's geoms, and its moving parts as child bodies, to a body of ``spec``.

    Args:
        spec: the scene under construction.
        body: an empty body of it.
        card: what to build.
        size: replaces the card's [m].
        color: a name in ``COLORS``.
        mass: replaces the card's, which scales with the volume [kg].
        friction: replaces the card's sliding friction.

    Raises:
        SpecError: a size of the wrong length or sign, an unknown colour, joints that the shape does not have.
    """
    kind = SHAPES[card.shape]
    size = size or card.size
    if len(size) != len(kind.labels) or min(size) <= 0:
        raise SpecError(
            f"{card.name}: size {size} must be {len(kind.labels)} positive lengths ({', '.join(kind.labels)})"
        )
    if color not in COLORS:
        raise SpecError(f"{card.name}: unknown color '{color}'; known: {', '.join(sorted(COLORS))}")
    if set(card.joints) != set(kind.joints):
        raise SpecError(
            f"{card.name}: the card describes the joints {sorted(card.joints)}, shape '{card.shape}' has"
            f" {sorted(kind.joints)}"
        )
    volume = float(np.prod(size) / np.prod(card.size)) ** (3 / len(size))
    own_mass = card.mass * volume if mass is None else mass
    own_friction = card.friction if friction is None else (friction, *card.friction[1:])
    return kind.build(Blank(spec, body, size, COLORS[color], own_mass, own_friction, card.joints, volume, card))
