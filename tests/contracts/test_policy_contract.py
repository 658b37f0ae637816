"""What every policy keeps with every sampler. A new policy joins by its registration; tiny sizes here make it fast."""

import os
import signal
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from policies.base import Batch, cfg_from_dict, cfg_to_dict
from policies.checkpoint import load_policy, save_checkpoint
from policies.loggers import LOGGERS, NoLogger
from policies.observed import Recorded
from policies.samplers import Bac, seeded
from policies.train import TrainCfg, fit
from policies.zoo import POLICIES
from robostack.data.arrays import EpisodeArrays
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DataError, RobostackError, UnknownName
from robostack.runtime.protocols import Policy
from robostack.types import Features, Observation

TINY = {
    "beso": {"Tp": 8, "Ta": 4, "network": {"width": 32, "layers": 2, "heads": 2}, "bank": 8},
    "carp": {
        "Tp": 8, "Ta": 4, "encoder": [32], "tokenizer": {"patches": [1, 2], "codes": 16},
        "network": {"depth": 2, "width": 32, "heads": 2},
    },
    "diffusion_unet": {
        "Tp": 8, "Ta": 4, "encoder": [32],
        "network": {"down_dims": [8, 16], "kernel": 3, "groups": 4, "step_dim": 8},
    },
    "diffusion_transformer": {
        "Tp": 8, "Ta": 4, "encoder": [32], "network": {"n_layer": 2, "n_head": 2, "n_emb": 32},
    },
    "lerobot_act": {
        "chunk_size": 8, "n_action_steps": 4, "dim_model": 32, "n_heads": 2, "dim_feedforward": 64,
        "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 4,
    },
    "lerobot_diffusion": {
        "horizon": 8, "n_action_steps": 4, "drop_n_last_frames": 3, "down_dims": [8, 16], "n_groups": 4,
        "diffusion_step_embed_dim": 8, "kernel_size": 3, "num_inference_steps": 5,
    },
    "streaming": {
        "Tp": 9, "Ta": 4, "To": 2, "encoder": [32],
        "network": {"down_dims": [8], "kernel": 3, "groups": 4, "step_dim": 8},
    },
}  # fmt: skip
"""Small sizes by policy; every policy has some, since defaults may take seconds per decision."""

LOOKS = {
    "diffusion_unet:image": {"image": {"cameras": ["front"], "crop": 0.75, "keypoints": 8, "width": 16}},
    "diffusion_transformer:points": {"points": {"hidden": [16, 32], "width": 16}, "objects": True},
    "diffusion_transformer:text": {"text": {"width": 8}},
    "diffusion_unet:goal": {"goal": {"width": 8}},
}
"""Policies that are told more, by what; the first is not told where the objects are."""

NAMES = [*POLICIES, *LOOKS]

TRAIN = TrainCfg(
    steps=8, batch_size=8, warmup_steps=1, log_every=1, val_every=4, val_fraction=0.3, device="cpu", threads=1,
    progress=False, save_every_s=0.0,
)  # fmt: skip


@cache
def walks() -> EpisodeArrays:
    """Four smooth walks of a gripper past one object."""
    axes = ("x", "y", "z")
    ee, cube = tuple(f"ee.{a}" for a in axes), tuple(f"cube.{a}" for a in axes)
    cameras = (("front", 16, 16),)
    features = Features((*ee, "gripper"), cube, (*ee, "gripper"), cameras, "ee_pose", 20.0, "toy", points=12)
    rng = np.random.default_rng(0)
    moves = rng.normal(size=(4, 25, 4)).cumsum(1).cumsum(1) / 200
    state = moves.reshape(100, 4).astype(np.float32)
    objects = np.repeat(rng.normal(size=(4, 3)), 25, axis=0) + 0.05 * rng.normal(size=(100, 3))
    action = state + np.float32(0.05) * np.roll(state, 1, axis=1)
    pixel = np.linspace(-2, 2, 16)
    distance = (pixel - objects[:, :1])[:, None, :] ** 2 + (pixel - objects[:, 1:2])[:, :, None] ** 2
    pictures = np.repeat((255 * np.exp(-distance)).astype(np.uint8)[..., None], 3, axis=-1)
    clouds = np.concatenate([0.1 * rng.normal(size=(100, 12, 3)) + objects[:, None], np.ones((100, 12, 3))], axis=2)
    return EpisodeArrays(
        state, objects.astype(np.float32), action, np.array([25, 50, 75, 100]), features, "walk", "walk about",
        {"front": pictures}, clouds.astype(np.float32),
    )  # fmt: skip


def kind_of(name):
    return name.partition(":")[0]


def tiny_cfg(name):
    return cfg_from_dict(POLICIES[kind_of(name)].cfg, TINY[kind_of(name)] | LOOKS.get(name, {}))


def build(name):
    return POLICIES[kind_of(name)].build(tiny_cfg(name), walks().features)


@cache
def pristine(name):
    """An untrained policy with fitted normalisers and weights large enough that every input shows."""
    torch.manual_seed(0)
    policy, arrays = build(name), walks()
    policy.fit_statistics(arrays, SequenceSampler(arrays.ends, policy.horizon.To, policy.horizon.Tp))
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=seeded(p.numel())))
    return policy.requires_grad_(False).eval()


def samplers_of(name):
    """The shortest of those samplers that differ in their number of steps alone."""
    records, shortest = POLICIES[kind_of(name)].samplers, {}
    for sampler in records:
        record = records[sampler]
        if isinstance(record, Bac):  # acts by a plan that is measured on trained weights; has tests of its own
            continue
        values = {f.name: getattr(record, f.name) for f in fields(record)}
        steps = values.pop("steps", 0)
        key = (type(record), repr(values)) if isinstance(steps, int) else sampler
        rank = (steps < 2, steps) if isinstance(steps, int) else ()
        shortest[key] = min(shortest.get(key, (rank, sampler)), (rank, sampler))
    return [sampler for _, sampler in shortest.values()]


PAIRS = [(name, sampler) for name in POLICIES for sampler in samplers_of(name)]
PAIRS += [(name, samplers_of(name)[0]) for name in LOOKS]


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(map(str, pair)))
def policy(request):
    """Every policy with every kind of sampler, before its first episode."""
    name, sampler = request.param
    policy = pristine(name)
    policy.use_sampler(sampler)
    return policy


def observation(policy, rows, t_s=0.0):
    """Windows that end at the rows of the walks."""
    window = np.maximum(np.array(rows)[:, None] + np.arange(1 - policy.horizon.To, 1), 0)
    arrays = walks()
    images = {name: frames[window] for name, frames in arrays.images.items()}
    return Observation(
        t_s, arrays.state[window], arrays.environment_state[window], images, arrays.language, arrays.points[window]
    )


def begin(policy, mask, seeds):
    """Start episodes, with the same goal wherever there are goals."""
    policy.reset(mask, seeds)
    if "goal" in getattr(policy, "parts", ()):
        policy.aim(np.repeat(walks().environment_state[:1], len(mask), axis=0))


def episode(policy, lanes, decisions=3):
    """Chunks (decisions, B, n, Da) of episodes of (first row, seed) that run side by side from a common reset."""
    rows, seeds = np.array(lanes).T
    begin(policy, np.ones(len(lanes), bool), seeds)
    return np.stack([policy.infer(observation(policy, rows + 2 * i, t_s=0.1 * i)).actions for i in range(decisions)])


def close(a, b):
    np.testing.assert_allclose(a, b, atol=5e-5, rtol=1e-4)


LANES = [(10, 7), (40, 8), (65, 9)]


def test_it_fulfils_the_protocol_and_leaves_its_input_alone(policy):
    assert isinstance(policy, Policy)
    policy.reset(np.ones(2, bool), np.arange(2))
    obs, before = observation(policy, (10, 40), t_s=1.5), observation(policy, (10, 40))
    chunk = policy.infer(obs)
    assert chunk.actions.shape[0] == 2
    assert chunk.actions.shape[1] >= policy.horizon.Ta
    assert chunk.actions.shape[2] == len(policy.features.action)
    assert chunk.actions.dtype == np.float32
    assert np.isfinite(chunk.actions).all()
    assert (chunk.t0_s, chunk.dt_s) == (1.5, pytest.approx(0.05))
    np.testing.assert_array_equal(obs.state, before.state)


def test_the_same_seed_gives_the_same_chunks(policy):
    np.testing.assert_array_equal(episode(policy, LANES), episode(policy, LANES))


def test_a_lane_does_not_depend_on_which_other_lanes_are_in_the_batch(policy):
    together = episode(policy, LANES)
    for i, lane in enumerate(LANES):
        close(episode(policy, [lane])[:, 0], together[:, i])


def test_the_order_of_the_episodes_does_not_matter(policy):
    close(episode(policy, LANES[::-1])[:, ::-1], episode(policy, LANES))


def test_resetting_some_lanes_starts_them_anew_and_leaves_the_others(policy):
    whole, fresh = episode(policy, LANES, decisions=4), episode(policy, [(14, 5), (44, 6), (69, 4)], decisions=2)
    episode(policy, LANES, decisions=2)
    begin(policy, np.array([False, True, False]), np.array([1, 6, 1]))
    rows = np.array([row for row, _ in LANES])
    chunks = [policy.infer(observation(policy, rows + 2 * i, t_s=0.1 * i)).actions for i in (2, 3)]
    for i in (0, 1):
        close(chunks[i][[0, 2]], whole[2 + i][[0, 2]])
        close(chunks[i][1], fresh[i][1])


def test_an_earlier_episode_leaves_no_trace(policy):
    first = episode(policy, LANES)
    episode(policy, [(3, 1), (33, 2), (55, 3)])
    np.testing.assert_array_equal(episode(policy, LANES), first)


def test_acting_changes_no_weight_and_no_normaliser(policy):
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    episode(policy, LANES, decisions=2)
    for name, tensor in policy.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_and_loaded_policy_gives_the_same_bits(name, tmp_path):
    policy = build(name).eval()
    policy.load_state_dict(pristine(name).state_dict())
    path = save_checkpoint(tmp_path / "checkpoint", policy, kind_of(name), step=1, metrics={})
    np.testing.assert_array_equal(episode(load_policy(path), LANES), episode(policy, LANES))


@pytest.mark.parametrize("name", NAMES)
def test_an_observation_that_is_not_finite_is_refused_by_name(name):
    policy = pristine(name)
    policy.reset(np.ones(2, bool), np.arange(2))
    obs = observation(policy, (10, 40))
    told = "environment_state" if policy.features.environment_state else "state"
    getattr(obs, told)[1, 0, 2] = np.nan
    with pytest.raises(DataError, match=r"'(cube|ee).z' is not finite in lane 1") as caught:
        policy.infer(obs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_sampler_is_refused_and_the_old_one_stays(name):
    policy = pristine(name)
    before = episode(policy, LANES)
    with pytest.raises((UnknownName, ConfigError)) as caught:
        policy.use_sampler("none such")
    assert isinstance(caught.value, RobostackError)
    np.testing.assert_array_equal(episode(policy, LANES), before)


def batch_of(policy, indices, stage):
    arrays = walks()
    windows = SequenceSampler(arrays.ends, policy.horizon.To, policy.horizon.Tp)
    rows, acted = windows.gather(indices)
    last = windows.later(indices, np.ones(len(indices)))
    recorded = Recorded(arrays, policy.features, torch.device("cpu"))
    batch = Batch(recorded.at(rows), recorded.action[acted], stage=stage)
    if policy.goal_share(1, seeded(0)) is None:
        return batch
    return replace(batch, goal_state=recorded.state[last], goal_environment_state=recorded.objects[last])


@pytest.mark.parametrize("name", NAMES)
def test_in_every_stage_the_loss_is_a_finite_function_of_the_generator_and_falls(name):
    torch.manual_seed(0)
    policy = build(name)
    policy.load_state_dict(pristine(name).state_dict(), strict=False)
    for number, stage in enumerate(policy.stages()):
        batch = batch_of(policy, np.arange(0, 80, 5), number)
        assert policy.loss(batch, seeded(1)).item() == policy.loss(batch, seeded(1)).item()
        params = [p for module in stage.modules or [""] for p in policy.get_submodule(module).parameters()]
        optimizer = torch.optim.AdamW(params, lr=3e-3)
        losses = []
        for step in range(40):
            optimizer.zero_grad()
            loss = policy.loss(batch, seeded(step))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.isfinite(losses).all()
        assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    assert sum(stage.share for stage in policy.stages()) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_training_continues_to_the_same_bits(name, tmp_path, monkeypatch):
    whole = load_policy(fit(TRAIN, kind_of(name), tiny_cfg(name), walks(), tmp_path / "whole").checkpoint).state_dict()
    for stop in (2, 5):  # At the end of a stage, and within one.

        class Interrupt(NoLogger):
            def log(self, step, scalars, stop=stop):
                if step == stop:
                    os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setitem(LOGGERS._records, "none", Interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(TRAIN, kind_of(name), tiny_cfg(name), walks(), tmp_path / "killed")
    monkeypatch.setitem(LOGGERS._records, "none", NoLogger)
    resumed = fit(TRAIN, kind_of(name), tiny_cfg(name), walks(), tmp_path / "killed")
    for key, tensor in load_policy(resumed.checkpoint).state_dict().items():
        torch.testing.assert_close(tensor, whole[key], atol=0, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_survives_a_round_trip_through_plain_values(name):
    for cfg in (tiny_cfg(name), POLICIES[kind_of(name)].cfg()):
        assert cfg_from_dict(type(cfg), cfg_to_dict(cfg)) == cfg
