"""Start states of articulated scenes: joints, things on and in other things, and what is refused."""

import functools

import mujoco
import numpy as np
import pytest

from robostack.errors import SceneError, SpecError
from robostack.sim.cards import load_robot, robots
from robostack.sim.env import TaskEnv
from robostack.sim.observe import environment_state, features
from robostack.sim.scene import Scene, state_sha
from robostack.task.evaluate import margin, margin_at_start
from robostack.task.predicate import Once, atom
from robostack.task.spec import Entity, Instruction, Physics, Placement, RobotRef, TaskSpec


def entity(name, card, box, role="manipuland", *, start=None, robot="panda", **place):
    return Entity(
        id=name,
        card=card,
        color="blue",
        role=role,
        placement=Placement(box=box, **place),
        size=load_robot(robot).profile.size(card),
        joints=start or {},
    )


def task(*entities, goal=None, robot="panda", **values):
    return TaskSpec(
        name="probe",
        family="probe",
        instruction=Instruction(text="probe"),
        robot=RobotRef(name=robot),
        entities=entities,
        goal=goal or atom("lifted", "cube", 0.05),
        **values,
    )


CUBE = entity("cube", "block", (0.36, 0.22, 0.38, 0.25))
DRAWER = entity("drawer", "drawer", (0.57, -0.03, 0.6, 0.03), "fixture", start={"slide": (0.2, 0.9)}, yaw=(-0.1, 0.1))
INNER = entity("inner", "block", (-0.2, -0.2, 0.2, 0.2), on="drawer", inside=True, yaw=(-3, 3))
TOP = entity("top", "cylinder", (-0.2, -0.2, 0.2, 0.2), on="drawer")
KITCHEN = task(CUBE, DRAWER, INNER, TOP)


@functools.cache
def kitchen():
    return Scene(KITCHEN)


SEEDS = range(12)


def test_joints_start_within_their_range_and_cover_it():
    scene, seen = kitchen(), []
    for seed in SEEDS:
        scene.reset(seed)
        seen.append(scene.world.fraction("drawer", "slide"))
        assert scene.world.initial.joints == {("drawer", "slide"): seen[-1]}
    assert 0.2 <= min(seen) < 0.45
    assert 0.65 < max(seen) <= 0.9


def test_what_starts_inside_a_drawer_is_in_it_however_far_it_is_open():
    scene = kitchen()
    spread = []
    for seed in SEEDS:
        scene.reset(seed)
        assert margin(atom("in", "inner", "drawer"), scene.world) >= 0
        body = scene.world.entities["drawer"].interior_body
        local = scene.data.xmat[body].reshape(3, 3).T @ (scene.world.pos("inner") - scene.data.xpos[body])
        spread.append(local)
    assert np.ptp(spread, axis=0)[:2].min() > 0.02  # all over the floor
    assert np.ptp(spread, axis=0)[2] < 1e-3


def test_what_starts_on_a_face_stands_on_it():
    scene = kitchen()
    for seed in SEEDS:
        scene.reset(seed)
        assert margin(atom("on", "top", "drawer"), scene.world) >= 0
        assert margin(atom("in", "top", "drawer"), scene.world) < 0


def test_the_start_state_is_a_function_of_the_seed_alone():
    scene, other = kitchen(), Scene(KITCHEN)
    shas = {}
    for seed in (3, 1, 3, 2, 1):
        scene.reset(seed)
        assert shas.setdefault(seed, state_sha(scene.get_state())) == state_sha(scene.get_state())
    other.reset(2)
    assert state_sha(other.get_state()) == shas[2]
    assert len(set(shas.values())) == 3


def test_a_restored_state_brings_fixtures_and_joints_back():
    scene = kitchen()
    scene.reset(0)
    state, pos = scene.get_state(), scene.world.pos("drawer").copy()
    fraction = scene.world.fraction("drawer", "slide")
    scene.reset(5)
    assert not np.array_equal(scene.world.pos("drawer"), pos)
    scene.set_state(state)
    assert np.array_equal(scene.world.pos("drawer"), pos)
    assert scene.world.fraction("drawer", "slide") == fraction


def test_a_lid_starts_on_its_box_and_a_peg_in_its_socket():
    box = entity("box", "box", (0.45, -0.1, 0.5, 0.1), "receptacle", yaw=(-0.5, 0.5))
    lid = entity("lid", "lid", (0, 0, 0, 0), on="box")
    coin = entity("coin", "block", (-0.1, -0.1, 0.1, 0.1), on="box", inside=True)
    socket = entity("socket", "socket", (0.45, -0.2, 0.5, -0.18), "fixture")
    peg = entity("peg", "peg", (0, 0, 0, 0), on="socket", inside=True)
    scene = Scene(task(CUBE, box, lid, coin, socket, peg))
    for seed in range(4):
        scene.reset(seed)
        assert margin(atom("on", "lid", "box"), scene.world) >= 0
        assert margin(atom("in", "coin", "box"), scene.world) >= 0
        assert scene.world.pos("peg")[2] < 0.05


def test_things_on_one_support_keep_their_clearance():
    shelf = entity("shelf", "shelf", (0.55, 0, 0.55, 0), "fixture", yaw=(0.3, 0.3))
    things = [
        entity(f"b{i}", "block", (-0.2, -0.2, 0.2, 0.2), on="shelf", yaw=(-3, 3), clearance=0.01) for i in range(3)
    ]
    scene = Scene(task(CUBE, shelf, *things))
    for seed in range(6):
        scene.reset(seed)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            gap = mujoco.mj_geomDistance(
                scene.model,
                scene.data,
                scene.world.entities[f"b{i}"].geoms[0],
                scene.world.entities[f"b{j}"].geoms[0],
                1.0,
                None,
            )
            assert gap >= 0.0095


def test_neighbours_keep_clear_of_what_juts_out_from_a_support():
    base = entity("base", "block", (0.5, 0.0, 0.5, 0.0))
    roof = entity("roof", "box", (0, 0, 0, 0), "receptacle", on="base")
    near = entity("near", "block", (0.36, -0.13, 0.64, 0.13), clearance=0.005)
    scene = Scene(task(CUBE, base, roof, near))
    for seed in range(6):
        scene.reset(seed)
        gap = np.abs((scene.world.pos("near") - scene.world.pos("roof"))[:2]).max()
        assert gap > 0.06 + 0.02  # half the box and half a block


def test_nothing_starts_where_a_door_swings():
    cabinet = entity("cabinet", "cabinet", (0.62, 0.0, 0.62, 0.0), "fixture", start={"hinge": (0.0, 1.0)})
    block = entity("near", "block", (0.35, -0.25, 0.65, 0.25))
    scene = Scene(task(CUBE, cabinet, block))
    for seed in range(8):
        scene.reset(seed)
        x, y = scene.world.pos("near")[:2] - scene.world.pos("cabinet")[:2]
        assert not (-0.25 < x < 0.07 and -0.09 < y < 0.14)


@pytest.mark.parametrize("robot", robots())
@pytest.mark.parametrize("card", ["drawer", "cabinet", "button", "lever", "dial"])
def test_every_robot_gets_articulated_scenes(card, robot):
    x0, y0, x1, y1 = load_robot(robot).workspace
    scale = load_robot(robot).object_scale
    far = x0 + 0.9 * (x1 - x0)
    cube = entity("cube", "block", (x0, y1, x0 + 0.01, y1 + 0.01 * scale), robot=robot)
    thing = entity("thing", card, (far - 0.02 * scale, -0.02 * scale, far, 0.02 * scale), "fixture", robot=robot)
    name = next(iter(Scene(task(cube, thing, robot=robot)).world.entities["thing"].joints))
    scene = Scene(task(cube, thing, robot=robot, init=(atom("joint", "thing", name, "<=", 0.05),)))
    for seed in range(3):
        scene.reset(seed)
        x, y = scene.world.pos("thing")[:2]
        assert far - 0.02 * scale <= x <= far
        assert abs(y) <= 0.02 * scale
        assert -0.01 <= scene.world.fraction("thing", name) <= 0.05


# What is refused.


def test_a_false_init_predicate_is_named():
    spec = KITCHEN.model_copy(update={"init": (atom("joint", "drawer", "slide", "<=", 0.05),)})
    with pytest.raises(SceneError, match=r"INIT_FALSE: 'joint\(drawer, slide, <=, 0.05\)' does not hold") as caught:
        Scene(spec).reset(0)
    assert caught.value.code == "INIT_FALSE"


OPEN = atom("joint", "drawer", "slide", ">=", 0.8)


@pytest.mark.parametrize("goal", [OPEN, Once(once=OPEN)])
def test_a_goal_about_a_joint_that_holds_at_reset_is_refused(goal):
    drawer = DRAWER.model_copy(update={"joints": {"slide": (0.9, 0.9)}})
    with pytest.raises(SceneError, match="TRIVIAL"):
        Scene(task(CUBE, drawer, goal=goal)).reset(0)


def test_a_goal_that_remembers_can_start_unmet():
    drawer = DRAWER.model_copy(update={"joints": {"slide": (0.0, 0.1)}})
    scene = Scene(task(CUBE, drawer, goal=Once(once=OPEN)))
    scene.reset(0)
    assert scene.world.fraction("drawer", "slide") <= 0.1
    assert margin_at_start(scene.spec.goal, scene.world) < 0.0


def test_an_unknown_joint_is_named():
    drawer = DRAWER.model_copy(update={"joints": {"hinge": (0.0, 0.5)}})
    with pytest.raises(SpecError, match=r"entity 'drawer' has no joint 'hinge'; card 'drawer' has \['slide'\]"):
        Scene(task(CUBE, drawer))


def test_a_start_on_what_has_no_face_lists_what_has():
    ball = entity("ball", "ball", (0.5, 0.0, 0.5, 0.0))
    block = entity("block", "block", (0, 0, 0, 0), on="ball")
    with pytest.raises(SpecError, match=r"'block' starts on 'ball', whose card 'ball' has no surface; .*\['cube'\]"):
        Scene(task(CUBE, ball, block))
    with pytest.raises(SpecError, match=r"'block' starts inside 'cube', whose card 'block' has no interior"):
        Scene(task(CUBE, entity("block", "block", (0, 0, 0, 0), on="cube", inside=True)))


def test_a_fixture_on_something_that_moves_is_refused():
    with pytest.raises(SpecError, match="'button' is bolted to 'cube', which moves"):
        Scene(task(CUBE, entity("button", "button", (0, 0, 0, 0), "fixture", on="cube")))


def test_what_does_not_fit_inside_is_named_with_its_support():
    tray = entity("tray", "tray", (0, 0, 0, 0), "receptacle", on="drawer", inside=True)
    with pytest.raises(SceneError, match="PLACEMENT_INFEASIBLE: 'tray' does not fit inside 'drawer'"):
        Scene(task(CUBE, DRAWER, tray)).reset(0)


def test_blockers_are_named_and_bystanders_are_not():
    crowd = entity("late", "bowl", (0.36, 0.22, 0.38, 0.25))
    with pytest.raises(SceneError, match="no room for 'late' beside cube; widen"):
        Scene(task(CUBE, DRAWER, crowd)).reset(0)


def test_a_handle_out_of_reach_is_named():
    drawer = DRAWER.model_copy(update={"placement": Placement(box=(1.1, 0.0, 1.1, 0.0))})
    with pytest.raises(SceneError, match="UNREACHABLE: panda cannot reach the handle, joint 'slide' at .*'drawer'"):
        Scene(task(CUBE, drawer)).reset(0)


def test_an_object_that_slides_off_its_support_is_named():
    pole = Entity(
        id="pole", card="cylinder", color="red", role="manipuland", placement=Placement(box=(0, 0, 0, 0), on="cube"),
        size=(0.03, 0.05), friction=0.001,
    )  # fmt: skip
    tilted = entity("ramp", "bowl", (0.5, 0.0, 0.5, 0.0), "receptacle")
    block = entity("slider", "block", (0.055, 0.0, 0.055, 0.0), on="ramp", inside=True)
    with pytest.raises(SceneError) as caught:
        Scene(task(CUBE, pole, tilted, block)).reset(0)
    assert caught.value.code in ("UNSTABLE", "PENETRATION", "PLACEMENT_INFEASIBLE")
    assert "slider" in str(caught.value)


# Physics of single entities.


def test_own_mass_and_friction_reach_the_model():
    heavy = CUBE.model_copy(update={"mass": 0.4, "friction": 0.3})
    scene = Scene(task(heavy, DRAWER))
    binding = scene.world.entities["cube"]
    assert scene.model.body_mass[binding.body] == pytest.approx(0.4)
    assert scene.model.geom_friction[binding.geoms[0], 0] == 0.3


def test_jitter_reaches_moving_parts_and_is_a_function_of_the_seed():
    scene = Scene(task(CUBE, DRAWER, physics=Physics(mass_jitter=0.3, friction_jitter=0.3)))
    joint = scene.world.entities["drawer"].joints["slide"]
    nominal = scene.model.body_mass[joint.body], scene.model.dof_frictionloss[joint.dof]
    seen = {}
    for seed in (0, 1, 0):
        scene.reset(seed)
        now = scene.model.body_mass[joint.body] / nominal[0], scene.model.dof_frictionloss[joint.dof] / nominal[1]
        assert seen.setdefault(seed, now) == now
        assert all(0.7 <= ratio <= 1.3 and ratio != 1.0 for ratio in now)
        base = scene.model.body_mass[scene.world.entities["drawer"].body]
        assert base / scene.model.body_mass[joint.body] == pytest.approx(1.5)  # one factor for the whole drawer
    assert seen[0] != seen[1]


def test_a_movable_thing_with_the_role_of_a_fixture_is_bolted_down():
    scene = Scene(task(CUBE, entity("bin", "bin", (0.5, 0.0, 0.5, 0.0), "fixture")))
    scene.reset(0)
    assert scene.world.entities["bin"].dof == -1
    assert scene.world.pos("bin")[2] == 0.0


# What a policy sees.


def test_fractions_follow_the_pose_of_their_entity():
    scene = kitchen()
    scene.reset(1)
    names = features(scene).environment_state
    values = dict(zip(names, environment_state(scene), strict=True))
    assert names.index("drawer.slide") == names.index("drawer.r6") + 1
    assert [n for n in names if n.endswith(".slide")] == ["drawer.slide"]
    assert values["drawer.slide"] == pytest.approx(scene.world.fraction("drawer", "slide"))
    assert values["top.z"] == pytest.approx(scene.world.pos("top")[2])
    env = TaskEnv(KITCHEN)
    obs, _ = env.reset(seed=0)
    assert obs["environment_state"].shape == (9 * 4 + 1,) == env.observation_space["environment_state"].shape
