"""TaskEnv: a TaskSpec as a Gymnasium environment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from robostack.errors import UnknownName
from robostack.sim.control import Controller
from robostack.sim.engines import ENGINES
from robostack.sim.observe import features, observe
from robostack.sim.pointcloud import DepthCameras, PointCloud, PointCloudCfg
from robostack.sim.render import SceneRenderer
from robostack.sim.scene import eval_seed, train_seed
from robostack.task.evaluate import GoalMonitor, failure_code
from robostack.task.progress import Progress
from robostack.task.reward import Shaping
from robostack.task.spec import TaskSpec
from robostack.task.world import TABLE
from robostack.types import Observation

LINGER_S = 1.0  # an episode goes on this long after first success, so that success at the end can be lost


class TaskEnv(gymnasium.Env):
    """One task. Actions are those of ``Controller``.

    The reward is 1 while the goal is held, else 0. ``reward="dense"`` adds potential-based shaping by the derived
    progress, at the discount ``GAMMA`` of ``robostack.task.reward``, and ``progress`` in [0, 1] to ``info``.

    Observations: ``state`` and ``environment_state`` (see ``robostack.sim.observe``), and uint8 RGB images under
    ``pixels`` when ``cameras`` are asked for as (name, height, width). An episode terminates one second after the goal
    was first held or when a ``never`` predicate fires, and is truncated at the task's horizon. ``info`` carries
    ``success`` (held now, nothing violated), ``first_success_s`` once there is one, and ``failure`` at a failed end.

    ``point_cloud`` adds what depth cameras see, under ``point_cloud``: ``points``, ``colors``, ``entities``.
    ``engine`` computes the physics: ``mujoco``, or ``pybullet`` as a second opinion.
    ``task`` is the TaskSpec (Gymnasium keeps ``spec`` for its own EnvSpec).
    ``reset(seed)`` uses the training namespace of seeds, ``reset(seed, options={"split": "eval"})`` the other one.
    """

    score: float | None = None  # there is no measure beyond success
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        spec: TaskSpec | str | Path,
        *,
        cameras: Sequence[tuple[str, int, int]] = (),
        point_cloud: PointCloudCfg | None = None,
        engine: str = "mujoco",
        reward: str = "sparse",
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
    ):
        self.task = spec if isinstance(spec, TaskSpec) else TaskSpec.load(spec)
        self.scene = ENGINES[engine](self.task)
        self.features = features(self.scene, cameras, point_cloud.n_points if point_cloud else 0)
        self.render_mode, self._size = render_mode, (height, width)
        self.metadata = {**self.metadata, "render_fps": round(self.task.robot.control_hz)}
        self.dt_s = 1.0 / self.task.robot.control_hz
        self.controller = Controller(self.scene.ik, self.task.robot.control_mode, self.dt_s)
        self.monitor = GoalMonitor(self.task, self.scene.world)
        if reward not in ("sparse", "dense"):
            raise UnknownName("reward", reward, ("sparse", "dense"))
        self.progress = Progress(self.task, self.scene.world) if reward == "dense" else None
        self._shaping = Shaping()
        self._steps = 0
        self.depth_cameras = DepthCameras(self.scene, point_cloud) if point_cloud else None
        self._renderers: dict[tuple[int, int], SceneRenderer] = {}
        self.action_space = gymnasium.spaces.Box(*self._action_bounds(), dtype=np.float32)
        self.observation_space = gymnasium.spaces.Dict(self._spaces())

    @property
    def horizon(self) -> int:
        """Control steps before truncation."""
        return max(1, round(self.task.horizon_s / self.dt_s))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode; without a seed one is drawn from the environment's generator."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        split = (options or {}).get("split", "train")
        self.reset_scene(eval_seed(seed) if split == "eval" else train_seed(seed))
        return self._observation(), {"seed": seed, "split": split, "language": self.task.instruction.text}

    def reset_scene(self, scene_seed: int) -> None:
        """Start an episode from a seed of ``compile(spec, seed)`` itself, whatever its namespace."""
        self.scene.reset(scene_seed)
        self.controller.reset(self.scene.ik.home)
        self.monitor.reset()
        self._steps = 0
        if self.progress is not None:
            self.progress.reset()
            self._shaping.reset(self.progress.value)

    def step(self, action: np.ndarray):
        """One control step; raises InvalidAction for NaN or a wrong width, before anything moves."""
        self.apply(action)
        done = self.monitor.violated or self._lingered()
        truncated = not done and self._steps >= self.horizon
        info: dict[str, Any] = {"success": self.success}
        if not math.isnan(self.monitor.first_success_s):
            info["first_success_s"] = self.monitor.first_success_s
        if (done or truncated) and not self.success:
            info["failure"] = self.failure()
        reward = float(self.monitor.holding)
        if self.progress is not None:
            info["progress"] = self.progress.value
            reward += self._shaping.step(self.progress.value, terminal=done)
        return self._observation(), reward, done, truncated, info

    def apply(self, action: np.ndarray) -> np.ndarray:
        """Command one action and advance; returns the actuator targets that were sent."""
        q, gripper = self.controller.targets(action)
        ctrl = np.empty(self.scene.model.nu)
        ctrl[self.scene.arm.actuators] = q
        ctrl[self.scene.arm.gripper_actuator] = gripper
        self.scene.step(ctrl)
        self._steps += 1
        self.monitor.update(self.t_s)
        if self.progress is not None:
            self.progress.update()
        return ctrl

    @property
    def t_s(self) -> float:
        """Time since reset [s]."""
        return self._steps * self.dt_s

    @property
    def success(self) -> bool:
        """The goal is held now and nothing was violated."""
        return self.monitor.holding and not self.monitor.violated

    @property
    def first_success_s(self) -> float:
        """When the goal was first held [s]; NaN if never."""
        return self.monitor.first_success_s

    @property
    def configuration(self) -> np.ndarray:
        """Generalised positions, (Nq,)."""
        return self.scene.data.qpos.copy()

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.monitor.violated or self._lingered() or self._steps >= self.horizon

    def failure(self) -> str:
        """Why the episode is not a success as things stand; empty when it is."""
        return str(failure_code(self.task, self.scene.world, self.monitor))

    def observe(self) -> Observation:
        """The typed observation, with the images and points that were asked for."""
        return self._seen(self._cloud())

    def _cloud(self) -> PointCloud | None:
        return None if self.depth_cameras is None else self.depth_cameras.observe()

    def _seen(self, cloud: PointCloud | None) -> Observation:
        plain = observe(self.scene)
        if not self.features.cameras and cloud is None:
            return plain
        images = {name: self._render(name, h, w) for name, h, w in self.features.cameras}
        points = None if cloud is None else cloud.columns
        return replace(plain, t_s=self.t_s, images=images, points=points)

    def render(self) -> np.ndarray | None:
        """RGB frame of the front camera in ``rgb_array`` mode."""
        return self._render("front", *self._size) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        if self.depth_cameras is not None:
            self.depth_cameras.close()

    def _lingered(self) -> bool:
        return self.t_s - self.monitor.first_success_s >= LINGER_S - 1e-9  # NaN compares False

    def _observation(self) -> dict[str, Any]:
        cloud = self._cloud()
        obs = self._seen(cloud)
        out: dict[str, Any] = {"state": obs.state, "environment_state": obs.environment_state}
        if obs.images:
            out["pixels"] = dict(obs.images)
        if cloud is not None:
            out["point_cloud"] = {"points": cloud.points, "colors": cloud.colors, "entities": cloud.entities}
        return out

    def _render(self, camera: str, height: int, width: int) -> np.ndarray:
        key = (height, width)
        if key not in self._renderers:
            self._renderers[key] = SceneRenderer(self.scene.model, height, width)
        return self._renderers[key].frame(self.scene.data, camera)

    def _spaces(self) -> dict[str, gymnasium.Space]:
        box = gymnasium.spaces.Box
        spaces: dict[str, gymnasium.Space] = {
            "state": box(-np.inf, np.inf, (len(self.features.state),), np.float32),
            "environment_state": box(-np.inf, np.inf, (len(self.features.environment_state),), np.float32),
        }
        if self.features.cameras:
            frames: dict[str, gymnasium.Space] = {
                n: box(0, 255, (h, w, 3), np.uint8) for n, h, w in self.features.cameras
            }
            spaces["pixels"] = gymnasium.spaces.Dict(frames)
        if self.depth_cameras is not None:
            n = self.depth_cameras.cfg.n_points
            cloud: dict[str, gymnasium.Space] = {
                "points": box(-np.inf, np.inf, (n, 3), np.float32),
                "colors": box(0, 255, (n, 3), np.uint8),
                "entities": box(TABLE, len(self.scene.world.entities) - 1, (n,), np.int32),
            }
            spaces["point_cloud"] = gymnasium.spaces.Dict(cloud)
        return spaces

    def _action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        if self.task.robot.control_mode == "ee_pose":
            x0, y0, x1, y1 = self.scene.card.workspace
            low = [x0 - 0.1, y0 - 0.1, 0.0, *[-1.0] * 6, 0.0]
            high = [x1 + 0.1, y1 + 0.1, 0.5, *[1.0] * 6, 1.0]
        else:
            low, high = [*self.scene.ik.lower, 0.0], [*self.scene.ik.upper, 1.0]
        return np.asarray(low, np.float32), np.asarray(high, np.float32)
