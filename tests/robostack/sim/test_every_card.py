"""One contract for every asset card: what a task may rely on, whichever object it takes."""

import functools
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from robostack.errors import SpecError
from robostack.paths import find_cards
from robostack.sim.cards import load_asset
from robostack.sim.objects import SHAPES, build_object
from robostack.task.profile import CARD_SIZES
from robostack.task.world import Interior

CARDS = sorted(find_cards("assets"))
SOLID = [c for c in CARDS if load_asset(c).mass > 0]
MOVABLE = [c for c in SOLID if not load_asset(c).fixed]
JOINTED = [c for c in CARDS if load_asset(c).joints]
PROBE_RADIUS = 0.005


@functools.cache
def offers(card):
    spec = mujoco.MjSpec()
    return build_object(spec, spec.worldbody.add_body(name="thing", mocap=True), load_asset(card), None, "red")


HOLLOW = [c for c in CARDS if offers(c).interior]
FLAT = [c for c in CARDS if offers(c).surface]


def bench(card, scale=1.0, probe=None):
    """The object alone on the table, with the solver of a scene; ``probe`` adds a free body to the spec."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1], conaffinity=3)
    asset = load_asset(card)
    body = spec.worldbody.add_body(name="thing", mocap=asset.fixed)
    if not asset.fixed:
        body.add_freejoint(name="thing_free")
    shape = build_object(spec, body, asset, tuple(scale * s for s in asset.size), "red")
    body.pos = [0.4, 0.1, shape.rest_z + (0.0 if asset.fixed else 3e-4)]
    if probe:
        ball = spec.worldbody.add_body(name="probe")
        ball.add_freejoint(name="probe_free")
        ball.add_geom(condim=4, contype=1, conaffinity=1, **probe)
    model = spec.compile()
    data = mujoco.MjData(model)
    data.mocap_pos[:], data.mocap_quat[:] = body.pos, [1, 0, 0, 0]
    mujoco.mj_forward(model, data)
    return SimpleNamespace(shape=shape, model=model, data=data)


def run(b, seconds):
    for _ in range(round(seconds / b.model.opt.timestep)):
        mujoco.mj_step(b.model, b.data)
    assert not any(w.number for w in b.data.warning)


def set_joints(b, fraction):
    for joint in b.shape.joints.values():
        b.data.joint(joint.joint).qpos[0] = joint.closed + fraction * (joint.open - joint.closed)
    mujoco.mj_forward(b.model, b.data)


def fraction_of(b, joint):
    return (b.data.joint(joint.joint).qpos[0] - joint.closed) / (joint.open - joint.closed)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("card", CARDS)
def test_it_comes_to_rest_where_it_was_put(card, scale):
    b = bench(card, scale)
    before, rot = b.data.body("thing").xpos.copy(), b.data.body("thing").xmat.copy()
    run(b, 2.0)
    assert np.linalg.norm(b.data.body("thing").xpos - before) < 0.015
    assert b.data.body("thing").xmat[8] / rot[8] > np.cos(np.deg2rad(10))
    assert np.abs(b.data.qvel).max(initial=0.0) < 5e-3


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("card", CARDS)
def test_mass_is_the_cards_and_scales_with_the_volume(card, scale):
    b = bench(card, scale)
    assert b.model.body_mass[1:].sum() == pytest.approx(load_asset(card).mass * scale**3, rel=1e-6)
    assert (b.model.geom_contype[1:] != 0).any() == (card in SOLID)  # what is only painted weighs nothing


@pytest.mark.parametrize("card", SOLID)
def test_every_part_has_the_density_and_the_inertia_of_a_thing(card):
    model = bench(card).model
    for body in range(1, model.nbody):
        geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] == body and model.geom_contype[g]]
        volume = sum(geom_volume(model, g) for g in geoms)
        assert 20 <= model.body_mass[body] / volume <= 20_000
        a, b, c = sorted(model.body_inertia[body])
        assert 0 < a <= b <= c <= (a + b) * (1 + 1e-9)


def geom_volume(model, geom):
    x, y, z = model.geom_size[geom]
    kind = mujoco.mjtGeom(model.geom_type[geom])
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        return np.prod(2 * model.geom_aabb[geom, 3:])
    return {
        mujoco.mjtGeom.mjGEOM_BOX: 8 * x * y * z,
        mujoco.mjtGeom.mjGEOM_CYLINDER: 2 * np.pi * x * x * y,
        mujoco.mjtGeom.mjGEOM_SPHERE: 4 / 3 * np.pi * x**3,
        mujoco.mjtGeom.mjGEOM_CAPSULE: 4 / 3 * np.pi * x**3 + 2 * np.pi * x * x * y,
    }[kind]


@pytest.mark.parametrize("card", SOLID)
def test_the_bounding_box_contains_it(card):
    b = bench(card)
    origin = b.data.body("thing").xpos
    for geom in np.flatnonzero(b.model.geom_contype[1:]) + 1:
        rot = b.data.geom_xmat[geom].reshape(3, 3)
        center = b.data.geom_xpos[geom] + rot @ b.model.geom_aabb[geom, :3]
        reach = np.abs(center - origin) + np.abs(rot) @ b.model.geom_aabb[geom, 3:]
        if b.model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:  # whose box leans in its own frame
            start, count = (int(a[b.model.geom_dataid[geom]]) for a in (b.model.mesh_vertadr, b.model.mesh_vertnum))
            corners = b.data.geom_xpos[geom] + b.model.mesh_vert[start : start + count] @ rot.T
            reach = np.abs(corners - origin).max(axis=0)
        assert (reach[:2] <= np.array(b.shape.half[:2]) * 1.06 + 1e-3).all()
        assert reach[2] <= b.shape.half[2] + 2e-3


@pytest.mark.parametrize("card", CARDS)
def test_half_the_size_is_half_the_extent(card):
    full, half = bench(card).shape, bench(card, 0.5).shape
    # Walls and floors of some containers keep their thickness.
    assert np.allclose(np.array(full.half) / 2, half.half, atol=0.0085)
    assert np.allclose(np.array(full.footprint) / 2, half.footprint, rtol=1e-6)
    for name, joint in full.joints.items():
        travel = joint.open - joint.closed
        assert half.joints[name].open == pytest.approx(travel if joint.kind == "hinge" else travel / 2)


@pytest.mark.parametrize("card", JOINTED)
def test_its_joints_are_damped_limited_and_named_as_in_the_table_of_shapes(card):
    b = bench(card)
    assert set(b.shape.joints) == set(SHAPES[load_asset(card).shape].joints) == set(load_asset(card).joints)
    for joint in b.shape.joints.values():
        bound = b.model.joint(joint.joint)
        assert bound.limited[0]
        assert joint.open - joint.closed > 0
        assert bound.range.tolist() == pytest.approx([joint.closed, joint.open])
        assert b.model.dof_damping[bound.dofadr[0]] > 0


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("card", JOINTED)
def test_a_full_sweep_is_free_of_self_penetration(card, scale):
    b = bench(card, scale)
    part = {b.model.body(joint.body).id for joint in b.shape.joints.values()}
    solid = [g for g in range(1, b.model.ngeom) if b.model.geom_contype[g]]
    moving = [g for g in solid if b.model.geom_bodyid[g] in part]
    still = [g for g in solid if g not in moving]
    for fraction in np.linspace(0, 1, 41):
        set_joints(b, fraction)
        gaps = [mujoco.mj_geomDistance(b.model, b.data, g, h, 0.01, None) for g in moving for h in still]
        assert min(gaps) > -1e-3


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("card", JOINTED)
def test_a_spring_returns_and_everything_else_stays_where_it_is_left(card, scale):
    b = bench(card, scale)
    set_joints(b, 0.9)
    run(b, 1.5)
    for name, joint in b.shape.joints.items():
        if load_asset(card).joints[name].spring:
            assert fraction_of(b, joint) < 0.03
        else:
            assert fraction_of(b, joint) == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("card", JOINTED)
def test_the_joint_stops_at_both_ends(card):
    b = bench(card)
    for joint in b.shape.joints.values():
        address = b.model.joint(joint.joint).dofadr[0]
        push = 4 * (b.model.dof_frictionloss[address] + 1e-3)
        if b.model.jnt_stiffness[b.model.joint(joint.joint).id].any():
            push = 6.0
        for sign, end in ((1, 1.0), (-1, 0.0)):
            b.data.qfrc_applied[address] = sign * push
            run(b, 4.0)
            assert fraction_of(b, joint) == pytest.approx(end, abs=0.04)


@pytest.mark.parametrize("card", JOINTED)
def test_the_handle_lies_on_the_moving_part_and_points_away_from_it(card):
    b = bench(card)
    for joint in b.shape.joints.values():
        set_joints(b, 0.0)
        site = b.data.site(joint.handle)
        pos, (along, out) = site.xpos.copy(), site.xmat.reshape(3, 3).T[1:].copy()
        assert b.model.site_bodyid[site.id] == b.model.body(joint.body).id
        solid = [g for g in range(1, b.model.ngeom) if b.model.geom_contype[g]]
        moving = [g for g in solid if b.model.geom_bodyid[g] == b.model.body(joint.body).id]
        aside = site.xmat.reshape(3, 3) @ [0.001, 0.0007, 0.0]  # turned surfaces have a pinhole on their axis
        outside = pos + 0.1 * out + aside
        far = mujoco.mj_ray(b.model, b.data, outside, -out, None, 1, -1, np.zeros(1, np.int32))
        assert 0 <= far <= 0.1 + 1e-6  # coming in along z one meets the handle
        assert min(point_distance(b, g, pos) for g in moving) < 1e-3
        set_joints(b, 1.0)
        moved, turn = b.data.site(joint.handle).xpos - pos, b.data.site(joint.handle).xmat.reshape(3, 3)[:, 1]
        assert np.linalg.norm(moved) > 0.01 or turn @ along < -0.99  # a dial's bar turns where it is


def point_distance(b, geom, point):
    """Distance of a point to the bounding box of a geom; 0 inside."""
    local = b.data.geom_xmat[geom].reshape(3, 3).T @ (point - b.data.geom_xpos[geom])
    return np.linalg.norm(np.maximum(np.abs(local - b.model.geom_aabb[geom, :3]) - b.model.geom_aabb[geom, 3:], 0))


@pytest.mark.parametrize("card", HOLLOW)
def test_its_interior_holds_a_ball_that_is_dropped_into_it(card):
    sphere = {"type": mujoco.mjtGeom.mjGEOM_SPHERE, "size": [PROBE_RADIUS] * 3, "mass": 0.003}
    b = bench(card, probe=sphere)
    interior: Interior = b.shape.interior
    if b.shape.interior_body:
        set_joints(b, 1.0)
    carrier = b.data.body(b.shape.interior_body or "thing")
    low = interior.center[2] - interior.half[2] + PROBE_RADIUS
    start = np.array([0.4 * interior.half[0], -0.3 * interior.half[1], min(0.02, 1.6 * interior.half[2])])
    b.data.joint("probe_free").qpos[:3] = carrier.xpos + [*np.array(interior.center[:2]), low] + start
    run(b, 1.5)
    at = carrier.xmat.reshape(3, 3).T @ (b.data.body("probe").xpos - carrier.xpos) - interior.center
    half = np.array(interior.half)
    assert (np.hypot(*at[:2]) < half[0]) if interior.round else (np.abs(at[:2]) < half[:2]).all()
    assert -half[2] + 0.5 * PROBE_RADIUS < at[2] < -half[2] + 3 * PROBE_RADIUS
    assert np.linalg.norm(b.data.joint("probe_free").qvel[2]) < 0.01


@pytest.mark.parametrize("card", FLAT)
def test_its_face_carries_a_board(card):
    surface = offers(card).surface
    half = [0.97 * surface.half[0], 0.97 * surface.half[1], 0.004]
    if surface.round:
        half[:2] = [0.7 * surface.half[0]] * 2
    b = bench(card, probe={"type": mujoco.mjtGeom.mjGEOM_BOX, "size": half, "mass": 0.02})
    carrier = b.data.body(b.shape.surface_body or "thing")
    height = surface.center[2] + half[2]
    b.data.joint("probe_free").qpos[:3] = carrier.xpos + [*surface.center[:2], height + 5e-4]
    run(b, 1.0)
    at = b.data.body("probe").xpos - carrier.xpos
    assert at[2] == pytest.approx(height, abs=0.001)
    assert np.allclose(at[:2], surface.center[:2], atol=0.005)
    assert np.abs(b.data.joint("probe_free").qvel).max() < 0.05


@pytest.mark.parametrize("card", MOVABLE)
def test_where_a_gripper_takes_it_there_is_something(card):
    b = bench(card)
    grip = b.shape.grip
    if grip is None:
        return
    assert set(grip.across) <= {"x", "y"}
    assert min(2 * grip.half["xy".index(axis)] for axis in grip.across) <= 0.064  # 80 % of an 8 cm gripper
    for axis in grip.across:  # a ray along the closing direction meets the object at the side of the grip
        index = "xy".index(axis)
        out = np.eye(3)[index]
        center = b.data.body("thing").xpos + grip.center
        far = mujoco.mj_ray(b.model, b.data, center + 0.2 * out, -out, None, 1, -1, np.zeros(1, np.int32))
        assert 0.2 - far == pytest.approx(grip.half[index], abs=0.002)


def test_sizes_told_to_task_authors_are_those_of_the_cards():
    own = [c for c in CARDS if SHAPES[load_asset(c).shape].labels != ("scale",)]
    assert {name: load_asset(name).size for name in own} == CARD_SIZES


@pytest.mark.parametrize("card", CARDS)
def test_a_size_of_the_wrong_length_names_what_is_missing(card):
    spec = mujoco.MjSpec()
    labels = SHAPES[load_asset(card).shape].labels
    with pytest.raises(SpecError, match=rf"{card}: size .* must be {len(labels)} positive .*{labels[0]}"):
        build_object(spec, spec.worldbody.add_body(name="thing"), load_asset(card), (0.03,) * (len(labels) + 1), "red")


def test_a_card_whose_joints_its_shape_does_not_have_is_refused():
    card = load_asset("drawer").model_copy(update={"joints": {"hinge": load_asset("drawer").joints["slide"]}})
    spec = mujoco.MjSpec()
    with pytest.raises(SpecError, match=r"drawer: the card describes the joints \['hinge'\], .* has \['slide'\]"):
        build_object(spec, spec.worldbody.add_body(name="thing"), card, None, "red")


def test_own_mass_and_friction_replace_those_of_the_card():
    spec = mujoco.MjSpec()
    build_object(spec, spec.worldbody.add_body(name="thing"), load_asset("mug"), None, "red", mass=0.3, friction=0.2)
    model = spec.compile()
    assert model.body_mass[1] == pytest.approx(0.3)
    assert (model.geom_friction[model.geom_contype != 0, 0] == 0.2).all()
