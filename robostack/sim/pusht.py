"""gym-pusht's environment as an evaluation task: push a T onto its outline, in the plane.

Lengths are pixels of the 512 x 512 table, y down, and the world frame is the table's. The physics, the goal and the
criterion are those of gym-pusht 0.1.8 (the task of Chi et al., arXiv 2303.04137, section 5.3, made by Florence et al.,
arXiv 2109.00137): an episode succeeds, and ends, when the T covers more than 95 % of its outline.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import math
import os
import platform
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from robostack.errors import InvalidAction, MissingExtra, UnknownName
from robostack.task.benchmark import PushTTask
from robostack.types import Episode, Features, Observation

TABLE_PX = 512.0
OUTLINE = np.array([(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], dtype=float)
"""Corners of the T in its own frame, (8, 2) [px]; ``environment_state`` has them in this order."""
OUTLINE.setflags(write=False)
GOAL = (256.0, 256.0, math.pi / 4)
"""Pose of the outline on the table: x, y [px], angle [rad]."""

_TIP = ("ee.x", "ee.y")


def corners(pose: Float[np.ndarray, "3"]) -> Float[np.ndarray, "8 2"]:
    """Corners of a T on the table [px], from its pose x, y [px], angle [rad]."""
    c, s = math.cos(pose[2]), math.sin(pose[2])
    return OUTLINE @ np.array([[c, s], [-s, c]]) + np.asarray(pose[:2])


def pusht_features(cameras: Sequence[tuple[str, int, int]] = ()) -> Features:
    """State and action are positions of the round tip, measured and commanded; the rest is the T's corners.

    Raises:
        UnknownName: a camera other than ``overhead``.
    """
    for name, _, _ in cameras:
        if name != "overhead":
            raise UnknownName("camera", name, ["overhead"])
    return Features(
        state=_TIP,
        environment_state=tuple(f"t{i}.{axis}" for i in range(len(OUTLINE)) for axis in "xy"),
        action=_TIP,
        cameras=tuple(cameras),
        control_mode="ee_pose",
        rate_hz=PushTTask().robot.control_hz,
        robot=PushTTask().robot.name,
    )


def make_gym_env() -> Any:
    """gym-pusht's own environment, with frames of what it shows.

    Raises:
        MissingExtra: gym-pusht is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on stdout, where results go
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pygame warns about its own use of pkg_resources
        try:
            module: Any = importlib.import_module("gym_pusht.envs.pusht")
        except ImportError as error:
            raise MissingExtra("gym-pusht", "bench") from error
        return module.PushTEnv(obs_type="state", render_mode="rgb_array")


def pusht_versions() -> dict[str, str]:
    """What a bit-exact replay depends on."""
    packages = {name: importlib.metadata.version(name) for name in ("gym-pusht", "pymunk")}
    return packages | {"platform": f"{platform.system()}-{platform.machine()}".lower()}


def pusht_camera(cameras: Sequence[tuple[str, int, int]]) -> Callable[[Episode], dict[str, np.ndarray]]:
    """A function that draws an episode for its (name, height, width) cameras: {name: (T, H, W, 3)}.

    Raises:
        UnknownName: a camera other than ``overhead``.
    """
    pusht_features(cameras)  # refuses unknown ones
    env = PushTEnv()
    return lambda episode: {n: np.stack([env.frame(q, h, w) for q in episode.qpos]) for n, h, w in cameras}


class PushTEnv:
    """One Push-T scene. An action is where the tip shall go, x and y [px]; a stiff spring pulls it there.

    Attributes:
        first_success_s: when the T covered enough [s]; NaN if never.
        score: the largest share of the outline that the T has covered after a control step.
    """

    def __init__(self, task: PushTTask | None = None, cameras: Sequence[tuple[str, int, int]] = ()):
        self.task = task or PushTTask()
        self.features = pusht_features(cameras)
        self.dt_s = 1.0 / self.task.robot.control_hz
        self.horizon = round(self.task.horizon_s / self.dt_s)
        self._gym, self._pictures = make_gym_env(), make_gym_env()
        self.reset_scene(0)

    def reset_scene(self, scene_seed: int) -> None:
        """Start an episode; the scene is the one that gym-pusht makes of the seed."""
        self._gym.reset(seed=scene_seed)
        self._steps, self.score, self.first_success_s = 0, 0.0, math.nan

    def apply(self, action: Float[np.ndarray, " Da"]) -> Float[np.ndarray, "2"]:
        """Command one action, clipped to the table, and advance; returns what was sent.

        Raises:
            InvalidAction: NaN or a wrong width, before anything moves.
        """
        if np.shape(action) != (2,) or not np.isfinite(action).all():
            raise InvalidAction(f"an action of pusht is 2 finite numbers ({', '.join(_TIP)}), not {action}")
        sent = np.clip(np.asarray(action, dtype=np.float64), 0.0, TABLE_PX)
        info = self._gym.step(sent)[-1]
        self._steps += 1
        self.score = max(self.score, float(info["coverage"]))
        if info["is_success"] and not self.success:
            self.first_success_s = self.t_s
        return sent

    @property
    def t_s(self) -> float:
        """Time since reset [s]."""
        return self._steps * self.dt_s

    @property
    def success(self) -> bool:
        """The T has covered more than 95 % of its outline; an episode ends there."""
        return not math.isnan(self.first_success_s)

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.success or self._steps >= self.horizon

    def failure(self) -> str:
        """Why the episode is not a success as things stand; empty when it is."""
        return "" if self.success else "TIMEOUT"

    def observe(self) -> Observation:
        """Where the tip and the corners of the T are, with the images that were asked for."""
        values = self.configuration
        return Observation(
            t_s=self.t_s,
            state=values[:2].astype(np.float32),
            environment_state=corners(values[4:]).reshape(-1).astype(np.float32),
            images={name: self.frame(values, h, w) for name, h, w in self.features.cameras},
            language=self.task.instruction.text,
        )

    @property
    def configuration(self) -> Float[np.ndarray, "7"]:
        """Position [px] and velocity [px/s] of the tip, pose of the T (x, y [px], angle [rad])."""
        agent, block = self._gym.agent, self._gym.block
        return np.array([*agent.position, *agent.velocity, *block.position, block.angle])

    def frame(self, configuration: Float[np.ndarray, "7"], height: int, width: int) -> UInt8[np.ndarray, "H W 3"]:
        """RGB picture of a configuration; the episode under way is left alone."""
        gym, values = self._pictures, [float(v) for v in configuration]
        gym._setup()
        gym.block.angle = values[6]  # before the position: pymunk turns a body about its centre of gravity
        gym.agent.position, gym.block.position = tuple(values[:2]), tuple(values[4:6])
        for body in (gym.agent, gym.block):
            gym.space.reindex_shapes_for_body(body)
        gym.visualization_height, gym.visualization_width = height, width
        return gym.render()

    def replays(self, episode: Episode) -> bool:
        """Whether the seed and the stored commands lead to the stored final state, to the last bit."""
        self.reset_scene(episode.seed)
        if not np.array_equal(self.configuration, episode.state0):
            return False
        for ctrl in episode.ctrl:
            self.apply(ctrl)
        return self.state_sha() == episode.final_sha and self.success == episode.success

    def state_sha(self) -> str:
        """SHA-256 of the configuration."""
        return hashlib.sha256(self.configuration.tobytes()).hexdigest()
