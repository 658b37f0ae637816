import math

import numpy as np
import pytest

from robostack.errors import SpecError
from robostack.task import geometry as geo
from robostack.task.atoms import ATOMS
from robostack.task.evaluate import margin
from robostack.task.predicate import And, Not, atom


def holds(pred, scene):
    return margin(pred, scene.world) >= 0.0


@pytest.fixture
def held(scene):
    return scene(a="block", b="block").put("b", (0.4, 0.0, 0.02)).put("a", (0.0, 0.0, 0.02)).snapshot()


def test_grasped_needs_both_pads(held):
    grasped = atom("grasped", "a")
    assert not holds(grasped, held)
    assert holds(grasped, held.put("a", (0, 0, 0.3)).grip("a"))
    held.data.mocap_pos[1] = [0, -0.5, 1]
    assert not holds(grasped, held.forward())
    assert not holds(atom("grasped", "b"), held)


def test_grasped_ends_where_the_pads_stop_touching(held):
    held.put("a", (0, 0, 0.3))
    assert holds(atom("grasped", "a"), held.grip("a", squeeze=0.0005))
    assert not holds(atom("grasped", "a"), held.grip("a", squeeze=-0.0005))


def test_two_pads_on_one_side_do_not_grasp(held):
    held.put("a", (0, 0, 0.3))
    held.data.mocap_pos[0] = [0.01, 0.0245, 0.3]
    held.data.mocap_pos[1] = [-0.01, 0.0245, 0.3]
    assert not holds(atom("grasped", "a"), held.forward())
    assert {other for _, other in geo.contacts(held.world, "a")} == {-2}


@pytest.mark.parametrize(("rise", "true"), [(0.051, True), (0.049, False)])
def test_lifted_compares_with_the_height_at_reset(held, rise, true):
    assert holds(atom("lifted", "a", 0.05), held.put("a", (0.1, 0.1, 0.02 + rise))) is true


def test_lifted_is_the_lowest_point_not_the_centre(held):
    held.put("a", (0, 0, 0.02 + 0.055), tilt=math.pi / 4)
    assert not holds(atom("lifted", "a", 0.05), held)


def test_an_object_carried_by_the_robot_is_lifted_one_on_another_object_is_not(held):
    assert holds(atom("lifted", "a", 0.03), held.put("a", (0, 0, 0.3)).grip("a"))
    assert not holds(atom("lifted", "a", 0.03), held.let_go().put("a", (0.4, 0.0, 0.0599)))


@pytest.mark.parametrize(("clear", "true"), [(0.031, True), (0.029, False)])
def test_released_needs_three_centimetres(held, clear, true):
    assert holds(atom("released", "a"), held.grip("a", squeeze=-clear)) is true


def test_touching_needs_force(scene):
    s = scene(a="block").put("a", (0, 0, 0.02 - 1e-4))
    assert holds(atom("touching", "a", "table"), s)
    assert not holds(atom("touching", "a", "table"), s.put("a", (0, 0, 0.021)))
    force = margin(atom("touching", "a", "table", force=0.0), s.put("a", (0, 0, 0.02 - 1e-4)).world)
    assert holds(atom("touching", "a", "table", force=force - 1e-3), s)
    assert not holds(atom("touching", "a", "table", force=force + 1e-3), s)


def test_touching_force_in_rest_is_the_weight(scene):
    import mujoco

    s = scene(a="block").put("a", (0, 0, 0.02))
    for _ in range(1000):
        mujoco.mj_step(s.model, s.data)
    s.forward()
    weight = 9.81 * float(s.model.body("a").mass[0])
    assert margin(atom("touching", "a", "table", force=0.0), s.world) == pytest.approx(weight, rel=0.02)


@pytest.mark.parametrize(("d", "true"), [(0.151, True), (0.149, False)])
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, -1, 0), (0, 0, 1)])
def test_moved_is_a_distance_in_three_dimensions(held, d, true, direction):
    x, y, z = direction
    assert holds(atom("moved", "a", 0.15), held.put("a", (d * x, d * y, 0.02 + d * z))) is true


def test_moved_without_a_snapshot_says_so(scene):
    with pytest.raises(SpecError, match="state at reset"):
        margin(atom("moved", "a", 0.1), scene(a="block").world)


@pytest.mark.parametrize(("speed", "true"), [(0.019, True), (0.021, False)])
def test_still_bounds_the_speed(scene, speed, true):
    s = scene(a="block").push("a", linear=(0.6 * speed, 0.0, 0.8 * speed))
    assert holds(atom("still", "a"), s) is true


@pytest.mark.parametrize(("rate", "true"), [(0.199, True), (0.201, False)])
def test_still_bounds_the_turning_rate(scene, rate, true):
    assert holds(atom("still", "a"), scene(a="block").push("a", angular=(0.0, rate, 0.0))) is true


ARGS = {"entity": "a", "support": "b", "entities": ("a", "b"), "number": 1.0, "count": 1.0, "fraction": 0.5}
ARGS |= {"joint": "slide", "comparison": ">="}
CARDS = {"contains_count": {"a": "bowl"}, "in": {"b": "bowl"}, "joint": {"a": "drawer"}}


@pytest.mark.parametrize("name", list(ATOMS))
def test_a_diverged_state_satisfies_neither_an_atom_nor_its_negation(scene, name):
    s = scene(**{"a": "block", "b": "block", **CARDS.get(name, {})}).snapshot()
    values = {**ARGS, "pose": (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0), "direction": (1.0, 0.0)}
    args = ["b" if k == "entity" and i else values[k] for i, k in enumerate(ATOMS[name].kinds)]
    s.data.qpos[0] = np.nan
    pred = atom(name, *args)
    assert not holds(pred, s)
    assert not holds(Not.model_validate({"not": pred}), s)
    assert not holds(And(parts=(pred, atom("still", "b"))), s)


def test_extents_are_closed_form_for_every_shape(scene):
    import mujoco

    model = mujoco.MjModel.from_xml_string(
        """<mujoco><asset><mesh name="m" vertex="0 0 0  .1 0 0  0 .2 0  0 0 .3  .1 .2 .1"/></asset><worldbody>
        <body name="x" pos=".1 .2 .3" quat=".3 .5 .7 .2"><freejoint/>
        <geom type="box" size=".1 .2 .3"/><geom type="sphere" size=".2"/><geom type="capsule" size=".05 .3"/>
        <geom type="cylinder" size=".1 .2"/><geom type="ellipsoid" size=".1 .2 .3"/><geom type="mesh" mesh="m"/>
        </body></worldbody></mujoco>"""
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    world = scene(a="block").world
    world = type(world)(model, data, {}, world.robot.__class__(frozenset(), ((), ()), 0), frozenset())
    rng = np.random.default_rng(0)
    for geom in range(model.ngeom):
        low, high = geo._geom_extent_z(world, geom)
        direction = rng.normal(size=(200_000, 3))
        size, rot = model.geom_size[geom], data.geom_xmat[geom].reshape(3, 3)
        points = _surface(model, geom, direction, size) @ rot.T + data.geom_xpos[geom]
        assert low <= points[:, 2].min() + 1e-9
        assert high >= points[:, 2].max() - 1e-9
        assert points[:, 2].min() - low < 5e-3
        assert high - points[:, 2].max() < 5e-3


def _surface(model, geom, direction, size):
    """Support points of the shape in random directions, by its definition."""
    unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    disc = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1, keepdims=True)
    side = np.sign(direction[:, 2:])
    kind = int(model.geom_type[geom])
    if kind == 6:
        return np.sign(direction) * size
    if kind == 2:
        return unit * size[0]
    if kind == 3:
        return unit * size[0] + np.c_[np.zeros((len(unit), 2)), side * size[1]]
    if kind == 5:
        return np.c_[disc * size[0], side * size[1]]
    if kind == 4:
        return unit * size
    mesh = model.geom_dataid[geom]
    return model.mesh_vert[model.mesh_vertadr[mesh] : model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh]].astype(float)
