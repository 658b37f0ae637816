"""The imported objects of ``data/assets``, and the command that writes them: ``python -m simgen.assets.shipped``.

Some are prisms of our own, with small STL files; the others are shapes that the package pybullet installs, to which
the cards refer without a copy.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from robostack.paths import data_dirs
from simgen.assets.intake import intake
from simgen.assets.shape import stl

if TYPE_CHECKING:
    import trimesh


class Outline(NamedTuple):
    """A flat figure of convex cells that share their corners.

    Attributes:
        corners: (x, y) [m].
        cells: indices of the corners of each cell, counter-clockwise.
        height: of the prism over it [m].
    """

    corners: tuple[tuple[float, float], ...]
    cells: tuple[tuple[int, ...], ...]
    height: float


def prism(outline: Outline) -> trimesh.Trimesh:
    """The closed surface over an outline: its cells below and above, and a wall on every edge of only one cell."""
    import trimesh

    flat, n = np.asarray(outline.corners), len(outline.corners)
    vertices = np.vstack([np.c_[flat, np.zeros(n)], np.c_[flat, np.full(n, outline.height)]])
    faces: list[tuple[int, int, int]] = []
    edges = [(a, b) for cell in outline.cells for a, b in zip(cell, (*cell[1:], cell[0]), strict=True)]
    shared = Counter(frozenset(edge) for edge in edges)
    for first, *rest in outline.cells:
        for b, c in zip(rest, rest[1:], strict=False):
            faces += [(first, c, b), (first + n, b + n, c + n)]
    for a, b in edges:
        if shared[frozenset((a, b))] == 1:
            faces += [(a, b, b + n), (a, b + n, a + n)]
    return trimesh.Trimesh(vertices, faces, process=True)


def _star(points: int, outer: float, inner: float, height: float) -> Outline:
    angle = np.pi * np.arange(2 * points) / points
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    ring = [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radius, angle, strict=True)]
    tips = tuple((k, k + 1, (k - 1) % (2 * points)) for k in range(0, 2 * points, 2))
    return Outline(tuple(ring), (tuple(range(1, 2 * points, 2)), *tips), height)


def _bars(edge: float, squares: Sequence[tuple[int, int]], height: float) -> Outline:
    """Squares of a grid."""
    index = {(x + dx, y + dy): 0 for x, y in squares for dx in (0, 1) for dy in (0, 1)}
    index = {corner: k for k, corner in enumerate(sorted(index))}
    cells = tuple(tuple(index[x + dx, y + dy] for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))) for x, y in squares)
    return Outline(tuple((edge * x, edge * y) for x, y in index), cells, height)


_WRENCH = Outline(
    corners=(
        *((-0.05, -0.008), (0.018, -0.008), (0.018, 0.008), (-0.05, 0.008)),  # handle
        *((0.018, -0.017), (0.026, -0.017), (0.026, -0.008), (0.026, 0.008), (0.026, 0.017), (0.018, 0.017)),  # root
        *((0.042, -0.017), (0.042, -0.008), (0.042, 0.008), (0.042, 0.017)),  # jaws
    ),
    cells=((0, 1, 2, 3), (4, 5, 6, 1), (1, 6, 7, 2), (2, 7, 8, 9), (5, 10, 11, 6), (7, 12, 13, 8)),
    height=0.02,
)

OWN: Mapping[str, tuple[Outline, tuple[str, ...]]] = {
    "l_block": (_bars(0.022, ((0, 0), (1, 0), (2, 0), (0, 1)), 0.026), ("L-block",)),
    "t_block": (_bars(0.022, ((0, 0), (1, 0), (2, 0), (1, 1)), 0.026), ("T-block",)),
    "star": (_star(6, 0.036, 0.036 / 3**0.5, 0.028), ("star",)),
    "wrench": (_WRENCH, ("wrench", "spanner")),
}

TOYS = ("000", "005", "009", "014", "033", "083", "088")  # of random_urdfs: unions of convex pieces
_TOY_SCALE = 0.65  # of their own size, so that the longest fit into a bowl


def write(directory: Path, names: Collection[str] | None = None) -> None:
    """Write the cards and files of all objects, or of some, below ``directory``; raises AssetError at a gate's no."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (outline, nouns) in OWN.items():
            if names is not None and name not in names:
                continue
            path = Path(folder) / f"{name}.stl"
            path.write_bytes(stl(prism(outline)))
            intake(path, name=name, nouns=nouns, licence="Apache-2.0", out_dir=directory).raise_for_failure()
    for number in TOYS:
        if names is not None and f"toy_{number}" not in names:
            continue
        intake(
            f"pybullet_data:random_urdfs/{number}/{number}.urdf",
            name=f"toy_{number}",
            nouns=("toy",),
            licence="Zlib",  # of the package pybullet; the folder states none of its own
            out_dir=directory,
            scale=_TOY_SCALE,
            density=800.0,
        ).raise_for_failure()


if __name__ == "__main__":
    write(data_dirs()[-1])
