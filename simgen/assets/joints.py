"""Gate A7: the joints of an articulated URDF move, are damped, and do not drive parts into each other."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from robostack.errors import AssetError
from simgen.assets.read import parse_urdf
from simgen.assets.record import AssetRecord, GateFailure

MAX_PENETRATION = 1e-3  # m
_SWEEP = 11


def joint_gate(path: Path) -> AssetRecord:
    """A7: every movable joint has limits, range, damping or dry friction, and a sweep without self-penetration."""
    root = parse_urdf(path)
    movable = [joint for joint in root.findall("joint") if joint.get("type") != "fixed"]
    if not movable:
        return AssetRecord(gate="A7", ok=True, detail="it has no joint that moves", metrics={"joints": 0})
    for joint in movable:
        _check_joint(joint)
    model = _compile(path)
    depth, where = _sweep(model)
    metrics = {"joints": len(movable), "worst_penetration_m": depth}
    if depth > MAX_PENETRATION:
        raise GateFailure(
            "A7",
            "SELF_PENETRATION",
            f"{where} drives parts {depth * 1e3:.1f} mm into each other: narrow its limits or correct its origin",
            **metrics,
        )
    return AssetRecord(gate="A7", ok=True, metrics=metrics)


def _check_joint(joint) -> None:
    name, kind = joint.get("name", "?"), joint.get("type")
    if kind not in ("revolute", "prismatic"):
        raise GateFailure(
            "A7", "JOINT_KIND", f"joint '{name}' is {kind}: make it revolute or prismatic, with limits, or fixed"
        )
    limit, dynamics = joint.find("limit"), joint.find("dynamics")
    low, high = (_value(limit, key) for key in ("lower", "upper"))
    if not high > low:
        raise GateFailure(
            "A7", "JOINT_RANGE", f"joint '{name}' moves from {low:g} to {high:g}: upper must exceed lower"
        )
    damping, friction = (_value(dynamics, key) for key in ("damping", "friction"))
    if not (damping > 0 or friction > 0):
        raise GateFailure(
            "A7",
            "JOINT_DAMPING",
            f"joint '{name}' is undamped: give it <dynamics damping='...' friction='...'/> above 0",
        )


def _value(element, key: str) -> float:
    """A number of an element, 0 where nothing is said; NaN where it is none."""
    try:
        return float(element.get(key, "0")) if element is not None else 0.0
    except ValueError:
        return float("nan")


def _compile(path: Path) -> mujoco.MjModel:
    try:
        spec = mujoco.MjSpec.from_string(path.read_text())
        spec.compiler.balanceinertia, spec.compiler.discardvisual = True, False
        spec.meshdir = str(path.parent.resolve())
        return spec.compile()
    except ValueError as error:
        raise AssetError(f"{path.name} does not compile in MuJoCo: {' '.join(str(error).split())}") from error


def _sweep(model: mujoco.MjModel) -> tuple[float, str]:
    """Deepest penetration over a sweep of each joint [m], beyond that of the closed pose, and the joint."""
    data = mujoco.MjData(model)
    worst, where = 0.0, ""
    for joint in range(model.njnt):
        for q in np.linspace(model.jnt_range[joint, 0], model.jnt_range[joint, 1], _SWEEP):
            data.qpos[:] = model.qpos0
            data.qpos[model.jnt_qposadr[joint]] = q
            mujoco.mj_forward(model, data)
            depth = -float(data.contact.dist.min()) if data.ncon else 0.0
            if depth > worst:
                worst, where = depth, f"joint '{model.joint(joint).name}'"
    return worst, where
