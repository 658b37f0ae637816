"""Imported meshes -> bodies: convex pieces that touch, and a mesh for the eye. No library but MuJoCo is needed."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float, Int

from robostack.errors import AssetError, MissingExtra
from robostack.sim.cards import AssetCard, MeshFile
from robostack.sim.objects.parts import CLEAR, seen, solid
from robostack.sim.objects.shape import Blank, Shape, shape
from robostack.task.world import Interior, Surface

_GEOM = mujoco.mjtGeom
FOOT = 0.002  # radius [m]
_STUB = 3e-5  # by which feet stick out [m]
_FOOT_SOLREF = (0.006, 1.0)  # so hard that the stubs bear the object: twice to thrice the physics step [s]


def folder_of(card: AssetCard) -> Path:
    """Where the card's files lie; raises MissingExtra when they belong to a package that is not installed."""
    assert card.mesh is not None, card.name
    if card.mesh.root == "card":
        return Path(card.path).parent
    found = importlib.util.find_spec(card.mesh.root)  # imports nothing
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("pybullet", "gen")
    return Path(found.submodule_search_locations[0])


def read_file(card: AssetCard, record: MeshFile) -> bytes:
    """The bytes of one of the card's files; raises AssetError naming it when it is missing or not what was imported."""
    path = folder_of(card) / record.file
    fix = f"import '{card.name}' again with  robostack gen asset"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AssetError(
            f"{path}, a file of the object '{card.name}', cannot be read ({error.strerror}): {fix}"
        ) from error
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise AssetError(
            f"{path}, a file of the object '{card.name}', has changed since its import ({len(content)} bytes): {fix}"
        )
    return content


@shape("mesh", "scale")
def _mesh(b: Blank) -> Shape:
    mesh, scale = b.card.mesh, b.size[0]
    assert mesh is not None, b.card.name
    pose = {"pos": scale * np.asarray(mesh.pos), "quat": mesh.quat}
    density = b.mass / (mesh.volume * scale**3)
    for i, record in enumerate(mesh.parts or (mesh.visual,)):
        name = _add_asset(b, f"{b.body.name}_part{i}", record)
        solid(b.body, _GEOM.mjGEOM_MESH, (0,), b.friction, meshname=name, density=density, rgba=CLEAR, **pose)
    for tip in mesh.feet:
        add_foot(b.body, _times(scale, tip), b.friction)
    seen(b.body, _GEOM.mjGEOM_MESH, (0,), b.rgba, meshname=_add_asset(b, f"{b.body.name}_visual", mesh.visual), **pose)
    half = _times(scale, mesh.half)
    surface, interior = mesh.surface, mesh.interior
    if surface is not None:
        u, v = surface.half
        surface = Surface(_times(scale, surface.center), (scale * u, scale * v), surface.round)
    if interior is not None:
        interior = Interior(_times(scale, interior.center), _times(scale, interior.half), interior.round)
    return Shape(half, half[2], half[:2], round=False, surface=surface, interior=interior)


def add_foot(body, tip: tuple[float, float, float], friction: tuple[float, float, float]) -> None:
    """A ball with its lowest point just under ``tip`` [m, body].

    Of a mesh on a plane MuJoCo keeps three contacts, and others at each step: what stands on them trembles. Contacts of
    balls are closed-form and stay.
    """
    solid(
        body,
        _GEOM.mjGEOM_SPHERE,
        (FOOT, 0, 0),
        friction,
        pos=[tip[0], tip[1], tip[2] + FOOT - _STUB],
        mass=0.0,
        solref=_FOOT_SOLREF,
        priority=1,
        rgba=CLEAR,
    )


def _times(scale: float, lengths: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = lengths
    return scale * x, scale * y, scale * z


def _add_asset(b: Blank, name: str, record: MeshFile) -> str:
    card, kind = b.card, mujoco.mjtMeshInertia
    assert card.mesh is not None, card.name
    content = read_file(card, record)
    scale = [b.size[0] * card.mesh.unit] * 3
    # What touches is the hull; what is only seen may be an open surface, which has no volume.
    inertia = kind.mjMESH_INERTIA_SHELL if name.endswith("_visual") else kind.mjMESH_INERTIA_CONVEX
    if record.file.endswith(".obj"):
        groups = parse_obj(content)
        vertices, faces = joined(groups.values()) if not record.group else groups[record.group]
        b.spec.add_mesh(
            name=name,
            uservert=vertices.ravel(),
            userface=faces.ravel(),
            scale=scale,
            inertia=inertia,
            smoothnormal=False,
        )
        return name
    key = f"{name}{Path(record.file).suffix}"
    b.spec.assets = {**b.spec.assets, key: content}
    b.spec.add_mesh(name=name, file=key, scale=scale, inertia=inertia)
    return name


Triangles = tuple[Float[np.ndarray, "_ 3"], Int[np.ndarray, "_ 3"]]


def parse_obj(content: bytes) -> dict[str, Triangles]:
    """Vertices and triangles of each object in a Wavefront OBJ; MuJoCo reads only the first of them."""
    vertices: list[list[float]] = []
    groups: dict[str, list[tuple[int, int, int]]] = {}
    group = ""
    for line in content.decode().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "o":
            group = rest[0] if rest else ""
        elif word == "f":
            index = [int(part.split("/")[0]) for part in rest]
            first, *others = [i - 1 if i > 0 else len(vertices) + i for i in index]
            groups.setdefault(group, []).extend((first, b, c) for b, c in zip(others, others[1:], strict=False))
    points, out = np.asarray(vertices), {}
    for name, faces in groups.items():
        used, index = np.unique(np.asarray(faces), return_inverse=True)
        out[name] = (points[used], index.reshape(-1, 3))
    return out


def joined(parts: Iterable[Triangles]) -> Triangles:
    """Several meshes as one."""
    parts = list(parts)
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [faces + start for (_, faces), start in zip(parts, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)
