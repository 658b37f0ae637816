"""A kinematic pick-and-place in numpy: demonstrations in the layout of the real datasets, and closed-loop rollouts.

State (10): gripper pose and opening. Objects (18): cube and zone. Action (10): absolute target pose and opening.
The gripper follows its target with a lag; a cube is grasped when the fingers close around its centre with at most
``GRASP_TOL`` of lateral error and 0.2 rad of misalignment, and placed when released within 15 mm of the zone.
"""

from __future__ import annotations

import resource
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.unet1d import UnetCfg
from policies.samplers import seeded
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.runtime.protocols import Policy
from robostack.types import Features, Observation

GRASP_TOL = 0.008
STEPS = 180
_POSE = ("x", "y", "z", "r1", "r2", "r3", "r4", "r5", "r6")


def toy_features() -> Features:
    """Column names."""
    ee = tuple(f"ee.{c}" for c in _POSE)
    objects = tuple(f"{entity}.{c}" for entity in ("red_cube", "blue_zone") for c in _POSE)
    return Features((*ee, "gripper"), objects, (*ee, "gripper"), (), "ee_pose", 20.0, "toy")


def rot6d(yaw: np.ndarray) -> np.ndarray:
    """First two columns of the rotation of a gripper that points down, turned about z."""
    c, s, o = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    return np.stack([c, s, o, s, -c, o], axis=-1)


class ToyWorld:
    """B independent scenes."""

    def __init__(self, seeds: np.ndarray):
        draws = np.stack([np.random.default_rng(int(s)).uniform(size=9) for s in seeds])
        B = len(seeds)
        self.cube = np.stack([0.35 + 0.3 * draws[:, 0], -0.3 + 0.6 * draws[:, 1], np.full(B, 0.02)], 1)
        self.zone = np.stack([0.35 + 0.3 * draws[:, 2], -0.3 + 0.6 * draws[:, 3], np.full(B, 0.0)], 1)
        near = np.linalg.norm((self.cube - self.zone)[:, :2], axis=1) < 0.1
        self.zone[near, 1] -= np.sign(self.zone[near, 1]) * 0.2
        self.cube_yaw = (draws[:, 4] - 0.5) * np.pi / 2
        self.ee = np.stack([0.4 + 0.1 * draws[:, 5], 0.1 * (draws[:, 6] - 0.5), 0.25 + 0.1 * draws[:, 7]], 1)
        self.yaw = np.zeros(B)
        self.opening = np.ones(B)
        self.held = np.zeros(B, bool)
        self.grasp_error = np.full(B, np.nan)

    def observe(self) -> tuple[np.ndarray, np.ndarray]:
        """State (B, 10) and objects (B, 18)."""
        state = np.concatenate([self.ee, rot6d(self.yaw), self.opening[:, None]], 1)
        upright = rot6d(np.zeros(len(self.ee)))
        objects = np.concatenate([self.cube, rot6d(self.cube_yaw), self.zone, upright], 1)
        return state.astype(np.float32), objects.astype(np.float32)

    def step(self, action: np.ndarray) -> None:
        """Apply one (B, 10) command."""
        move = 0.5 * (action[:, :3] - self.ee)
        length = np.linalg.norm(move, axis=1, keepdims=True)
        self.ee += move * np.minimum(1, 0.04 / np.maximum(length, 1e-9))
        self.ee[:, 2] = np.maximum(self.ee[:, 2], 0.005)
        turn = np.arctan2(action[:, 4], action[:, 3]) - self.yaw
        self.yaw += np.clip(0.5 * np.arctan2(np.sin(turn), np.cos(turn)), -0.15, 0.15)
        was_open = self.opening > 0.5
        self.opening += np.clip(action[:, 9] - self.opening, -0.2, 0.2)
        closes = was_open & (self.opening <= 0.5)
        offset = self.ee - self.cube
        lateral = np.linalg.norm(offset[:, :2], axis=1)
        first = closes & np.isnan(self.grasp_error)
        self.grasp_error[first] = lateral[first]
        aligned = np.abs(self.yaw - self.cube_yaw) < 0.2
        self.held |= closes & (lateral < GRASP_TOL) & (np.abs(offset[:, 2]) < 0.012) & aligned
        released = self.held & (self.opening > 0.5)
        self.held &= ~released
        self.cube[released, 2] = 0.02
        self.cube[self.held] = self.ee[self.held]

    def success(self) -> np.ndarray:
        """Cube released within 15 mm of the zone."""
        return ~self.held & (np.linalg.norm((self.cube - self.zone)[:, :2], axis=1) < 0.015)


def _plan(world: ToyWorld, rng: np.random.Generator) -> np.ndarray:
    """Command stream (T, 10) of the expert for a world of one scene."""
    cube, zone, up = world.cube[0], world.zone[0].copy(), np.array([0, 0, 0.1])
    zone[2] = 0.025
    speed = rng.uniform(0.011, 0.016)
    yaw = world.cube_yaw[0]
    legs = [
        (cube + up, yaw, 1.0, 0),
        (cube, yaw, 1.0, 3),
        (cube, yaw, 0.0, 7),
        (cube + up, yaw, 0.0, 0),
        (zone + up, 0.0, 0.0, 0),
        (zone, 0.0, 0.0, 3),
        (zone, 0.0, 1.0, 6),
        (zone + up, 0.0, 1.0, 10),
    ]
    at, turned, rows = world.ee[0].copy(), 0.0, []
    for goal, goal_yaw, opening, dwell in legs:
        n = max(1, int(np.ceil(np.linalg.norm(goal - at) / speed)))
        s = np.linspace(0, 1, n + 1)[1:]
        s = 0.5 * s + 0.5 * s * s * (3 - 2 * s)
        s = np.concatenate([s, np.ones(dwell)])[:, None]
        path, yaws = at + s * (goal - at), turned + s[:, 0] * (goal_yaw - turned)
        rows.append(np.concatenate([path, rot6d(yaws), np.full((len(s), 1), opening)], 1))
        at, turned = goal, goal_yaw
    return np.concatenate(rows)


def toy_demos(count: int, seed: int = 0) -> EpisodeArrays:
    """Demonstrations of the expert; all of them succeed."""
    states, objects, actions, ends = [], [], [], []
    for i in range(count):
        world = ToyWorld(np.array([seed * 100_003 + i]))
        plan = _plan(world, np.random.default_rng([seed, i]))
        for command in plan:
            state, scene = world.observe()
            states.append(state[0])
            objects.append(scene[0])
            actions.append(command.astype(np.float32))
            world.step(command[None])
        assert world.success().all(), i
        ends.append(len(states))
    return EpisodeArrays(
        np.stack(states), np.stack(objects), np.stack(actions), np.array(ends, np.int64), toy_features(), "toy", "pick"
    )


def toy_rollouts(policy: Policy, count: int, seed: int = 10**9) -> tuple[float, np.ndarray]:
    """Success rate and lateral error at the first grasp [m] (NaN without one) over ``count`` unseen scenes."""
    seeds = seed + np.arange(count)
    world, To, Ta = ToyWorld(seeds), policy.horizon.To, policy.horizon.Ta
    policy.reset(np.ones(count, bool), seeds)
    window = [world.observe()] * To
    for step in range(0, STEPS, Ta):
        state, objects = (np.stack(columns, axis=1) for columns in zip(*window, strict=True))
        actions = policy.infer(Observation(step / 20.0, state, objects)).actions
        for k in range(Ta):
            world.step(actions[:, k])
            window = [*window[1:], world.observe()]
    return float(world.success().mean()), world.grasp_error


WAYS = ("push it up", "pull it down")


def opposite_walks(count: int = 24, steps: int = 6) -> EpisodeArrays:
    """Walks of a joint that begin alike and go up or down, as the instruction says; an object is carried along."""
    names = ("joint1", "joint2")
    features = Features(names, ("load.x",), names, (), "joint_pos", 20.0, "toy")
    start = np.random.default_rng(0).uniform(-0.2, 0.2, size=(count, 1, 2))
    way = np.where(np.arange(count) % 2, -1.0, 1.0)
    state = start + 0.1 * np.arange(steps)[:, None] * way[:, None, None] * np.array([1.0, 0.0])
    action = state + 0.1 * way[:, None, None] * np.array([1.0, 0.0])
    rows, ends = state.reshape(-1, 2).astype(np.float32), steps * np.arange(1, count + 1)
    languages = tuple(WAYS[i % 2] for i in range(count))
    commands = action.reshape(-1, 2).astype(np.float32)
    return EpisodeArrays(rows, rows[:, :1].copy(), commands, ends, features, "", "", languages=languages)


def begin_walks(count: int, language: str = "") -> Observation:
    """Where unseen walks begin, in as many lanes."""
    start = np.random.default_rng(1).uniform(-0.15, 0.15, size=(count, 1, 2)).astype(np.float32)
    return Observation(0.0, start, start[..., :1].copy(), language=language)


@pytest.fixture(scope="session")
def opposite() -> EpisodeArrays:
    return opposite_walks()


@pytest.fixture(scope="session")
def begin():
    return begin_walks


@pytest.fixture(scope="session", autouse=True)
def native_cache(tmp_path_factory):
    """Compiled programs do not go to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def demos() -> EpisodeArrays:
    return toy_demos(6)


@pytest.fixture(scope="session")
def rollouts():
    return toy_rollouts


@pytest.fixture(scope="session")
def make_demos():
    return toy_demos


@pytest.fixture
def tiny() -> DiffusionCfg:
    return DiffusionCfg(Tp=8, Ta=4, sampler="ddim5", network=UnetCfg((8, 16), kernel=3, groups=4, step_dim=8))


@pytest.fixture(scope="session")
def untrained():
    """Policies with fitted statistics whose weights are random, and nowhere zero as some are initialised."""

    def build(arrays: EpisodeArrays, cfg: Any, kind: Any = DiffusionPolicy, spread: float = 0.05) -> Any:
        torch.manual_seed(0)
        policy = kind(cfg, arrays.features)
        policy.fit_statistics(arrays, SequenceSampler(arrays.ends, cfg.To, cfg.Tp))
        with torch.no_grad():
            for p in policy.parameters():
                p.add_(spread * torch.randn(p.shape, generator=seeded(p.numel())))
        return policy.eval()

    return build


@pytest.fixture
def policy(tiny: DiffusionCfg, demos: EpisodeArrays) -> DiffusionPolicy:
    """An untrained policy with fitted normalisers."""
    torch.manual_seed(0)
    policy = DiffusionPolicy(tiny, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, tiny.To, tiny.Tp))
    return policy.eval()


@pytest.fixture
def observe(demos: EpisodeArrays):
    """Stacked observation windows ending at the given rows."""

    def window(*rows: int) -> Observation:
        index = np.stack([np.array([max(0, row - 1), row]) for row in rows])
        return Observation(1.5, demos.state[index], demos.environment_state[index])

    return window


@pytest.fixture
def full_disk():
    """Within the context, no file can grow beyond ``limit`` bytes."""

    @contextmanager
    def limited(limit: int):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def require_own_streams():
    """Asserts that a lane which is reset begins its noise again, and that the other lane goes on with its own."""

    def check(policy, obs):
        policy.reset(np.ones(2, bool), np.array([1, 2]))
        first, second = policy.infer(obs).actions, policy.infer(obs).actions
        policy.reset(np.ones(2, bool), np.array([1, 2]))
        policy.infer(obs)
        policy.reset(np.array([True, False]), np.array([1, 0]))
        again = policy.infer(obs).actions
        np.testing.assert_array_equal(again[0], first[0])
        np.testing.assert_array_equal(again[1], second[1])

    return check
