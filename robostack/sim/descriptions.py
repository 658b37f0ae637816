"""Robot descriptions on disk -> MjSpec. URDF and MJCF come out alike: bodies, joints, collision shapes, inertias."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

import mujoco

from robostack.errors import MissingExtra, SpecError
from robostack.sim.cards import RobotCard

_URDF_COMPILER = '<mujoco><compiler strippath="false" discardvisual="true" fusestatic="false"/></mujoco>'
_MENAGERIE_ENV = "ROBOSTACK_MENAGERIE"


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


def _parse(path: Path) -> mujoco.MjSpec:
    if path.suffix == ".urdf":
        text = path.read_text().replace("package://example-robot-data/robots/", f"{example_robot_data()}/")
        text = re.sub(r"(<robot[^>]*>)", lambda match: match.group(1) + _URDF_COMPILER, text, count=1)
        spec = mujoco.MjSpec.from_string(text)
        spec.compiler.discardvisual = False  # finger meshes stay visible though pads replace them in contact
        for mesh in spec.meshes:  # file names become absolute, so that the spec can be attached anywhere
            mesh.file = str(path.parent / mesh.file)
        return spec
    return mujoco.MjSpec.from_file(str(path))
