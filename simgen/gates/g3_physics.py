"""G3: the compiled model is one that physics could have built, and it runs without complaints."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from robostack.errors import SceneError
from robostack.task.world import EntityBinding, World
from simgen.gates.candidate import Candidate, GateFailure
from simgen.gates.codes import Code
from simgen.gates.record import Metric
from simgen.gates.registry import gate
from simgen.gates.stage import Stage

DENSITY = (20.0, 20000.0)  # from foam to tungsten [kg/m3]
MASS = (1e-4, 50.0)  # [kg]
FRICTION = (0.05, 3.0)
FREE_STEPS = 100
_INERTIA_SHARE = 0.02  # of what a rod of the longest side would have: even a thin needle about its axis has more
_GEOM = mujoco.mjtGeom


@gate("G3", limit_s=30.0)
def physics(candidate: Candidate) -> dict[str, Metric]:
    """Masses, densities, inertias and frictions of everything that moves; 100 free steps without a warning."""
    try:
        scene = candidate.scene
    except SceneError as error:
        raise GateFailure(Code.COMPILE, str(error)) from error
    densities: list[float] = []
    for name, binding in scene.world.entities.items():
        densities += _bodies(scene.world, name, binding)
        _friction(scene.world, name, binding)
    model = scene.model
    _spread_out(Stage(candidate.env))
    for warning in _free_steps(model, scene.data):
        raise GateFailure(Code.WARNINGS, f"MuJoCo warns of {warning} within {FREE_STEPS} free steps")
    return {
        "density_min": round(min(densities, default=0.0), 1),
        "density_max": round(max(densities, default=0.0), 1),
        "dofs": int(model.nv),
        "geoms": int(model.ngeom),
    }


def _spread_out(stage: Stage) -> None:
    """The robot at rest, everything else on the table in a row that it cannot reach."""
    mujoco.mj_resetData(stage.model, stage.data)
    stage.data.qpos[stage.scene.arm.qpos] = stage.scene.ik.home
    stage.data.ctrl[stage.scene.arm.actuators] = stage.scene.ik.home
    for number, name in enumerate(stage.world.entities):
        stage.put(name, np.array([3.0, 1.0 * number, stage.rest_z(name)]), np.eye(3))
    stage.refresh()


def _free_steps(model: mujoco.MjModel, data: mujoco.MjData) -> list[str]:
    for _ in range(FREE_STEPS):
        mujoco.mj_step(model, data)
    return [mujoco.mjtWarning(i).name for i, w in enumerate(data.warning) if w.number]


def _bodies(world: World, name: str, binding: EntityBinding) -> list[float]:
    """Densities of the bodies of an entity that can move [kg/m3]."""
    moving = [binding.body] if binding.dof >= 0 else []
    moving += [joint.body for joint in binding.joints.values()]
    densities = []
    for body in moving:
        mass, inertia = float(world.model.body_mass[body]), world.model.body_inertia[body]
        if not (math.isfinite(mass) and MASS[0] <= mass <= MASS[1]):
            raise GateFailure(Code.MASS, f"'{name}' weighs {mass:g} kg, outside {MASS[0]:g} to {MASS[1]:g}")
        density = mass / max(1e-12, _volume(world, body))
        if not DENSITY[0] <= density <= DENSITY[1]:
            raise GateFailure(
                Code.DENSITY,
                f"'{name}' weighs {mass:g} kg: {density:.0f} kg/m3 is outside {DENSITY[0]:g} to {DENSITY[1]:g}",
            )
        _inertia(world, name, body, mass, inertia)
        densities.append(density)
    return densities


def _inertia(world: World, name: str, body: int, mass: float, inertia: np.ndarray) -> None:
    a, b, c = sorted(float(v) for v in inertia)
    if not (np.isfinite(inertia).all() and a > 0.0 and a + b >= c * (1 - 1e-6)):
        raise GateFailure(Code.INERTIA, f"inertia {inertia} of '{name}' is not that of a body: a + b >= c > 0")
    reach = _reach(world, body)
    if c > mass * reach**2 * 1.01 or c < _INERTIA_SHARE * mass * reach**2 / 3:
        raise GateFailure(
            Code.INERTIA, f"inertia {c:.2g} kg m2 of '{name}' does not go with {mass:g} kg within {reach * 100:.1f} cm"
        )


def _solid(world: World, body: int) -> list[int]:
    start, count = int(world.model.body_geomadr[body]), int(world.model.body_geomnum[body])
    return [g for g in range(start, start + count) if world.model.geom_contype[g]]


def _reach(world: World, body: int) -> float:
    """Farthest point of a body's solid geoms from its centre of mass, from above [m]."""
    model, centre = world.model, world.model.body_ipos[body]
    return max(
        (float(np.linalg.norm(model.geom_pos[g] - centre)) + float(model.geom_rbound[g]) for g in _solid(world, body)),
        default=0.0,
    )


def _volume(world: World, body: int) -> float:
    """Volume of the solid geoms, overlaps counted twice [m3]."""
    return sum(_geom_volume(world.model, geom) for geom in _solid(world, body))


def _geom_volume(model: mujoco.MjModel, geom: int) -> float:
    x, y, z = (float(v) for v in model.geom_size[geom])
    kind = model.geom_type[geom]
    if kind == _GEOM.mjGEOM_SPHERE:
        return 4 / 3 * math.pi * x**3
    if kind == _GEOM.mjGEOM_CAPSULE:
        return math.pi * x * x * (2 * y + 4 / 3 * x)
    if kind == _GEOM.mjGEOM_CYLINDER:
        return math.pi * x * x * 2 * y
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        return 4 / 3 * math.pi * x * y * z
    if kind == _GEOM.mjGEOM_MESH:
        from scipy.spatial import ConvexHull

        mesh = model.geom_dataid[geom]
        start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        return float(ConvexHull(model.mesh_vert[start : start + count]).volume)
    return 8 * x * y * z


def _friction(world: World, name: str, binding: EntityBinding) -> None:
    for geom in binding.geoms:
        sliding = float(world.model.geom_friction[geom, 0])
        if not FRICTION[0] <= sliding <= FRICTION[1]:
            raise GateFailure(
                Code.FRICTION, f"friction {sliding:g} of '{name}' is outside {FRICTION[0]:g} to {FRICTION[1]:g}"
            )
