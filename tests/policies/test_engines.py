import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.accel import onnx_graph, torch_engines
from policies.accel.calibrate import calibrate, observations
from policies.accel.engine import ACCELERATORS
from policies.accel.onnx_engine import OnnxEngine
from policies.accel.torch_engines import CompiledEngine, CudaGraphEngine, TorchEngine
from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.networks.transformer import TransformerCfg
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from policies.samplers import DDIM, DDPM, RTI, Bac, DPMpp, seeded
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, DeviceUnavailable, MissingExtra, UnknownName
from robostack.runtime.execution import ACCELERATIONS
from robostack.runtime.protocols import ActivePlan

UNET = UnetCfg((8, 16), kernel=3, groups=4, step_dim=8)
TRANSFORMER = TransformerCfg(n_layer=2, n_head=2, n_emb=32)


def make(demos, network=UNET, **values):
    """A policy with weights as after training: none is zero."""
    torch.manual_seed(0)
    kind = DiffusionTransformerCfg if isinstance(network, TransformerCfg) else DiffusionCfg
    cfg = kind(**{"Tp": 8, "Ta": 4, "encoder": (16,), "network": network} | values)
    policy = DiffusionPolicy(cfg, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, cfg.To, cfg.Tp))
    for name, p in policy.model.named_parameters():
        scale = "norm" in name or ".block.1." in name
        torch.nn.init.normal_(p, std=0.1 if p.ndim > 1 else 0.3, mean=float(scale and name.endswith("weight")))
    return policy.requires_grad_(False).eval()


def sampled(policy, demos, sampler, lanes=(5, 50, 90)):
    """Chunks in physical units, one per row of the demonstrations."""
    rows = np.arange(policy.cfg.To)[None] + np.array(lanes)[:, None]
    state, objects = torch.from_numpy(demos.state[rows]), torch.from_numpy(demos.environment_state[rows])
    with torch.inference_mode():
        return policy.sample(Observed(state, objects), policy.noise([seeded(i) for i in lanes]), sampler=sampler)[0]


def act(policy, observe, sampler):
    """Two consecutive decisions of two lanes, the second one on from the first."""
    policy.use_sampler(sampler)
    policy.reset(np.ones(2, bool), np.array([1, 2]))
    seen = zip((observe(5, 50), observe(6, 51)), (0.0, 0.05), strict=True)
    return np.stack([policy.infer(replace(obs, t_s=t)).actions for obs, t in seen])


def same(a, b):
    return float((a - b).abs().max()) <= 1e-5 * max(1.0, float(a.abs().max()))


CASES = {
    "unet": (DPMpp(5), {}),
    "three levels, epsilon, noise": (DDPM(4), {"network": UnetCfg((8, 8, 16), 5, 4, 8), "prediction": "epsilon"}),
    "transformer": (DDIM(10), {"network": TRANSFORMER}),
    "transformer without context, v": (DDIM(5), {"network": TRANSFORMER, "encoder": (), "prediction": "v"}),
    "condition layers, noise, no clip": (
        DDIM(4, eta=1.0), {"network": TransformerCfg(1, 2, 32, n_cond_layers=1), "Tp": 7, "To": 3, "clip": False}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_loop_on_tensors_draws_the_chunks_of_the_network(demos, case):
    agrees(demos, TorchEngine, *CASES[case])


@pytest.mark.parametrize("case", ["three levels, epsilon, noise", "transformer", "condition layers, noise, no clip"])
def test_the_graph_draws_the_chunks_of_the_network(demos, case):
    agrees(demos, OnnxEngine, *CASES[case])


def agrees(demos, engine, sampler, values):
    policy = make(demos, **values)
    plain = sampled(policy, demos, sampler)
    policy.hot = engine(policy.model)
    for _ in range(2):  # The second time, everything is there.
        assert same(plain, sampled(policy, demos, sampler))


@pytest.fixture(scope="module")
def accelerated(demos):
    """A plain policy, and one for ONNX Runtime with the same weights."""
    plain, other = make(demos), make(demos)
    other.accelerate("onnx")
    return plain, other


def test_the_same_decision_has_the_same_bits(demos, accelerated):
    _, policy = accelerated
    assert torch.equal(sampled(policy, demos, DDIM(5)), sampled(policy, demos, DDIM(5)))


def test_lanes_do_not_depend_on_each_other(demos, accelerated):
    _, policy = accelerated
    together = sampled(policy, demos, DDIM(5))
    for lane, row in enumerate((5, 50, 90)):
        assert same(together[lane : lane + 1], sampled(policy, demos, DDIM(5), lanes=(row,)))


def test_threads_are_torchs_and_change_nothing(demos, accelerated):
    plain, policy = accelerated
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert same(sampled(plain, demos, DDIM(5)), sampled(policy, demos, DDIM(5)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sampler", [RTI((20, 7, 2, 0)), RTI((20, 7, 0), tau=0.5, solver="ddim"), DDIM(5)])
def test_warm_starts_go_through_the_graph_too(observe, accelerated, sampler):
    plain, policy = accelerated
    np.testing.assert_allclose(act(policy, observe, sampler), act(plain, observe, sampler), atol=1e-5)


@pytest.mark.parametrize("jacobian", ["identity", "vjp"])
def test_a_plan_is_continued_by_the_graph_too(observe, accelerated, jacobian):
    chunks = []
    for policy in accelerated:
        policy.use_sampler(DDIM(5))
        policy.reset(np.ones(1, bool), np.array([1]))
        plan = ActivePlan(policy.infer(observe(5)).actions, 2, jacobian)
        chunks.append(policy.infer(observe(6), plan).actions)
    np.testing.assert_allclose(*chunks, atol=1e-5)


def test_one_graph_serves_every_list_of_steps(demos, accelerated, monkeypatch):
    _, policy = accelerated
    sampled(policy, demos, DDIM(5))
    monkeypatch.setattr(OnnxEngine, "_graph", None)  # Another graph would have to call it.
    for sampler in (DDIM(2), DDPM(3), DPMpp(8)):
        sampled(policy, demos, sampler, lanes=(5, 50))


def test_engines_refuse_what_they_cannot_run(demos, monkeypatch):
    policy = make(demos, TRANSFORMER)
    sampler = Bac(DDIM(10), share=0.5)
    bac = replace(sampler, plan=calibrate(policy, sampler, observations(demos, policy)))
    policy.use_sampler(bac)
    with pytest.raises(ConfigError, match="accelerate=native or none only"):
        policy.accelerate("onnx")
    policy.use_sampler("ddim10")
    policy.accelerate("onnx")
    with pytest.raises(ConfigError, match="block-wise caching"):
        policy.use_sampler(bac)
    with pytest.raises(UnknownName, match="Available: compile, cuda_graph, native, native_bf16, onnx"):
        policy.accelerate("onyx")
    monkeypatch.setattr(onnx_graph, "_LARGEST", 1)
    with pytest.raises(ConfigError, match=r"do not fit into an ONNX graph"):
        policy.accelerate("onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_name_the_extra(demos, monkeypatch, package):
    policy = make(demos)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"'{package}' is not installed: .*robostack\[onnx\]"):
        policy.accelerate("onnx")


def test_the_kernel_knows_the_names_of_the_engines():
    assert set(ACCELERATORS) == set(ACCELERATIONS) - {"none"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_graphs_need_a_gpu(demos, tmp_path):
    path = save_checkpoint(tmp_path / "a", make(demos), "diffusion_unet", step=1, metrics={})
    with pytest.raises(DeviceUnavailable, match="needs an NVIDIA GPU") as error:
        load_policy(path, accelerate="cuda_graph")
    assert "\n" not in str(error.value)


@pytest.mark.gpu
def test_cuda_graphs_draw_the_chunks_of_the_network(demos):
    policy = make(demos)
    plain = sampled(policy, demos, DDIM(10))
    policy.accelerate("cuda_graph")
    assert isinstance(policy.hot, CudaGraphEngine)
    for _ in range(2):
        assert float((sampled(policy.cuda(), demos, DDIM(10)).cpu() - plain).abs().max()) < 1e-3


# torch's compiler.


@pytest.fixture
def inductor_cache(monkeypatch, tmp_path):
    """No test writes outside of its folder."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(torch_engines.compiler() is None, reason="no C++ compiler")
def test_a_compiled_body_is_compiled_once(demos, observe, inductor_cache):
    plain, policy = (make(demos, UnetCfg((8,), 3, 4, 8)) for _ in range(2))
    policy.accelerate("compile")
    assert isinstance(policy.hot, CompiledEngine)
    expected = act(plain, observe, DDIM(5))
    np.testing.assert_allclose(act(policy, observe, DDIM(5)), expected, atol=1e-5)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled > 0
    for sampler in (DDIM(5), DPMpp(5), RTI((20, 7, 0)), DDPM(3)):
        np.testing.assert_allclose(act(policy, observe, sampler), act(plain, observe, sampler), atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_compiling_needs_a_compiler(demos, observe, monkeypatch, tmp_path, inductor_cache):
    policy = make(demos)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeviceUnavailable, match="there is no no-such-compiler"):
        policy.accelerate("compile")
