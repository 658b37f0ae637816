import dataclasses
import shutil

import numpy as np
import pytest
import torch

from policies.accel.hot_unet import HotUnet
from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy
from policies.networks.unet1d import UnetCfg
from policies.samplers import DDIM, DDPM, RTI, SAMPLERS
from policies.streaming import StreamingCfg, StreamingPolicy
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
TINY = UnetCfg((8, 16), kernel=3, groups=4, step_dim=8)


def lively(net):
    """Weights as after training: no bias is small, no gain is one."""
    for name, p in net.named_parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p, mean=float(name.endswith("block.1.weight")), std=0.3)
    return net.requires_grad_(False).eval()


def random_case(seed):
    """A network of any shape, and what to ask it."""
    draw = np.random.default_rng(seed)
    groups, levels = int(draw.choice([1, 2, 3, 8])), int(draw.integers(1, 4))
    dims = [groups * int(draw.integers(1, 1 + 48 // groups)) for _ in range(levels)]
    kernel, step_dim = int(draw.choice([1, 3, 5, 7])), 2 * int(draw.integers(2, 9))
    B, To, Do, C, Da = (int(draw.integers(low, high)) for low, high in ((1, 5), (1, 4), (1, 9), (0, 7), (1, 20)))
    T = 2 ** (levels - 1) * int(draw.integers(1, 9))
    torch.manual_seed(seed)
    net = UnetCfg(dims, kernel=kernel, groups=groups, step_dim=step_dim).build(Da, T, To, Do, C)
    return lively(net), torch.randn(B, T, Da), torch.randn(B, To, Do), torch.randn(B, C)


@pytest.mark.parametrize("seed", range(30))
@torch.inference_mode()
def test_native_predictions_are_those_of_the_network(seed):
    net, x, steps, context = random_case(seed)
    hot = HotUnet(net)
    for k, scale in ((3, 1.0), (90, 1.0), (3, -2.0)):  # The third finds programs and buffers that were used before.
        expected = net.predict(scale * x, torch.full((len(x),), k), steps, context)
        found = hot.decision(steps, context).predict(scale * x, k)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("seed", range(12))
@torch.inference_mode()
def test_weights_of_sixteen_bits_cost_their_rounding_and_nothing_else(seed):
    net, x, steps, context = random_case(seed)
    k = torch.full((len(x),), 50)
    exact, half = net.predict(x, k, steps, context), HotUnet(net, torch.bfloat16)
    assert (half.decision(steps, context).predict(x, 50) - exact).abs().max() <= 0.05 * exact.abs().max()
    films = {id(film.weight) for film in net.films()}
    for name, p in net.named_parameters():
        if p.ndim > 1 and id(p) not in films and not name.startswith("diffusion_step_encoder"):
            p.copy_(p.bfloat16())
    rounded = net.predict(x, k, steps, context)
    assert (half.decision(steps, context).predict(x, 50) - rounded).abs().max() <= 1e-5 * rounded.abs().max()


def prepared(policy, demos):
    """With normalisers of the data, and ready to act."""
    policy.fit_statistics(demos, SequenceSampler(demos.ends, policy.cfg.To, policy.cfg.Tp))
    lively(policy.model)
    return policy.requires_grad_(False).eval()


def make(demos, **values):
    torch.manual_seed(0)
    cfg = DiffusionCfg(**{"Tp": 8, "Ta": 4, "encoder": (16,), "network": TINY} | values)
    return prepared(DiffusionPolicy(cfg, demos.features), demos)


def act(policy, observe, rows=(5, 50, 90), decisions=2, seed=3):
    """Consecutive decisions, so that there is something to continue."""
    stride = policy.cfg.Ta
    policy.reset(np.ones(len(rows), bool), seed + np.arange(len(rows)))
    windows = [observe(*(row + i * stride for row in rows)) for i in range(decisions)]
    times = [i * stride / 20.0 for i in range(decisions)]
    return np.stack([policy.infer(dataclasses.replace(w, t_s=t)).actions for w, t in zip(windows, times, strict=True)])


@pytest.mark.parametrize(
    ("sampler", "values"),
    [(DDIM(10), {}), (DDPM(20), {}), (DDIM(4, eta=1.0), {}), (SAMPLERS["dpmpp5"], {}), (SAMPLERS["rti"], {}),
     (RTI((5, 0)), {}), (DDIM(5), {"prediction": "epsilon", "encoder": ()}),
     (DDIM(5), {"prediction": "v", "clip": False})],
    ids=["ddim", "ddpm", "eta", "dpmpp", "rti", "rti of two", "epsilon without context", "v"],
)  # fmt: skip
def test_native_decisions_are_those_of_the_network(demos, observe, sampler, values):
    policy = make(demos, **values)
    policy.use_sampler(sampler)
    plain = act(policy, observe)
    policy.accelerate("native")
    for _ in range(2):  # The second time, every program is there.
        np.testing.assert_allclose(act(policy, observe), plain, atol=1e-5 * max(1.0, np.abs(plain).max()))


def test_a_multistep_descent_begins_without_the_estimates_of_the_last_one(demos, observe):
    policy = make(demos)
    policy.use_sampler(SAMPLERS["dpmpp5"])
    policy.accelerate("native")
    before = act(policy, observe)
    session = policy.hot.session(3, policy.cfg.Tp)
    assert session.before.any()
    with torch.inference_mode():
        session.before.fill_(torch.nan)
    np.testing.assert_array_equal(act(policy, observe), before)


def test_threads_share_the_work_without_changing_a_bit(demos, observe):
    policy, before, found = make(demos, network=UnetCfg((24, 40), groups=8, step_dim=8)), torch.get_num_threads(), []
    policy.accelerate("native")
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(act(policy, observe))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_native_lanes_do_not_depend_on_each_other(demos, observe):
    policy = make(demos)
    policy.accelerate("native")
    together = act(policy, observe)
    for lane, row in enumerate((5, 50, 90)):
        alone = act(policy, observe, rows=(row,), seed=3 + lane)
        np.testing.assert_allclose(alone[:, 0], together[:, lane], atol=1e-5)


def test_a_decision_hears_its_own_condition(demos, observe):
    policy = make(demos)
    policy.accelerate("native")
    assert np.abs(act(policy, observe, rows=(5,)) - act(policy, observe, rows=(70,))).max() > 1e-3


def test_a_checkpoint_is_accelerated_as_it_is_loaded(demos, observe, tmp_path):
    policy = make(demos)
    path = save_checkpoint(tmp_path / "a", policy, "diffusion_unet", step=1, metrics={})
    native = load_policy(path, sampler="ddim10", accelerate="native")
    assert isinstance(native, DiffusionPolicy)
    assert isinstance(native.hot, HotUnet)
    policy.use_sampler("ddim10")
    np.testing.assert_allclose(act(native, observe), act(policy, observe), atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim10", "ddim2"])
def test_streams_are_accelerated_too(demos, observe, sampler):
    torch.manual_seed(0)
    cfg = StreamingCfg(Tp=12, Ta=4, encoder=(16,), network=TINY)
    policy = prepared(StreamingPolicy(cfg, demos.features), demos)
    policy.use_sampler(sampler)
    plain = act(policy, observe)
    policy.accelerate("native")
    np.testing.assert_allclose(act(policy, observe), plain, atol=1e-5 * max(1.0, np.abs(plain).max()))
    with pytest.raises(ConfigError, match="accelerate=onnx .* use native, native_bf16 or none"):
        policy.accelerate("onnx")
