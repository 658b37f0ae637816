"""TaskSpec -> MjSpec, and the compiled model -> the bindings by which everyone finds entities, joints and robot."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from robostack.errors import SpecError
from robostack.sim.cards import RobotCard, load_asset
from robostack.sim.furniture import furnish
from robostack.sim.objects import JointShape, Shape, build_object
from robostack.sim.robot import TCP_SITE, build_robot
from robostack.task.spec import Entity, TaskSpec
from robostack.task.world import EntityBinding, JointBinding, RobotBinding, World

ROBOT_PREFIX = "robot/"


@dataclass(frozen=True)
class ArmIndex:
    """Addresses of the robot in the scene's model."""

    qpos: np.ndarray
    actuators: np.ndarray
    gripper_qpos: int
    gripper_actuator: int


def assemble(spec: TaskSpec, card: RobotCard) -> tuple[mujoco.MjSpec, dict[str, Shape]]:
    """Robot, table and entities in one spec, and what the entities' shapes offer.

    Raises:
        SpecError: an entity with a wrong size or colour, or one that starts where nothing can stand.
    """
    root = mujoco.MjSpec()
    root.modelname = spec.name
    root.option.timestep = spec.physics.timestep
    root.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    root.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    root.option.impratio = 10.0
    root.compiler.degree = False
    furnish(root, card)
    frame = root.worldbody.add_frame(pos=[0.0, 0.0, card.base_height])
    root.attach(build_robot(card), prefix=ROBOT_PREFIX, frame=frame)
    shapes = {}
    for entity in spec.entities:
        asset = load_asset(entity.card)
        fixed = _bolted(entity)
        body = root.worldbody.add_body(name=entity.id, mocap=fixed)
        if not fixed:
            body.add_freejoint(name=f"{entity.id}_free")
        shapes[entity.id] = build_object(
            root, body, asset, entity.size, entity.color, mass=entity.mass, friction=entity.friction
        )
        _check_start(entity, spec, shapes)
    return root, shapes


def _bolted(entity: Entity) -> bool:
    return entity.role == "fixture" or load_asset(entity.card).fixed


def _check_start(entity: Entity, spec: TaskSpec, shapes: dict[str, Shape]) -> None:
    """Raise SpecError for a start on what has no face or interior, or of joints that do not exist."""
    joints, placement = shapes[entity.id].joints, entity.placement
    for name in entity.joints:
        if name not in joints:
            raise SpecError(f"entity '{entity.id}' has no joint '{name}'; card '{entity.card}' has {sorted(joints)}")
    if placement.on == "table":
        return
    need = "interior" if placement.inside else "surface"
    if getattr(shapes[placement.on], need) is None:
        able = [name for name, shape in shapes.items() if getattr(shape, need) is not None and name != entity.id]
        raise SpecError(
            f"entity '{entity.id}' starts {'inside' if placement.inside else 'on'} '{placement.on}', whose card"
            f" '{spec.entity(placement.on).card}' has no {need}; entities that have one: {able}"
        )
    if _bolted(entity) and not _bolted(spec.entity(placement.on)):
        raise SpecError(f"entity '{entity.id}' is bolted to '{placement.on}', which moves; place it on the table")


def bind(spec: TaskSpec, model: mujoco.MjModel, data: mujoco.MjData, shapes: dict[str, Shape]) -> World:
    """The view of the compiled scene that predicates are evaluated on."""
    entities = {e.id: _bind_entity(e, model, shapes[e.id]) for e in spec.entities}
    robot_bodies = [b for b in range(model.nbody) if model.body(b).name.startswith(ROBOT_PREFIX)]
    robot_geoms = [g for b in robot_bodies for g in _geoms_of(model, b) if model.geom_contype[g]]
    pads = tuple(tuple(g for g in robot_geoms if f"pad_{side}_" in model.geom(g).name) for side in ("left", "right"))
    robot = RobotBinding(frozenset(robot_geoms), (pads[0], pads[1]), model.site(ROBOT_PREFIX + TCP_SITE).id)
    return World(model, data, entities, robot, table_geoms=frozenset({model.geom("table").id}))


def _bind_entity(entity: Entity, model: mujoco.MjModel, shape: Shape) -> EntityBinding:
    body = model.body(entity.id).id
    bodies = np.flatnonzero(model.body_rootid == body)  # with its moving parts
    geoms = [g for b in bodies for g in _geoms_of(model, int(b)) if model.geom_contype[g]]
    free = model.body_jntnum[body] > 0
    return EntityBinding(
        id=entity.id,
        card=entity.card,
        color=entity.color,
        role=entity.role,
        body=body,
        geoms=tuple(geoms),
        dof=int(model.body_dofadr[body]) if free else -1,
        symmetry=load_asset(entity.card).symmetry,
        half=shape.half,
        surface=shape.surface,
        interior=shape.interior,
        surface_body=model.body(shape.surface_body).id if shape.surface_body else -1,
        interior_body=model.body(shape.interior_body).id if shape.interior_body else -1,
        joints={name: _bind_joint(name, joint, model) for name, joint in shape.joints.items()},
        grip=shape.grip,
    )


def _bind_joint(name: str, shape: JointShape, model: mujoco.MjModel) -> JointBinding:
    joint = model.joint(shape.joint)
    return JointBinding(
        name=name,
        kind=shape.kind,
        qpos=int(joint.qposadr[0]),
        dof=int(joint.dofadr[0]),
        closed=shape.closed,
        open=shape.open,
        body=model.body(shape.body).id,
        handle=model.site(shape.handle).id,
    )


def _geoms_of(model: mujoco.MjModel, body: int) -> list[int]:
    start = int(model.body_geomadr[body])
    return list(range(start, start + int(model.body_geomnum[body]))) if start >= 0 else []


def arm_index(model: mujoco.MjModel, card: RobotCard) -> ArmIndex:
    """Where the robot's joints and actuators are."""
    driven = ROBOT_PREFIX + card.gripper.joints[0]
    return ArmIndex(
        qpos=np.array([model.joint(ROBOT_PREFIX + name).qposadr[0] for name in card.arm.joints]),
        actuators=np.array([model.actuator(ROBOT_PREFIX + name).id for name in card.arm.joints]),
        gripper_qpos=int(model.joint(driven).qposadr[0]),
        gripper_actuator=int(model.actuator(driven).id),
    )
