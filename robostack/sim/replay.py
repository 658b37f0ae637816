"""Bit-exact replay of recorded episodes, and frames from their stored positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mujoco
import numpy as np
from jaxtyping import Float

from robostack.errors import ConfigError
from robostack.sim.observe import features
from robostack.sim.pointcloud import DepthCameras, observed_cloud
from robostack.sim.pusht import pusht_camera
from robostack.sim.render import SceneRenderer
from robostack.sim.scene import Scene, state_sha
from robostack.task.benchmark import PushTTask, Task
from robostack.types import Episode


def replays_exactly(scene: Scene, episode: Episode) -> bool:
    """Whether the stored start state and controls lead to the stored final state, to the last bit.

    The scene is reset with the episode's seed first, which restores its physical parameters; the seed must also give
    back the stored start state.
    """
    scene.reset(episode.seed)
    if not np.array_equal(scene.get_state(), episode.state0):
        return False
    scene.set_state(episode.state0)
    for ctrl in episode.ctrl:
        scene.step(ctrl)
    return state_sha(scene.get_state()) == episode.final_sha


def camera_source(spec: Task, cameras: Sequence[tuple[str, int, int]]) -> Callable[[Episode], dict[str, np.ndarray]]:
    """A function that renders an episode's (name, height, width) cameras: {name: (T, H, W, 3)}.

    Raises:
        UnknownName: the scene has no such camera.
    """
    if isinstance(spec, PushTTask):
        return pusht_camera(cameras)
    scene = Scene(spec)
    features(scene, cameras)  # refuses unknown ones
    renderers = {name: SceneRenderer(scene.model, height, width) for name, height, width in cameras}

    def render(episode: Episode) -> dict[str, np.ndarray]:
        return {n: episode_frames(scene, episode.seed, episode.qpos, r, n) for n, r in renderers.items()}

    return render


def cloud_source(spec: Task, points: int) -> Callable[[Episode], Float[np.ndarray, "T P 6"]]:
    """A function that takes the point clouds of an episode, as an evaluation does.

    Raises:
        ConfigError: the task has no depth cameras.
    """
    if isinstance(spec, PushTTask):
        raise ConfigError("pusht is seen from above only and has no point clouds: use points=0")
    scene = Scene(spec)
    cameras = DepthCameras(scene, observed_cloud(points))

    def take(episode: Episode) -> np.ndarray:
        scene.reset(episode.seed)
        clouds = np.empty((len(episode), points, 6), np.float32)
        for row, qpos in zip(clouds, episode.qpos, strict=True):
            scene.data.qpos[:] = qpos
            mujoco.mj_kinematics(scene.model, scene.data)
            mujoco.mj_camlight(scene.model, scene.data)
            row[:] = cameras.observe().columns
        return clouds

    return take


def episode_frames(
    scene: Scene, seed: int, qpos: np.ndarray, renderer: SceneRenderer, camera: str = "front", every: int = 1
) -> np.ndarray:
    """RGB frames (T, H, W, 3) of stored positions; every ``every``-th step and the last."""
    scene.reset(seed)  # painted zones stand where the seed puts them
    mocap = (scene.data.mocap_pos.copy(), scene.data.mocap_quat.copy())
    rows = list(qpos[::every])
    if (len(qpos) - 1) % every:
        rows.append(qpos[-1])
    return np.stack(renderer.frames(rows, camera, mocap))
