import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.accel import native
from policies.accel.bac_plan import METHODS, Plan
from policies.accel.calibrate import calibrate, observations, save_block_plans
from policies.base import Batch
from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.networks.transformer import TransformerCfg
from policies.observed import Observed
from policies.samplers import DDIM, DDPM, RTI, SAMPLERS, Bac, seeded
from policies.train import TrainCfg, fit
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError, DeviceUnavailable, UnknownName
from robostack.runtime.protocols import ActivePlan

compiled = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
SMALL = TransformerCfg(n_layer=2, n_head=2, n_emb=48, p_drop_attn=0.1)


def make(demos, **values):
    torch.manual_seed(0)
    cfg = DiffusionTransformerCfg(**{"Tp": 7, "Ta": 4, "encoder": (), "network": SMALL} | values)
    policy = DiffusionPolicy(cfg, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, cfg.To, cfg.Tp))
    for (
        name,
        p,
    ) in policy.model.named_parameters():  # As after training: nothing is zero, and a chunk needs its context.
        torch.nn.init.normal_(p, std=0.1 if p.ndim == 2 else 0.3, mean=float("norm" in name and p.ndim == 1))
    return policy.requires_grad_(False).eval()


def act(policy, obs, sampler, seeds=(3, 4, 5)):
    policy.use_sampler(sampler)
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    return np.stack([policy.infer(obs).actions for _ in range(2)])


@compiled
@pytest.mark.parametrize(
    ("values", "sampler"),
    [({}, DDIM(10)), ({}, DDPM(4)), ({}, DDIM(4, eta=1.0)), ({"prediction": "epsilon", "encoder": (16,)}, DDIM(4)),
     ({"prediction": "v", "clip": False}, DDIM(4)), ({"network": TransformerCfg(1, 3, 30), "Tp": 20}, DDIM(4)),
     ({"network": TransformerCfg(2, 4, 128), "To": 3}, DDIM(4))],
    ids=["ddim", "ddpm", "eta", "epsilon and context", "v", "odd sizes", "three observations"],
)  # fmt: skip
def test_native_chunks_are_those_of_the_network(demos, values, sampler):
    policy = make(demos, **values)
    rows = np.arange(policy.cfg.To)[None] + np.array([[5], [50], [90]])
    observed = Observed(torch.from_numpy(demos.state[rows]), torch.from_numpy(demos.environment_state[rows]))

    def sample():
        with torch.inference_mode():
            return policy.sample(observed, policy.noise([seeded(i) for i in range(3)]), sampler=sampler)[0]

    plain = sample()
    policy.accelerate("native")
    for _ in range(2):  # The second time, every program is there.
        assert (sample() - plain).abs().max() < 1e-5 * max(1.0, float(plain.abs().max()))


@compiled
@torch.no_grad()
def test_weights_of_sixteen_bits_cost_their_rounding_and_nothing_else(demos):
    policy = make(demos, network=TransformerCfg(n_layer=2, n_head=4, n_emb=64))
    state, objects = (torch.from_numpy(a[[[5, 6], [50, 51]]]) for a in (demos.state, demos.environment_state))

    def sample():
        return policy.sample(Observed(state, objects), policy.noise([seeded(0), seeded(1)]), sampler=DDIM(5))[0]

    exact = sample()
    policy.accelerate("native_bf16")
    half, policy.hot = sample(), None
    assert 0 < (half - exact).abs().max() < 0.05 * exact.abs().max()
    for layer in policy.model.layers:  # Rounding the queries commutes with their scaling where that is a power of two.
        linears = (layer.self_attn.out_proj, layer.linear1, layer.linear2)
        for weight in (layer.self_attn.in_proj_weight, *(linear.weight for linear in linears)):
            weight.copy_(weight.bfloat16())
    for linear in (policy.model.input_emb, policy.model.head):
        linear.weight.copy_(linear.weight.bfloat16())
    assert (half - sample()).abs().max() < 1e-4 * exact.abs().max()


@compiled
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_share_the_work_without_changing_it(demos, observe, threads):
    policy, before = make(demos), torch.get_num_threads()
    policy.accelerate("native")
    alone = act(policy, observe(5, 50, 90), DDIM(5))
    torch.set_num_threads(threads)
    try:
        np.testing.assert_allclose(act(policy, observe(5, 50, 90), DDIM(5)), alone, atol=1e-6)
    finally:
        torch.set_num_threads(before)


@compiled
def test_native_lanes_do_not_depend_on_each_other(demos, observe):
    policy = make(demos)
    policy.accelerate("native")
    together = act(policy, observe(5, 50, 90), DDIM(5))
    for lane, row in enumerate((5, 50, 90)):
        alone = act(policy, observe(row), DDIM(5), seeds=[3 + lane])
        np.testing.assert_allclose(alone[:, 0], together[:, lane], atol=1e-5)


def test_accelerations_that_are_not_to_be_had_are_refused(demos, monkeypatch):
    with pytest.raises(UnknownName, match="unknown acceleration 'tensorrt'"):
        make(demos).accelerate("tensorrt")
    with pytest.raises(ConfigError, match="n_cond_layers=0"):
        make(demos, network=TransformerCfg(1, 2, 32, n_cond_layers=1)).accelerate("native")
    native.library.cache_clear()
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    with pytest.raises(DeviceUnavailable, match=r"needs a C\+\+ compiler"):
        make(demos).accelerate("native")


def test_a_compiler_that_fails_is_reported_on_one_line(demos, monkeypatch, tmp_path):
    script = tmp_path / "broken++"
    script.write_text("#!/bin/sh\necho 'fatal: no such processor' >&2\nexit 1\n")
    script.chmod(0o755)
    native.library.cache_clear()
    monkeypatch.setenv("CXX", str(script))
    with pytest.raises(DeviceUnavailable, match=r"broken\+\+ failed \(fatal: no such processor\)"):
        make(demos).accelerate("native")


def planned(policy, demos, **values):
    sampler = Bac(DDIM(10), **values)
    return replace(sampler, plan=calibrate(policy, sampler, observations(demos, policy)))


@pytest.mark.parametrize("engine", ["none", pytest.param("native", marks=compiled)])
def test_caching_that_updates_always_changes_no_bit(demos, observe, engine):
    policy = make(demos)
    sampler = planned(policy, demos, share=1.0)
    if engine != "none":
        policy.accelerate(engine)
    np.testing.assert_array_equal(act(policy, observe(5, 50, 90), sampler), act(policy, observe(5, 50, 90), DDIM(10)))


@compiled
@pytest.mark.parametrize("method", METHODS)
def test_both_engines_run_a_plan_alike(demos, observe, method):
    policy = make(demos)
    sampler = planned(policy, demos, share=0.4, method=method)
    eager = act(policy, observe(5, 50, 90), sampler)
    assert sampler.plan.share < 0.7
    assert np.abs(eager - act(policy, observe(5, 50, 90), DDIM(10))).max() > 1e-6
    policy.accelerate("native")
    np.testing.assert_allclose(act(policy, observe(5, 50, 90), sampler), eager, atol=1e-5)


@compiled
def test_short_lists_of_warm_starts_are_cached_too(demos, observe):
    policy = make(demos)
    sampler = Bac(RTI((20, 12, 7, 2, 0)), share=0.4, worst=0)
    sampler = replace(sampler, plan=calibrate(policy, sampler, observations(demos, policy)))
    assert sampler.plan.levels == (20, 12, 7, 2, 0)
    assert sampler.plan.share == pytest.approx(0.4)

    def two(record):
        policy.use_sampler(record)
        policy.reset(np.ones(2, bool), np.array([1, 2]))
        first, second = observe(5, 50), observe(6, 51)
        return [policy.infer(replace(obs, t_s=t)).actions for obs, t in ((first, 0.0), (second, 0.05))]

    plain, eager = two(sampler.base), two(sampler)
    np.testing.assert_array_equal(plain[0], eager[0])  # From noise, by another list than the plan's.
    assert np.abs(plain[1] - eager[1]).max() > 1e-6
    policy.accelerate("native")
    for a, b in zip(two(sampler), eager, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@compiled
def test_a_continued_plan_is_cached_too(demos, observe):
    policy = make(demos)
    policy.use_sampler(planned(policy, demos, share=0.4))
    decided = []
    for engine in ("none", "native"):
        if engine == "native":
            policy.accelerate(engine)
        policy.reset(np.ones(1, bool), np.array([1]))
        chunk = policy.infer(observe(5))
        plan = ActivePlan(chunk.actions, 2)
        decided.append(policy.infer(observe(6), plan).actions)
    np.testing.assert_allclose(*decided, atol=1e-5)


def test_a_plan_is_a_function_of_what_it_was_made_from(demos):
    policy = make(demos)
    seen = observations(demos, policy)
    sampler = SAMPLERS["bac"]
    plan = calibrate(policy, sampler, seen)
    assert plan == calibrate(policy, sampler, seen)
    assert Plan.from_json(plan.to_json(), "here") == plan
    assert plan.levels == (90, 80, 70, 60, 50, 40, 30, 20, 10, 0)
    moved = [replace(tick, state=tick.state + 1) for tick in seen]
    assert plan.provenance.data != calibrate(policy, sampler, moved).provenance.data


def test_only_networks_of_blocks_are_cached(demos, tiny):
    policy = DiffusionPolicy(tiny, demos.features)
    with pytest.raises(ConfigError, match="policy=diffusion_transformer"):
        calibrate(policy, SAMPLERS["bac"], observations(demos, policy))


@pytest.fixture
def checkpoint(demos, tmp_path):
    policy = make(demos)
    path = save_checkpoint(tmp_path / "a", policy, "diffusion_transformer", step=1, metrics={})
    save_block_plans(path, policy, demos, SAMPLERS["rti3"])
    return path


@compiled
def test_a_checkpoint_brings_the_plan_of_its_weights(demos, observe, checkpoint):
    policy = load_policy(checkpoint, sampler="bac", accelerate="native")
    assert policy.hot is not None
    expected = act(make(demos), observe(5, 50, 90), policy.sampler)
    np.testing.assert_allclose(act(policy, observe(5, 50, 90), policy.sampler), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "replacement", "message"),
    [('"weights": "', '"weights": "0', "was made for weights 0"), ("DDIM(steps=10", "DDIM(steps=20", "for sampler"),
     ("torch.float32", "torch.bfloat16", "for dtype torch.bfloat16, not torch.float32"), ("levels", "lev", "damaged"),
     ("{", "", "damaged"), ("   0,", "   5,", "damaged")],
)  # fmt: skip
def test_a_plan_for_anything_else_is_refused(checkpoint, text, replacement, message):
    path = checkpoint / "plan_bac.json"
    path.write_text(path.read_text().replace(text, replacement, 1))
    with pytest.raises(CheckpointError, match=message) as error:
        load_policy(checkpoint, sampler="bac")
    assert "\n" not in str(error.value)
    assert "calibrate again" in str(error.value)


def test_a_checkpoint_without_a_plan_says_so(demos, tiny, tmp_path):
    unet = DiffusionPolicy(DiffusionCfg(network=tiny.network), demos.features)
    path = save_checkpoint(tmp_path / "b", unet, "diffusion_unet", step=1, metrics={})
    save_block_plans(path, unet, demos, SAMPLERS["rti3"])
    with pytest.raises(CheckpointError, match="no plan for sampler=bac"):
        load_policy(path, sampler="bac")
    with pytest.raises(CheckpointError, match="this policy has no plan"):
        unet.use_sampler("bac")


def test_dropout_is_a_function_of_the_generator(demos):
    policy = make(demos).train()
    batch = Batch(Observed(torch.randn(4, 2, 10), torch.randn(4, 2, 18)), torch.randn(4, 7, 10))
    losses = [policy.loss(batch, seeded(seed)).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert policy.eval().loss(batch, seeded(1)).item() != losses[0]


def test_a_trained_transformer_learns_and_brings_a_plan(demos, tmp_path):
    cfg = DiffusionTransformerCfg(Tp=8, Ta=4, encoder=(16,), network=TransformerCfg(1, 2, 32, p_drop_attn=0.1))
    train = TrainCfg(steps=40, batch_size=32, warmup_steps=5, log_every=10, threads=1, device="cpu", progress=False)
    result = fit(replace(train, weight_decay=0.1), "diffusion_transformer", cfg, demos, tmp_path)
    assert result.losses[-1].train < 0.8 * result.losses[0].train
    for sampler in ("bac", "rti_bac"):
        assert load_policy(result.checkpoint, sampler=sampler).sampler.plan.share < 1
