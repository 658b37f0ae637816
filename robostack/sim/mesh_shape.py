"""Imported meshes -> bodies: convex pieces that touch, and a mesh for the eye. No library but MuJoCo is needed."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import mujoco
import numpy as np

from robostack.errors import AssetError, MissingExtra
from robostack.sim.cards import AssetCard, MeshFile
from robostack.sim.objects import Shape
from robostack.sim.robot import OBJECT_BIT
from robostack.task.world import Interior, Surface

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
        raise AssetError(f"{path}, a file of the object '{card.name}', cannot be read ({error.strerror}): {fix}") from error
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise AssetError(
            f"{path}, a file of the object '{card.name}', has changed since its import ({len(content)} bytes): {fix}"
        )
    return content


def build_mesh(spec: mujoco.MjSpec, body, card: AssetCard, scale: float, rgba) -> Shape:
    """Add an imported object to a body of ``spec``, ``scale`` times its own size; its density stays."""
    mesh = card.mesh
    assert mesh is not None, card.name
    pose = {"type": mujoco.mjtGeom.mjGEOM_MESH, "pos": scale * np.asarray(mesh.pos), "quat": mesh.quat}
    for i, record in enumerate(mesh.parts or (mesh.visual,)):
        body.add_geom(
            meshname=_add_asset(spec, f"{body.name}_part{i}", card, record, scale),
            density=card.mass / mesh.volume,
            friction=card.friction,
            condim=4,
            contype=OBJECT_BIT,
            conaffinity=OBJECT_BIT,
            group=0,
            rgba=[0, 0, 0, 0],
            **pose,
        )
    body.add_geom(
        meshname=_add_asset(spec, f"{body.name}_visual", card, mesh.visual, scale),
        contype=0,
        conaffinity=0,
        group=1,
        mass=0.0,
        rgba=rgba,
        **pose,
    )
    half = _scaled(mesh.half, scale)
    surface, interior = mesh.surface, mesh.interior
    if surface is not None:
        surface = Surface(_scaled(surface.center, scale), _scaled(surface.half, scale), surface.round)
    if interior is not None:
        interior = Interior(_scaled(interior.center, scale), _scaled(interior.half, scale), interior.round)
    return Shape(half, half[2], half[:2], round=False, surface=surface, interior=interior)


def _scaled(lengths, scale: float) -> tuple[float, ...]:
    return tuple(scale * length for length in lengths)


def _add_asset(spec: mujoco.MjSpec, name: str, card: AssetCard, record: MeshFile, scale: float) -> str:
    assert card.mesh is not None, card.name
    kind, key = mujoco.mjtMeshInertia, f"{name}{Path(record.file).suffix}"
    spec.assets = {**spec.assets, key: read_file(card, record)}
    spec.add_mesh(
        name=name,
        file=key,
        scale=[scale * card.mesh.unit] * 3,
        # What touches is the hull; what is only seen may be an open surface, which has no volume.
        inertia=kind.mjMESH_INERTIA_SHELL if name.endswith("_visual") else kind.mjMESH_INERTIA_CONVEX,
    )
    return name
