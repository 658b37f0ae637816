"""The checks behind ``robostack doctor``. What could crash the interpreter runs in a subprocess."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "missing", "broken", "note"]

APT_RENDERING = "apt-get install -y libegl1 libgl1-mesa-dri libgles2"
LEAST_DISK_GB = 1.0
LEAST_MEMORY_GB = 2.0

RENDER_SCRIPT = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><visual><quality offsamples="0"/></visual><worldbody><light pos="0 0 2"/>'
    '<geom type="sphere" size="1" rgba="1 0 0 1"/><camera name="c" pos="0 -3 0" xyaxes="1 0 0 0 0 1"/>'
    '</worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(data, "c")
    pixel = renderer.render()[4, 4]
assert pixel[0] > pixel[1], f"the red sphere came out as {pixel.tolist()}"
print("8x8 frame drawn")
"""

ENCODE_SCRIPT = """
import io
import av
import numpy as np
with av.open(io.BytesIO(), "w", format="mp4") as container:
    stream = container.add_stream("h264", rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    packets = stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
    packets += stream.encode()
    assert packets, "the encoder returned nothing"
    print(f"one frame, {sum(p.size for p in packets)} bytes, {stream.codec_context.codec.name}")
"""

TORCH_SCRIPT = """
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(f"{torch.get_num_threads()} threads; CUDA: {', '.join(names) or 'none, the CPU does the work'}")
"""


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        status: ``note`` is worth knowing and nothing is wrong.
        fix: a command, or an instruction; empty when there is nothing to do.
        necessary: ``robostack run`` cannot work without it.
    """

    group: str
    name: str
    status: Status
    detail: str
    fix: str = ""
    necessary: bool = True

    @property
    def blocks(self) -> bool:
        """Whether it keeps the main job from running."""
        return self.necessary and self.status in ("missing", "broken")


def all_checks(outputs: Path = Path("outputs")) -> list[Check]:
    """Every check, in the order of the table."""
    return [
        python_version(),
        *packages(),
        probe("rendering", "MuJoCo EGL", RENDER_SCRIPT, fix=APT_RENDERING),
        probe("video", "H.264 encoding", ENCODE_SCRIPT, fix=install_command("report")),
        probe("compute", "torch", TORCH_SCRIPT, fix=install_command("train")),
        cores(),
        memory(),
        disk(outputs),
        writable(outputs),
        robot_descriptions(),
        cards(),
    ]


def python_version(version: tuple[int, int] = sys.version_info[:2]) -> Check:
    """3.11 exactly: what the pinned packages are built for."""
    good = version == (3, 11)
    detail = f"{version[0]}.{version[1]} at {sys.executable}"
    return Check("python", "Python 3.11", "ok" if good else "broken", detail, fix="" if good else "make setup")


# Packages.


def requirements() -> list[tuple[str, str]]:
    """(extra, requirement) pairs; the core has the extra ``""``. From the checkout, else from the metadata."""
    pyproject = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        extras = {"": project["dependencies"], **project["optional-dependencies"]}
        return [(extra, line) for extra, lines in extras.items() if extra != "all" for line in lines]
    pairs = []
    for line in importlib.metadata.requires("robostack") or []:
        requirement, _, marker = line.partition(";")
        extra = marker.partition("extra ==")[2].strip().strip("'\"")
        if extra != "all":
            pairs.append((extra, requirement.strip()))
    return pairs


def packages() -> list[Check]:
    """One check per required distribution."""
    return [package(extra, requirement) for extra, requirement in requirements()]


def package(extra: str, requirement: str) -> Check:
    """Whether a distribution is installed in a version that ``requirement`` allows."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return Check(_group(extra), requirement, "missing", "packaging is not installed", install_command(extra))
    wanted = Requirement(requirement)
    necessary = extra not in ("dev", "gen", "bench", "onnx")
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        detail = f"not installed, wanted {wanted.specifier}"
        return Check(_group(extra), wanted.name, "missing", detail, install_command(extra), necessary)
    good = wanted.specifier.contains(version, prereleases=True)
    status: Status = "ok" if good else "broken"
    fix = "" if good else install_command(extra)
    return Check(_group(extra), wanted.name, status, f"{version}  (wanted {wanted.specifier})", fix, necessary)


def _group(extra: str) -> str:
    return f"packages [{extra}]" if extra else "packages"


def install_command(extra: str) -> str:
    """``make setup`` in a checkout, else pip."""
    if (Path(__file__).resolve().parents[2] / "Makefile").is_file():
        return "make setup"
    return f"pip install 'robostack[{extra}]'" if extra else "pip install --force-reinstall robostack"


# What the machine can do.


def probe(group: str, name: str, script: str, *, fix: str, timeout_s: float = 120.0) -> Check:
    """Run a script in a fresh interpreter; its last line of output is the detail, its last line of error the reason."""
    environment = {"MUJOCO_GL": "egl", **os.environ}
    command = [sys.executable, "-c", script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Check(group, name, "broken", f"no answer within {timeout_s:.0f} s", fix)
    if done.returncode == 0:
        return Check(group, name, "ok", _last_line(done.stdout))
    reason = _last_line(done.stderr) or f"the process ended with code {done.returncode}"
    if "ModuleNotFoundError" in reason:
        return Check(group, name, "missing", reason, install_command(""))
    return Check(group, name, "broken", reason, fix)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # MuJoCo's renderer complains again from __del__ after the first error; the first error is the reason.
    errors = [line for line in lines if "Error:" in line and not line.startswith("Exception ignored")]
    return (errors or lines or [""])[0 if errors else -1]


def cores() -> Check:
    """Cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return Check("compute", "cores", "note", f"{usable} usable, OMP_NUM_THREADS {threads}", necessary=False)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Check:
    """Memory that is free now."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free_gb = int(fields["MemAvailable"].split()[0]) / 1024**2
    except (OSError, KeyError, ValueError):
        return Check("compute", "memory", "note", "unknown on this system", necessary=False)
    enough = free_gb >= LEAST_MEMORY_GB
    fix = "" if enough else "close other programs, or pass demos.workers=1 eval.workers=1"
    return Check("compute", "memory", "ok" if enough else "broken", f"{free_gb:.1f} GB free", fix, necessary=False)


def disk(outputs: Path) -> Check:
    """Free space where the results go."""
    free_gb = shutil.disk_usage(_existing(outputs)).free / 1024**3
    enough = free_gb >= LEAST_DISK_GB
    fix = "" if enough else f"free {LEAST_DISK_GB:.0f} GB, or pass out=<a folder on another disk>"
    return Check("disk", "free space", "ok" if enough else "broken", f"{free_gb:.1f} GB at {outputs}", fix)


def writable(outputs: Path) -> Check:
    """Whether the results can be written."""
    folder = _existing(outputs)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("disk", "write access", "ok", str(folder.resolve()))
    except OSError as error:
        fix = "change to a folder that you may write, or pass out=<folder>"
        return Check("disk", "write access", "broken", f"{folder.resolve()}: {error.strerror}", fix)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.is_dir())


def robot_descriptions(roots: tuple[Path, ...] | None = None) -> Check:
    """URDF and meshes of the arms, from the package example-robot-data."""
    folders = tuple(Path(p) for p in sys.path if p) if roots is None else roots
    for root in folders:
        robots = root / "cmeel.prefix" / "share" / "example-robot-data" / "robots"
        if robots.is_dir():
            wanted = ("panda_description", "ur_description", "so_arm_description")
            absent = [name for name in wanted if not (robots / name / "urdf").is_dir()]
            if absent:
                return Check("robots", "descriptions", "broken", f"{absent} not in {robots}", install_command("sim"))
            return Check("robots", "descriptions", "ok", str(robots))
    return Check("robots", "descriptions", "missing", "example-robot-data is not installed", install_command("sim"))


def cards() -> Check:
    """Robot cards that ``robot=<name>`` can name."""
    from robostack.paths import data_dirs, find_cards

    found = sorted(find_cards("robots"))
    if found:
        return Check("robots", "cards", "ok", ", ".join(found))
    where = " or ".join(str(path / "robots") for path in data_dirs())
    return Check("robots", "cards", "missing", f"none in {where}", "install robostack again, or unset ROBOSTACK_DATA")
