"""Point clouds as a depth camera would see them: rendered depth, back-projected, cropped, thinned to a fixed number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from robostack.errors import ConfigError, MissingExtra
from robostack.sim.render import SceneRenderer
from robostack.sim.scene import Scene
from robostack.task.world import NOBODY, ROBOT, TABLE, World


@dataclass(frozen=True)
class PointCloudCfg:
    """What is seen, and how much of it is kept.

    Attributes:
        cameras: (name, height, width) of each depth camera.
        n_points: size of the cloud.
        voxel_m: one point at most is kept per cube of this edge [m]; 0 keeps all.
        margin_m: by which the crop box exceeds the robot's workspace on each side [m].
        z_m: lowest and highest point kept [m].
        table, robot: whether their points are kept.
    """

    cameras: tuple[tuple[str, int, int], ...] = (("front", 120, 160), ("overhead", 120, 160))
    n_points: int = 1024
    voxel_m: float = 0.004
    margin_m: float = 0.1
    z_m: tuple[float, float] = (-0.01, 0.5)
    table: bool = True
    robot: bool = True

    def __post_init__(self):
        if not self.cameras or any(h < 1 or w < 1 for _, h, w in self.cameras):
            raise ConfigError(f"point cloud: cameras={self.cameras} must be (name, height, width), at least one")
        if self.n_points < 1:
            raise ConfigError(f"point cloud: n_points={self.n_points} must be at least 1")
        if not (0 <= self.voxel_m < math.inf and 0 <= self.margin_m < math.inf and self.z_m[0] < self.z_m[1]):
            raise ConfigError("point cloud: voxel_m and margin_m must be 0 or more, and z_m ascending")


def observed_cloud(points: int) -> PointCloudCfg:
    """What policies are shown: without the table, whose plane a depth camera's owner would take out."""
    return PointCloudCfg(n_points=points, table=False)


@dataclass(frozen=True)
class PointCloud:
    """Points in the world frame [m], their colours, and what each belongs to.

    ``entities`` holds indices of ``World.index``, or ROBOT, TABLE, NOBODY of ``robostack.task.world``.
    """

    points: Float[np.ndarray, "N 3"]
    colors: UInt8[np.ndarray, "N 3"]
    entities: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def columns(self) -> Float[np.ndarray, "N 6"]:
        """Position [m], then red, green and blue in [0, 1]: what policies are shown."""
        return np.concatenate([self.points, self.colors / np.float32(255)], axis=1, dtype=np.float32)

    def take(self, index: np.ndarray) -> PointCloud:
        """The points of an index or mask, in its order."""
        return PointCloud(self.points[index], self.colors[index], self.entities[index])


class DepthCameras:
    """Takes point clouds of one scene; owns a renderer per picture size."""

    def __init__(self, scene: Scene, cfg: PointCloudCfg):
        known = [scene.model.camera(i).name for i in range(scene.model.ncam)]
        for name, _, _ in cfg.cameras:
            if name not in known:
                raise ConfigError(f"point cloud: no camera '{name}'; the scene has {', '.join(known)}")
        _open3d()  # now rather than in the middle of an episode
        self.scene, self.cfg = scene, cfg
        self._owner = body_owners(scene.world)
        sizes = {(height, width) for _, height, width in cfg.cameras}
        self._renderers = {size: SceneRenderer(scene.model, *size) for size in sizes}

    def observe(self) -> PointCloud:
        """The cloud of the current state: exactly ``n_points``, repeated in turn where fewer are seen.

        Raises:
            ConfigError: the cameras see nothing in the crop box.
        """
        seen = [self._view(name, height, width) for name, height, width in self.cfg.cameras]
        cloud = PointCloud(
            *(np.concatenate([getattr(c, key) for c in seen]) for key in ("points", "colors", "entities"))
        )
        cloud = cloud.take(self._kept(cloud))
        if len(cloud) == 0:
            names = ", ".join(name for name, _, _ in self.cfg.cameras)
            raise ConfigError(
                f"point cloud: {names} see nothing in the crop box; widen margin_m and z_m or add a camera"
            )
        return farthest(thinned(cloud, self.cfg.voxel_m), self.cfg.n_points)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()

    def _view(self, name: str, height: int, width: int) -> PointCloud:
        model, data, renderer = self.scene.model, self.scene.data, self._renderers[height, width]
        colors, depth, geoms = renderer.frame(data, name), *renderer.depth(data, name)
        camera = model.camera(name).id
        local = back_project(depth, math.radians(float(model.cam_fovy[camera])))
        points = local.reshape(-1, 3) @ data.cam_xmat[camera].reshape(3, 3).T + data.cam_xpos[camera]
        owners = np.where(geoms >= 0, self._owner[model.geom_bodyid[geoms]], NOBODY)
        hit = geoms.ravel() >= 0  # the sky has no depth
        cloud = PointCloud(points.astype(np.float32), colors.reshape(-1, 3), owners.ravel().astype(np.int32))
        return cloud.take(hit)

    def _kept(self, cloud: PointCloud) -> Bool[np.ndarray, " N"]:
        x0, y0, x1, y1 = self.scene.card.workspace
        m, (low, high) = self.cfg.margin_m, self.cfg.z_m
        inside = (cloud.points >= [x0 - m, y0 - m, low]) & (cloud.points <= [x1 + m, y1 + m, high])
        kept = np.all(inside, axis=1)
        for code, wanted in ((TABLE, self.cfg.table), (ROBOT, self.cfg.robot)):
            if not wanted:
                kept &= cloud.entities != code
        return kept


def back_project(depth: Float[np.ndarray, "H W"], fovy_rad: float) -> Float[np.ndarray, "H W 3"]:
    """Pixels -> points in the camera frame [m]: x right, y up, looking along -z.

    A pinhole with square pixels: focal length H / (2 tan(fovy / 2)), centre in the middle of the picture; ``depth`` is
    measured along the axis.
    """
    height, width = depth.shape
    focal = 0.5 * height / math.tan(0.5 * fovy_rad)
    x = (np.arange(width) + 0.5 - 0.5 * width) / focal
    y = (0.5 * height - np.arange(height) - 0.5) / focal
    return depth[..., None] * np.stack(np.broadcast_arrays(x[None, :], y[:, None], -1.0), axis=-1)


def body_owners(world: World) -> Int[np.ndarray, " Nb"]:
    """Per body of the model whose it is: also what is only seen belongs to somebody."""
    model = world.model
    roots = {binding.body: world.index[name] for name, binding in world.entities.items()}
    base = int(model.body_rootid[model.site_bodyid[world.robot.ee_site]])
    owners = [roots.get(int(root), ROBOT if root == base else NOBODY) for root in model.body_rootid]
    owners[0] = TABLE  # floor and legs of the table stay outside any crop box
    return np.asarray(owners, dtype=np.int32)


def thinned(cloud: PointCloud, voxel_m: float) -> PointCloud:
    """At most one point per voxel: the first one, so that points stay where they were measured."""
    if voxel_m <= 0:
        return cloud
    cells = np.floor(cloud.points / voxel_m).astype(np.int64)
    cells -= cells.min(axis=0)
    spans = cells.max(axis=0) + 1
    keys = (cells[:, 0] * spans[1] + cells[:, 1]) * spans[2] + cells[:, 2]
    return cloud.take(np.sort(np.unique(keys, return_index=True)[1]))


def farthest(cloud: PointCloud, count: int) -> PointCloud:
    """Exactly ``count`` points spread by farthest-point sampling (Eldar et al. 1997), from the first point on."""
    if len(cloud) <= count:
        return cloud.take(np.arange(count) % len(cloud))
    geometry = _open3d()
    carrier = geometry.geometry.PointCloud(geometry.utility.Vector3dVector(cloud.points.astype(float)))
    index = np.zeros((len(cloud), 3))
    index[:, 0] = np.arange(len(cloud))
    carrier.normals = geometry.utility.Vector3dVector(index)  # they tell which points were chosen
    chosen = np.asarray(carrier.farthest_point_down_sample(count).normals)[:, 0]
    return cloud.take(chosen.astype(np.int64))


def _open3d():
    try:
        import open3d
    except ImportError as error:
        raise MissingExtra("open3d", "gen") from error
    return open3d
