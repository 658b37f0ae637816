"""lerobot's policies as ours: small ones, and what lerobot says of the same data."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policies.base import TrainablePolicy
from policies.lerobot import LerobotActCfg, LerobotDiffusionCfg
from policies.zoo import POLICIES
from robostack.data.sequence import SequenceSampler
from robostack.types import Features, Observation

CFGS = {
    "lerobot_act": LerobotActCfg(
        chunk_size=8, n_action_steps=4, dim_model=32, n_heads=2, dim_feedforward=64, n_encoder_layers=1,
        n_vae_encoder_layers=1, latent_dim=4,
    ),
    "lerobot_diffusion": LerobotDiffusionCfg(
        horizon=8, n_action_steps=4, drop_n_last_frames=3, down_dims=(16, 32), kernel_size=3,
        diffusion_step_embed_dim=16, num_inference_steps=5,
    ),
}  # fmt: skip


@pytest.fixture
def cfgs() -> dict:
    """Small networks, by name of the policy."""
    return CFGS


@pytest.fixture(scope="module")
def lerobot():
    """What the tests need of lerobot; loading it costs seconds."""
    POLICIES["lerobot_act"].build(CFGS["lerobot_act"], _toy())  # imports without the warnings of dependencies
    from lerobot.policies.act.processor_act import make_act_pre_post_processors
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

    return SimpleNamespace(
        processors={
            "lerobot_act": make_act_pre_post_processors,
            "lerobot_diffusion": make_diffusion_pre_post_processors,
        }
    )


def _toy():
    pose = ("x", "y", "z", "r1", "r2", "r3", "r4", "r5", "r6")
    ee = (*(f"ee.{c}" for c in pose), "gripper")
    objects = tuple(f"{entity}.{c}" for entity in ("red_cube", "blue_zone") for c in pose)
    return Features(ee, objects, ee, (), "ee_pose", 20.0, "toy")


@pytest.fixture
def make(lerobot, demos) -> Callable[..., TrainablePolicy]:
    """An untrained policy with fitted normalisers."""

    def build(name: str, **values) -> TrainablePolicy:
        torch.manual_seed(0)
        policy = POLICIES[name].build(replace(CFGS[name], **values), demos.features)
        policy.fit_statistics(demos, SequenceSampler(demos.ends, policy.horizon.To, policy.horizon.Tp))
        return policy.eval()

    return build


@pytest.fixture
def look(demos):
    """Windows of ``To`` observations that end at the given rows."""

    def window(policy: TrainablePolicy, *rows: int) -> Observation:
        index = np.array(rows)[:, None] + np.arange(1 - policy.horizon.To, 1)
        return Observation(1.5, demos.state[index], demos.environment_state[index])

    return window


@pytest.fixture
def statistics(demos) -> dict:
    """Limits and moments of the demonstrations, in double precision, by lerobot's names."""
    columns = {"observation.state": demos.state, "observation.environment_state": demos.environment_state}
    columns["action"] = demos.action
    names = ("min", "max", "mean", "std")
    return {key: {n: getattr(x.astype(np.float64), n)(axis=0) for n in names} for key, x in columns.items()}


@pytest.fixture
def act():
    """The chunks that a policy draws for fresh episodes with these seeds."""

    def infer(policy, obs, seeds):
        policy.reset(np.ones(len(seeds), bool), np.array(seeds))
        return policy.infer(obs).actions

    return infer
