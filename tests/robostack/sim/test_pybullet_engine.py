"""PyBullet computes the same bodies: laws of the conversion, then whole tasks."""

import mujoco
import numpy as np
import pytest

from robostack.errors import UnknownName
from robostack.sim import make_task
from robostack.sim.scene import state_sha, train_seed

pytest.importorskip("pybullet")
ROBOTS = ("panda", "ur5e", "so101")


@pytest.fixture(scope="module", params=ROBOTS)
def scene(request):
    scene = make_task("put_in_bowl", request.param, engine="pybullet").scene
    scene.reset(train_seed(0))
    return scene


def link_pose(scene, tree, body):
    """Pose of a body's link frame in PyBullet: position and rotation matrix."""
    index, links = scene._trees.index(tree), scene._links[scene._trees.index(tree)]
    client, link = scene._b, links[body]
    if link < 0:
        place = client.getBasePositionAndOrientation(scene._ids[index])
        pos, quat = client.multiplyTransforms(*place, *client.invertTransform(*scene._inertial[index]))
    else:
        pos, quat = client.getLinkState(scene._ids[index], link, computeForwardKinematics=1)[4:6]
    return np.array(pos), np.array(client.getMatrixFromQuaternion(quat)).reshape(3, 3)


def test_every_body_stands_where_mujoco_has_it_in_random_configurations(scene):
    rng = np.random.default_rng(0)
    for _ in range(5):
        low, high = scene.ik.lower, scene.ik.upper
        scene.data.qpos[scene.arm.qpos] = rng.uniform(low, high)
        scene._push()
        for tree in scene._trees:
            for body in tree.bodies:
                pos, rot = link_pose(scene, tree, body)
                np.testing.assert_allclose(pos, scene.data.xpos[body], atol=2e-5)
                np.testing.assert_allclose(rot, scene.data.xmat[body].reshape(3, 3), atol=2e-4)


def test_masses_carry_over(scene):
    for index, tree in enumerate(scene._trees):
        for body in tree.bodies:
            link = scene._links[index][body]
            mass = scene._b.getDynamicsInfo(scene._ids[index], link)[0]
            if link >= 0 or tree.free:  # the base of a fixed tree weighs nothing in PyBullet
                assert mass == pytest.approx(float(scene.model.body_mass[body]), rel=1e-6)


def test_a_state_survives_the_way_there_and_back(scene):
    scene.reset(train_seed(1))
    rng = np.random.default_rng(1)
    scene.data.qvel[:] = rng.normal(scale=0.1, size=scene.model.nv)
    qpos, qvel = scene.data.qpos.copy(), scene.data.qvel.copy()
    scene._push()
    scene.data.qpos[:], scene.data.qvel[:] = scene.model.qpos0, 0.0
    scene._pull()
    np.testing.assert_allclose(scene.data.qpos, qpos, atol=1e-6)
    np.testing.assert_allclose(scene.data.qvel, qvel, atol=1e-6)


def test_a_free_body_falls_as_newton_says(scene):
    scene.reset(train_seed(2))
    adr = scene.model.joint("red_cube_free").qposadr[0]
    scene.data.qpos[adr : adr + 3] += [0.0, 0.4, 0.3]  # beside the arm
    z0 = float(scene.data.qpos[adr + 2])
    scene._push()
    seconds = 0.2
    scene.advance(scene.data.ctrl.copy(), round(seconds / scene.model.opt.timestep))
    assert scene.data.qpos[adr + 2] - z0 == pytest.approx(-0.5 * 9.81 * seconds**2, rel=0.03)


def test_bodies_rest_on_the_table_and_the_arm_holds_its_pose(scene):
    scene.reset(train_seed(3))
    before, tool = scene.data.qpos.copy(), scene.tcp()[0]
    scene.advance(scene.data.ctrl.copy(), 500)
    np.testing.assert_allclose(scene.tcp()[0], tool, atol=2e-3)
    np.testing.assert_allclose(scene.data.qpos, before, atol=3e-3)


def test_the_same_seed_and_controls_give_the_same_bits(scene):
    shas = []
    for _ in range(2):
        scene.reset(train_seed(4))
        for k in range(20):
            ctrl = scene.data.ctrl.copy()
            ctrl[0] += 0.01 * np.sin(k)
            scene.step(ctrl)
        shas.append(state_sha(scene.get_state()))
    assert shas[0] == shas[1]


def test_hidden_and_painted_shapes_do_not_collide(scene):
    names = {scene.model.body(body).name for tree in scene._trees for body in tree.bodies}
    assert "red_cube" in names
    zone = make_task("push_to_region", "panda", engine="pybullet").scene
    assert not any(zone.model.body(t.root).name.endswith("region") for t in zone._trees)


def test_an_unknown_engine_is_one_line_with_the_known_ones():
    with pytest.raises(UnknownName, match=r"unknown engine 'bullet'.*mujoco, pybullet"):
        make_task("put_in_bowl", "panda", engine="bullet")


def test_predicates_read_pybullets_state(scene):
    scene.reset(train_seed(5))
    adr = scene.model.joint("red_cube_free").qposadr[0]
    scene.data.qpos[adr : adr + 3] = scene.world.pos("bowl") + [0.0, 0.0, 0.05]
    scene._push()
    scene.advance(scene.data.ctrl.copy(), 400)
    from robostack.task.evaluate import margin

    assert margin(scene.spec.goal, scene.world) > 0.0
    assert mujoco.mj_stateSize(scene.model, mujoco.mjtState.mjSTATE_INTEGRATION) == len(scene.get_state())
