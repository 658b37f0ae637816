"""Robot descriptions on disk -> MjSpec. URDF and MJCF come out alike: bodies, joints, collision shapes, inertias."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
from pathlib import Path

import mujoco
import numpy as np

from robostack.errors import MissingExtra, SpecError
from robostack.sim.cards import RobotCard

_URDF_COMPILER = '<mujoco><compiler strippath="false" discardvisual="true" fusestatic="false"/></mujoco>'
_MENAGERIE_ENV = "ROBOSTACK_MENAGERIE"
_MANY_FACES, _CELL = 3000, 1.5e-3  # [m]


def example_robot_data() -> Path:
    """Directory ``robots`` of the installed example-robot-data package."""
    try:
        files = importlib.metadata.files("example-robot-data") or []
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra("example-robot-data", "sim") from None
    for file in files:
        parts = file.parts
        if "robots" in parts and "example-robot-data" in parts:
            return Path(str(file.locate())).joinpath(*[".."] * (len(parts) - parts.index("robots") - 1)).resolve()
    raise MissingExtra("example-robot-data", "sim")


def description_file(card: RobotCard) -> Path:
    """The card's URDF or MJCF file; raises SpecError telling where it was looked for."""
    if card.source.root == "example-robot-data":
        root = example_robot_data()
    elif card.source.root == "menagerie":
        cache = Path("~/.cache/robot_descriptions/mujoco_menagerie").expanduser()
        root = Path(os.environ.get(_MENAGERIE_ENV, cache))
    else:
        root = Path(card.path).parent
    path = root / card.source.file
    if not path.is_file():
        hint = f"; set {_MENAGERIE_ENV} to your copy of mujoco_menagerie" if card.source.root == "menagerie" else ""
        raise SpecError(f"robot '{card.name}': no description at {path}{hint}")
    return path


def load_description(card: RobotCard) -> mujoco.MjSpec:
    """Parse the description and strip what robostack decides itself: actuators, keyframes, sensors, lights."""
    path = description_file(card)
    try:
        spec = _parse(path)
    except ValueError as error:
        raise SpecError(
            f"robot '{card.name}': {path} is not a valid description: {' '.join(str(error).split())}"
        ) from error
    for element in (*spec.actuators, *spec.keys, *spec.sensors, *spec.lights):
        spec.delete(element)
    return spec


def _lighten(mesh, path: Path) -> None:
    """Merge the vertices of a dense binary STL within small cells; others stay files."""
    mesh.file, merged = str(path), None
    if path.suffix.lower() == ".stl":
        stat = path.stat()
        merged = _merged(path, stat.st_mtime_ns, stat.st_size)
    if merged is not None:
        mesh.file = ""
        mesh.uservert, mesh.userface = merged


@functools.lru_cache(maxsize=64)
def _merged(path: Path, changed_ns: int, size_bytes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Flat vertices and faces of a dense STL, kept while the file stays as it is; None for any other.

    Printed parts come as CAD exports of tens of thousands of faces, which cost seconds to compile and 40 ms a frame.
    """
    del changed_ns, size_bytes  # Unused: part of what the result is remembered by.
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little") if len(data) > 84 else 0
    if count < _MANY_FACES or len(data) != 84 + 50 * count:
        return None
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    corners = np.frombuffer(data, record, count, 84)["corners"].reshape(-1, 3).astype(float)
    cells = np.round(corners / _CELL).astype(np.int64)
    cells -= cells.min(axis=0)
    _, owner = np.unique(np.ravel_multi_index(cells.T, cells.max(axis=0) + 1), return_inverse=True)
    size = np.bincount(owner)
    vertices = np.stack([np.bincount(owner, corners[:, axis]) / size for axis in range(3)], axis=1)
    faces = owner.reshape(-1, 3)
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    return vertices.ravel(), faces.ravel()


def _parse(path: Path) -> mujoco.MjSpec:
    if path.suffix == ".urdf":
        text = path.read_text().replace("package://example-robot-data/robots/", f"{example_robot_data()}/")
        text = re.sub(r"(<robot[^>]*>)", lambda match: match.group(1) + _URDF_COMPILER, text, count=1)
        spec = mujoco.MjSpec.from_string(text)
        spec.compiler.discardvisual = False  # finger meshes stay visible though pads replace them in contact
        for mesh in spec.meshes:  # file names become absolute, so that the spec can be attached anywhere
            _lighten(mesh, path.parent / mesh.file)
        return spec
    return mujoco.MjSpec.from_file(str(path))
