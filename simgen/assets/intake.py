"""A file of somebody else -> an asset card with its files, if it passes the gates A1 to A8; else nothing is written."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from robostack.data.atomic import storage_errors, write_atomic
from robostack.errors import AssetError, MissingExtra
from robostack.paths import find_cards
from robostack.sim.cards import AssetCard, Grasp, MeshCard, MeshFile, load_asset
from robostack.sim.objects.mesh import FOOT, parse_obj
from robostack.task.world import Interior, Surface
from simgen.assets.grasp import grasp_gate, openings
from simgen.assets.hollow import Claim, hollow_gate
from simgen.assets.joints import joint_gate
from simgen.assets.licence import licence_gate
from simgen.assets.physics import feet, mass_gate, rest_gate
from simgen.assets.read import RawObject, Up, file_sha, read_object
from simgen.assets.record import AssetRecord, GateFailure, IntakeReport
from simgen.assets.shape import (
    GOOD_IOU,
    VISUAL_FACES,
    Convex,
    clean,
    convex,
    decompose,
    drop_floaters,
    keep,
    share,
    simplify,
    size_gate,
    stl,
)

if TYPE_CHECKING:
    import trimesh

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_PACKAGE = "pybullet_data"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What the user says of the object; see ``intake``."""

    name: str
    nouns: tuple[str, ...]
    licence: str
    mass: float | None
    density: float | None
    max_hulls: int
    claims: tuple[Claim, ...]
    graspable: bool
    copy: bool


@dataclass(frozen=True)
class _Solid:
    """The object in its body frame at rest.

    Attributes:
        pose: frame of the raw mesh to the body frame (4, 4).
        groups: objects of the package's OBJ file that are the pieces; empty where the files are written anew.
    """

    visual: trimesh.Trimesh
    pieces: tuple[Convex, ...]
    pose: np.ndarray
    mass: float
    groups: tuple[str, ...]
    grasps: tuple[Grasp, ...] = ()
    interior: Interior | None = None
    surface: Surface | None = None


def intake(
    path: Path | str,
    *,
    name: str,
    licence: str,
    out_dir: Path | str,
    nouns: Sequence[str] = (),
    scale: float | None = None,
    up: Up = "auto",
    mass: float | None = None,
    density: float | None = None,
    max_hulls: int = 16,
    claims: Sequence[Claim] = (),
    graspable: bool = True,
    copy: bool = False,
    progress: Progress | None = None,
) -> IntakeReport:
    """Take an object in: gates A1 to A8, then ``<out_dir>/assets/<name>.yaml`` and its files in ``assets/<name>/``.

    An OBJ file of the package ``pybullet_data`` whose objects are convex stays where it is: the card refers to it.

    Args:
        path: STL, OBJ, GLB, GLTF, PLY or URDF; ``pybullet_data:<file>`` is one of that package.
        name: of the card, in small letters.
        licence: SPDX identifier.
        out_dir: a data folder, as ``$ROBOSTACK_DATA``.
        nouns: what a sentence may call it; its name where nothing is said.
        scale: metres per unit of the file.
        up: which axis of the file points up.
        mass: [kg]; or
        density: [kg/m^3]; a URDF's own mass, or that of wood, where neither is given.
        max_hulls: most convex pieces.
        claims: ``interior`` or ``surface``, if things shall be put into or onto it.
        graspable: whether a gripper must be able to take it; a container need not be.
        copy: copy the files of ``pybullet_data`` in any case.
        progress: called with a line of text per step.

    Raises:
        AssetError: the file cannot be read, or the name cannot be used. A gate that says no is in the report instead.
        MissingExtra: trimesh, scipy, coacd or open3d is not installed.
        StorageError: the files cannot be written.
    """
    words = tuple(nouns) or (name.replace("_", " "),)
    wish = Wish(name, words, licence, mass, density, max_hulls, tuple(claims), graspable, copy)
    return _take(path, scale, up, wish, Path(out_dir), progress or (lambda text: None))


def _take(path: Path | str, scale: float | None, up: Up, wish: Wish, out: Path, say: Progress) -> IntakeReport:
    _check_name(wish.name)
    records: list[AssetRecord] = []
    try:
        records.append(licence_gate(wish.licence))
        source = resolve(path)
        say(f"reading {source.name}")
        raw = read_object(source, scale=scale, up=up)
        solid = _build(raw, source, wish, records, say)
    except GateFailure as failure:
        return IntakeReport(wish.name, (*records, failure.record))
    say("writing the card")
    card, files = _write(raw, solid, wish, out)
    return IntakeReport(wish.name, tuple(records), card, files)


def resolve(path: Path | str) -> Path:
    """The path of a file, also of one in the package ``pybullet_data``."""
    text = str(path)
    if not text.startswith(f"{_PACKAGE}:"):
        return Path(path)
    folder = _package_folder()
    if folder is None:
        raise MissingExtra("pybullet", "gen")
    return folder / text.removeprefix(f"{_PACKAGE}:")


def _package_folder() -> Path | None:
    found = importlib.util.find_spec(_PACKAGE)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def _check_name(name: str) -> None:
    """An imported object may be imported again; one that robostack builds itself keeps its name."""
    if not _NAME.fullmatch(name):
        raise AssetError(f"name '{name}' must be small letters, digits and underscores, a letter first, e.g. name=mug")
    if name in find_cards("assets") and load_asset(name).mesh is None:
        raise AssetError(f"name '{name}' is that of an object of robostack: choose another one, e.g. name=my_{name}")


def _build(raw: RawObject, source: Path, wish: Wish, records: list[AssetRecord], say: Progress) -> _Solid:
    """The gates from A2 on, in an order in which each finds what it needs; appends their records."""
    say("repairing, measuring")
    file_scale = float(np.linalg.norm(raw.matrix[:3, 0])) if raw.matrix is not None else 1.0
    size = size_gate(raw.mesh, file_extents=np.asarray(raw.mesh.extents) / file_scale)
    joints = joint_gate(source) if source.suffix.lower() == ".urdf" else AssetRecord(gate="A7", ok=True)
    if raw.movable:
        raise GateFailure(
            "A7",
            "ARTICULATED",
            f"{source.name} moves at {', '.join(raw.movable)}; imported objects are rigid: make these joints fixed",
        )
    mesh, dropped = drop_floaters(clean(raw.mesh))
    if dropped:
        size = size_gate(mesh, file_extents=np.asarray(mesh.extents) / file_scale)
    visual = simplify(mesh)
    whole = dropped == 0 and len(mesh.faces) <= VISUAL_FACES
    say("cutting into convex pieces")
    groups, pieces, fit = _cut(visual, raw if whole and _linkable(raw, wish) else None, wish.max_hulls)
    records += [fit, size.model_copy(update={"metrics": {**size.metrics, "floaters": dropped}})]
    say("weighing, dropping")
    mass = raw.mass if wish.mass is None and wish.density is None else wish.mass
    mass, weighed = mass_gate(pieces, mass=mass, density=wish.density, stated=raw.inertia)
    records.append(weighed)
    pose, rest = rest_gate(visual, pieces, mass)
    records.append(rest)
    visual = visual.copy().apply_transform(pose)
    pieces = tuple(piece.transformed(pose) for piece in pieces)
    say("looking for grasps")
    grasps: tuple[Grasp, ...] = ()
    if wish.graspable:
        touched = pieces[0].mesh if len(pieces) == 1 else visual  # fingers meet what collides
        grasps, grasped = grasp_gate(touched, pieces, openings())
    else:
        grasped = AssetRecord(gate="A6", ok=True, detail="it is not to be grasped", metrics={"kept": 0})
    records += [grasped, joints]
    interior, surface, hollow = hollow_gate(pieces, wish.claims)
    records.append(hollow)
    return _Solid(visual, pieces, pose, mass, groups, grasps, interior, surface)


def _cut(
    visual: trimesh.Trimesh, linked: RawObject | None, max_hulls: int
) -> tuple[tuple[str, ...], tuple[Convex, ...], AssetRecord]:
    """Convex pieces; those of a package's OBJ file are its own objects, with their names, where they are convex."""
    if linked is not None:
        assert linked.file is not None
        assert linked.matrix is not None
        found = parse_obj(linked.file.read_bytes())
        rot, shift = linked.matrix[:3, :3], linked.matrix[:3, 3]
        given = tuple(convex(vertices @ rot.T + shift) for vertices, _ in found.values())
        if len(given) <= max_hulls and share(visual, given) >= GOOD_IOU:
            return tuple(found), *keep(visual, given, max_hulls)
    return (), *decompose(visual, max_hulls)


def _linkable(raw: RawObject, wish: Wish) -> bool:
    """Whether the surface is one file of the package, at one scale for all axes."""
    folder = _package_folder()
    if wish.copy or folder is None or raw.file is None or raw.matrix is None:
        return False
    scales = np.linalg.norm(raw.matrix[:3, :3], axis=0)
    inside = raw.file.resolve().is_relative_to(folder.resolve()) and raw.file.suffix.lower() == ".obj"
    return inside and bool(np.ptp(scales) < 1e-9)


def _write(raw: RawObject, solid: _Solid, wish: Wish, out: Path) -> tuple[Path, tuple[Path, ...]]:
    """Files first, card last: a card that is there is whole, and hashes tell what is not."""
    folder = out / "assets"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    half = tuple(round(float(h), 6) for h in 0.5 * np.ptp(_corners(solid.pieces), axis=0))
    common = {
        "half": half,
        "volume": float(sum(piece.mesh.volume for piece in solid.pieces)),
        "feet": feet(solid.pieces, FOOT),
        "surface": solid.surface,
        "interior": solid.interior,
        "provenance": _provenance(raw, solid),
    }
    if solid.groups:
        mesh, files = _linked(raw, solid, common), ()
    else:
        mesh, files = _copied(solid, wish, folder, common)
    card = AssetCard(
        name=wish.name,
        nouns=wish.nouns,
        licence=wish.licence,
        shape="mesh",
        size=(1.0,),
        mass=round(solid.mass, 6),
        symmetry="none",
        grasp_axis="card" if solid.grasps else "none",
        grasps=solid.grasps,
        mesh=mesh,
    )
    values = card.model_dump(mode="json", exclude_defaults=True, exclude={"path"})
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)
    path = folder / f"{wish.name}.yaml"
    write_atomic(path, text.encode())
    return path, (*files, path)


def _corners(pieces: Sequence[Convex]) -> np.ndarray:
    return np.concatenate([piece.mesh.vertices for piece in pieces])


def _linked(raw: RawObject, solid: _Solid, common: dict) -> MeshCard:
    from scipy.spatial.transform import Rotation

    folder = _package_folder()
    assert folder is not None
    assert raw.file is not None
    total = solid.pose @ raw.matrix
    unit = float(np.linalg.norm(total[:3, 0]))
    quat = Rotation.from_matrix(total[:3, :3] / unit).as_quat(scalar_first=True)
    file = MeshFile(file=raw.file.resolve().relative_to(folder.resolve()).as_posix(), sha256=file_sha(raw.file))
    return MeshCard(
        root=_PACKAGE,
        visual=file,
        parts=tuple(file.model_copy(update={"group": name}) for name in solid.groups),
        unit=unit,
        pos=_triple(total[:3, 3]),
        quat=(float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])),
        **common,
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 9) for v in values)
    return x, y, z


def _copied(solid: _Solid, wish: Wish, folder: Path, common: dict) -> tuple[MeshCard, tuple[Path, ...]]:
    own = folder / wish.name
    with storage_errors(own):
        own.mkdir(exist_ok=True)
    meshes = {"visual": solid.visual} | {f"part_{i:02}": piece.mesh for i, piece in enumerate(solid.pieces)}
    records, files = {}, []
    for name, mesh in meshes.items():
        path = own / f"{name}.stl"
        write_atomic(path, stl(mesh))
        records[name] = MeshFile(file=f"{wish.name}/{path.name}", sha256=file_sha(path))
        files.append(path)
    parts = tuple(record for name, record in records.items() if name != "visual")
    return MeshCard(visual=records["visual"], parts=parts, **common), tuple(files)


def _provenance(raw: RawObject, solid: _Solid) -> dict[str, str]:
    """Source files with their hashes, and the steps with the versions of what did them."""
    version = importlib.metadata.version
    tools = f"trimesh {version('trimesh')}" + (
        f", coacd {version('coacd')}" if len(solid.pieces) > 1 and not solid.groups else ""
    )
    return {**{f"source {file}": sha for file, sha in raw.source.items()}, "processed_by": tools}
