"""Files of others -> one triangle mesh in metres, z up. Whatever is wrong with a file is said in one line."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from robostack.errors import AssetError, MissingExtra

if TYPE_CHECKING:
    import trimesh

MESHES = (".stl", ".obj", ".glb", ".gltf", ".ply")
MAX_FACES = 2_000_000
_STL_HEADER, _STL_FACE = 84, 50  # bytes
Up = Literal["auto", "y", "z"]


@dataclass(frozen=True)
class RawObject:
    """What was read.

    Attributes:
        mesh: triangles in the file's frame turned z up [m].
        file: the one mesh file that it was read from; None when several shapes were joined.
        matrix: that file's frame to the frame of ``mesh``, scale included (4, 4).
        mass: as stated by a URDF [kg].
        inertia: principal moments as stated by a URDF [kg m^2].
        source: file -> SHA-256.
        movable: names of the movable joints of a URDF.
    """

    mesh: trimesh.Trimesh
    source: dict[str, str]
    file: Path | None = None
    matrix: np.ndarray | None = None
    mass: float | None = None
    inertia: tuple[float, ...] | None = None
    movable: tuple[str, ...] = ()


def read_object(path: Path, *, scale: float | None = None, up: Up = "auto") -> RawObject:
    """Read a mesh or a URDF.

    Args:
        path: STL, OBJ, GLB, GLTF, PLY or URDF.
        scale: metres per unit of the file; 1 where nothing is said.
        up: which axis of the file points up; ``auto``: y for GLB and GLTF, z for all others.

    Raises:
        AssetError: missing, unreadable, empty, not finite, or too large.
        MissingExtra: trimesh is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"no file at {path}: pass a mesh ({', '.join(MESHES)}) or a .urdf")
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise AssetError(f"scale={scale} for {path.name} must be a positive number: metres per unit of the file")
    suffix = path.suffix.lower()
    turn = up == "y" or (up == "auto" and suffix in (".glb", ".gltf"))
    matrix = (_Y_UP if turn else np.eye(4)) @ np.diag([scale or 1.0] * 3 + [1.0])
    if suffix == ".urdf":
        return _read_urdf(path, matrix)
    mesh = read_mesh(path)
    mesh.apply_transform(matrix)
    return RawObject(mesh, {path.name: file_sha(path)}, path, matrix)


_Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])


def file_sha(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_mesh(path: Path) -> trimesh.Trimesh:
    """One mesh of all the geometry in a file, in the file's own frame and unit."""
    try:
        import trimesh
    except ImportError as error:
        raise MissingExtra("trimesh", "gen") from error
    suffix = path.suffix.lower()
    if suffix not in MESHES:
        raise AssetError(f"{path.name} is of no known kind: pass {', '.join(MESHES)} or .urdf")
    _check_size(path, suffix)
    try:
        mesh = trimesh.load(str(path), force="mesh", process=False, skip_materials=True)
    except Exception as error:  # parsers of untrusted bytes raise whatever they stumble over
        raise AssetError(
            f"{path.name} is not a readable {suffix[1:].upper()} file ({_first_line(error)}): export it again"
        ) from error
    return _checked(mesh, path)


def _check_size(path: Path, suffix: str) -> None:
    """Refuse what is too large before it is in memory, and a binary STL that ends early."""
    size = path.stat().st_size
    if size == 0:
        raise AssetError(f"{path.name} is empty: export it again")
    if size > 1_000_000_000:
        raise AssetError(f"{path.name} has {size / 1e9:.1f} GB: simplify it to at most {MAX_FACES:,} faces")
    if suffix != ".stl":
        return
    with path.open("rb") as file:
        head = file.read(_STL_HEADER)
    if head[:5] == b"solid" and b"\0" not in head:
        return
    if size < _STL_HEADER:
        raise AssetError(f"{path.name} is cut off after {size} bytes: copy or export it again")
    faces = int.from_bytes(head[80:84], "little")
    if faces > MAX_FACES:
        raise AssetError(f"{path.name} has {faces:,} faces: simplify it to at most {MAX_FACES:,}")
    if size < _STL_HEADER + _STL_FACE * faces:
        raise AssetError(
            f"{path.name} is cut off: {faces:,} faces need {_STL_HEADER + _STL_FACE * faces:,} bytes,"
            f" it has {size:,}: copy or export it again"
        )


def _checked(mesh, path: Path) -> trimesh.Trimesh:
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    if len(faces) == 0 or len(vertices) < 4:
        raise AssetError(f"{path.name} holds no triangles: export it as a triangle mesh")
    if len(faces) > MAX_FACES:
        raise AssetError(f"{path.name} has {len(faces):,} faces: simplify it to at most {MAX_FACES:,}")
    if faces.max() >= len(vertices) or faces.min() < 0:
        raise AssetError(f"{path.name}: a face refers to a vertex that is not there: export it again")
    bad = int((~np.isfinite(vertices)).any(axis=1).sum())
    if bad:
        raise AssetError(f"{path.name}: {bad} of {len(vertices)} vertices are not finite numbers: export it again")
    if not (np.ptp(vertices, axis=0) > 0).all():
        raise AssetError(f"{path.name} is flat: an object needs an extent along each axis")
    return mesh


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


# URDF.


def _read_urdf(path: Path, matrix: np.ndarray) -> RawObject:
    import trimesh

    root = parse_urdf(path)
    poses, movable = _link_poses(root, path)
    meshes, files, masses, moments, source = [], [], [], [], {path.name: file_sha(path)}
    for link in root.findall("link"):
        shapes = link.findall("visual") or link.findall("collision")
        for shape in shapes:
            mesh, file, own = _urdf_shape(shape, path)
            if file is not None:
                source[file.name] = file_sha(file)
            placed = matrix @ poses[link.get("name", "")] @ _origin(shape, path) @ own
            meshes.append(mesh.apply_transform(placed))
            files.append((file, placed))
        mass = link.find("inertial/mass")
        if mass is not None:
            masses.append(_number(mass.get("value"), path, "mass"))
        moments.append(_moments(link, path))
    if not meshes:
        raise AssetError(f"{path.name}: no link has a shape: an object needs one <visual> or <collision>")
    mesh = _checked(trimesh.util.concatenate(meshes), path)
    stated = tuple(moments[0]) if len(moments) == 1 and moments[0] is not None else None
    file, placed = files[0] if len(files) == 1 else (None, None)
    return RawObject(mesh, source, file, placed, sum(masses) or None, stated, movable)


def parse_urdf(path: Path) -> ElementTree.Element:
    """The root element; raises AssetError when the file is no URDF."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        raise AssetError(f"{path.name} is not XML ({_first_line(error)}): pass a URDF file") from error
    if root.tag != "robot" or root.find("link") is None:
        raise AssetError(f"{path.name} is not a URDF: it needs a <robot> with at least one <link>")
    return root


def _link_poses(root: ElementTree.Element, path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Pose of every link at joint position 0, and the names of the joints that move."""
    links = [link.get("name", "") for link in root.findall("link")]
    parent, movable = {}, []
    for joint in root.findall("joint"):
        name = joint.get("name", "?")
        above, below = joint.find("parent"), joint.find("child")
        a = above.get("link", "") if above is not None else ""
        b = below.get("link", "") if below is not None else ""
        if a not in links or b not in links or b in parent:
            raise AssetError(f"{path.name}: joint '{name}' joins '{a}' and '{b}'; links are {', '.join(links)}")
        parent[b] = (a, _origin(joint, path))
        if joint.get("type") != "fixed":
            movable.append(name)
    poses = {}
    for link in links:
        pose, at, seen = np.eye(4), link, {link}
        while at in parent:
            at, step = parent[at]
            pose = step @ pose
            if at in seen:
                raise AssetError(f"{path.name}: the joints form a loop at link '{at}'")
            seen.add(at)
        poses[link] = pose
    return poses, tuple(movable)


def _urdf_shape(element: ElementTree.Element, path: Path):
    """A shape of a link, the file that it comes from, and the scale that the URDF gives that file."""
    import trimesh

    geometry = element.find("geometry")
    shape = geometry[0] if geometry is not None and len(geometry) else None
    if shape is None:
        raise AssetError(f"{path.name}: a <{element.tag}> has no geometry")
    if shape.tag == "mesh":
        name = shape.get("filename", "")
        file = path.parent / name.removeprefix("package://").removeprefix("file://")
        if not file.is_file():
            raise AssetError(f"{path.name} refers to the mesh '{name}', which is not at {file}")
        mesh = read_mesh(file)
        return mesh, file, np.diag([*_vector(shape.get("scale", "1 1 1"), 3, path, "scale"), 1.0])
    if shape.tag == "box":
        return trimesh.creation.box(_vector(shape.get("size", ""), 3, path, "box size")), None, np.eye(4)
    if shape.tag == "sphere":
        return trimesh.creation.icosphere(3, _number(shape.get("radius"), path, "radius")), None, np.eye(4)
    if shape.tag == "cylinder":
        radius, length = (_number(shape.get(key), path, f"cylinder {key}") for key in ("radius", "length"))
        return trimesh.creation.cylinder(radius, length, sections=32), None, np.eye(4)
    raise AssetError(f"{path.name}: shape <{shape.tag}> is none of mesh, box, sphere, cylinder")


def _origin(element: ElementTree.Element, path: Path) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    origin = element.find("origin")
    pose = np.eye(4)
    if origin is not None:
        pose[:3, 3] = _vector(origin.get("xyz", "0 0 0"), 3, path, "xyz")
        pose[:3, :3] = Rotation.from_euler("xyz", _vector(origin.get("rpy", "0 0 0"), 3, path, "rpy")).as_matrix()
    return pose


def _moments(link: ElementTree.Element, path: Path) -> tuple[float, ...] | None:
    inertia = link.find("inertial/inertia")
    if inertia is None:
        return None
    xx, xy, xz, yy, yz, zz = (
        _number(inertia.get(key, "0"), path, key) for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
    )
    return tuple(np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).tolist())


def _number(text: str | None, path: Path, what: str) -> float:
    return _vector(text or "", 1, path, what)[0]


def _vector(text: str, count: int, path: Path, what: str) -> list[float]:
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise AssetError(f"{path.name}: {what}='{text}' must be {count} finite numbers")
    return values
