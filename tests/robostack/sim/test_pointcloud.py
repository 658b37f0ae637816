import sys

import numpy as np
import pytest

from robostack.errors import ConfigError, MissingExtra
from robostack.sim import make_task
from robostack.sim.env import TaskEnv
from robostack.sim.pointcloud import DepthCameras, PointCloud, PointCloudCfg, back_project, farthest, thinned
from robostack.task.world import ROBOT, TABLE

CFG = PointCloudCfg(n_points=1500, voxel_m=0.002)


@pytest.fixture(scope="module")
def env():
    made = TaskEnv(make_task("put_in_bowl", "panda").task, point_cloud=CFG)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cloud(env):
    env.reset(seed=0)
    return env.depth_cameras.observe()


def of(cloud, code):
    return cloud.take(cloud.entities == code).points


def test_points_of_a_cube_lie_on_its_surface(env):
    env.reset(seed=0)
    cameras, world = DepthCameras(env.scene, PointCloudCfg(n_points=800, table=False, robot=False)), env.scene.world
    objects = cameras.observe()
    cameras.close()
    local = (of(objects, world.index["red_cube"]) - world.pos("red_cube")) @ world.rot("red_cube")
    assert len(local) > 30
    assert np.abs(np.abs(local).max(axis=1) - 0.02).max() < 2e-3


def test_the_table_is_the_plane_z_0(cloud):
    table = of(cloud, TABLE)
    assert len(table) > 500
    assert np.abs(table[:, 2]).max() < 2e-3


def test_what_is_painted_invisible_is_not_measured(env, cloud):
    world = env.scene.world
    bowl = (of(cloud, world.index["bowl"]) - world.pos("bowl")) @ world.rot("bowl")
    assert len(bowl) > 50
    assert np.hypot(bowl[:, 0], bowl[:, 1]).max() < world.entities["bowl"].half[0] + 2e-3
    assert bowl[:, 2].max() < 0.052


def test_colours_and_owners_agree(env, cloud):
    red = cloud.colors[cloud.entities == env.scene.world.index["red_cube"]].astype(int)
    assert (red[:, 0] > red[:, 1] + 20).all()


def test_the_same_state_gives_the_same_bits(env, cloud):
    env.reset(seed=0)
    again = env.depth_cameras.observe()
    for key in ("points", "colors", "entities"):
        np.testing.assert_array_equal(getattr(cloud, key), getattr(again, key))


def test_observations_carry_the_cloud_of_the_declared_shape(env):
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert observation["point_cloud"]["points"].shape == (1500, 3)


def test_robot_and_table_can_be_left_out(env):
    cameras = DepthCameras(env.scene, PointCloudCfg(n_points=400, table=False, robot=False))
    env.reset(seed=0)
    seen = set(cameras.observe().entities.tolist())
    cameras.close()
    assert seen == set(env.scene.world.index.values())
    assert not seen & {TABLE, ROBOT}


def test_back_projection_is_the_inverse_of_a_pinhole():
    points = back_project(np.full((4, 6), 2.0), np.pi / 2)
    assert points.shape == (4, 6, 3)
    np.testing.assert_allclose(points[..., 2], -2.0)
    # At 45 degrees to either side the picture is as wide as the depth: rows at +-(0.5, 1.5) of 2 cells.
    np.testing.assert_allclose(points[:, 0, 1], [1.5, 0.5, -0.5, -1.5])
    np.testing.assert_allclose(points[0, :, 0], [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])


def grid(n):
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, n)] * 3), axis=-1).reshape(-1, 3).astype(np.float32)
    return PointCloud(points, np.zeros((len(points), 3), np.uint8), np.arange(len(points), dtype=np.int32))


def test_thinning_keeps_one_measured_point_per_voxel():
    whole = grid(11)
    thin = thinned(whole, 0.5001)
    assert len(thin) == 8
    np.testing.assert_array_equal(thin.points, whole.points[thin.entities])
    assert thinned(whole, 0.0) is whole


def test_farthest_points_are_spread_and_keep_their_owners():
    whole = grid(5)
    chosen = farthest(whole, 9)
    np.testing.assert_array_equal(chosen.points, whole.points[chosen.entities])
    gaps = np.linalg.norm(chosen.points[:, None] - chosen.points[None], axis=-1) + 10 * np.eye(9)
    cover = np.linalg.norm(whole.points[:, None] - chosen.points[None], axis=-1).min(axis=1).max()
    assert 0 < cover <= gaps.min()  # nothing left out is farther off than those chosen are apart


def test_too_few_points_are_repeated_in_turn():
    few = grid(2)
    assert farthest(few, 20).entities.tolist() == [*range(8), *range(8), *range(4)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cameras": ()}, "at least one"),
        ({"cameras": (("front", 0, 10),)}, "height, width"),
        ({"n_points": 0}, "n_points=0"),
        ({"voxel_m": float("nan")}, "voxel_m"),
        ({"z_m": (0.5, 0.1)}, "ascending"),
    ],
)
def test_bad_settings_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        PointCloudCfg(**settings)


def test_unknown_cameras_and_empty_views_say_so(env):
    with pytest.raises(ConfigError, match="no camera 'rear'; the scene has front, overhead"):
        DepthCameras(env.scene, PointCloudCfg(cameras=(("rear", 8, 8),)))
    cameras = DepthCameras(env.scene, PointCloudCfg(z_m=(5.0, 6.0)))
    with pytest.raises(ConfigError, match="see nothing in the crop box"):
        cameras.observe()
    cameras.close()


def test_without_open3d_the_extra_is_named(env, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingExtra, match=r"robostack\[gen\]"):
        DepthCameras(env.scene, CFG)
