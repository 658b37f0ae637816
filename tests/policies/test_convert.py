import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from policies.convert import LerobotPolicy, from_lerobot, load_official, read_lerobot, to_lerobot
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.networks.transformer import TransformerCfg, TransformerForDiffusion
from policies.networks.unet1d import UnetCfg
from policies.observed import Observed
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError

CFG = DiffusionCfg(
    Tp=8, Ta=4, frame="world", per_step=False, encoder=(), prediction="epsilon", sampler="ddim5",
    network=UnetCfg((16, 32), kernel=5, groups=8, step_dim=16),
)  # fmt: skip


@pytest.fixture
def ours(demos):
    torch.manual_seed(0)
    policy = DiffusionPolicy(CFG, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, CFG.To, CFG.Tp))
    return policy.eval()


def theirs(parts):
    """lerobot's policy and its processors."""
    types = pytest.importorskip("lerobot.configs.types")
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy as Lerobot
    from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

    kinds = {"observation.state": "STATE", "observation.environment_state": "ENV", "action": "ACTION"}
    features = {
        name: types.PolicyFeature(types.FeatureType[kinds[name]], tuple(parts.stats[name]["min"].shape))
        for name in kinds
    }
    config = DiffusionConfig(
        **parts.config, device="cpu", output_features={"action": features.pop("action")}, input_features=features,
    )  # fmt: skip
    policy = Lerobot(config).eval()
    missing = policy.load_state_dict(dict(parts.weights), strict=True)
    assert not missing.missing_keys
    return policy, *make_diffusion_pre_post_processors(config, parts.stats)


@torch.no_grad()
def test_lerobots_network_and_normalisers_give_what_ours_give(ours, demos):
    policy, pre, post = theirs(to_lerobot(ours))
    state, objects = (torch.from_numpy(a[[[3, 4], [50, 51]]]) for a in (demos.state, demos.environment_state))
    cond, units = ours.condition(Observed(state, objects))
    seen = pre({"observation.state": state, "observation.environment_state": objects})
    steps = torch.cat([seen["observation.state"], seen["observation.environment_state"]], dim=-1)
    torch.testing.assert_close(steps, cond.steps, atol=1e-5, rtol=0)
    x, k = torch.randn(2, 8, 10), torch.tensor([3, 80])
    expected = policy.diffusion.unet(x, k, global_cond=steps.flatten(1))
    torch.testing.assert_close(ours.predict(x, k, cond), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(units.decode(x), post(x), atol=1e-5, rtol=0)


def test_a_conversion_there_and_back_keeps_everything(ours):
    back = from_lerobot(to_lerobot(ours), ours.features)
    assert back.cfg == replace(ours.cfg, sampler="ddpm100")
    for (name, a), b in zip(ours.state_dict().items(), back.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


def test_a_saved_lerobot_policy_is_read(ours, tmp_path):
    policy, pre, _ = theirs(to_lerobot(ours))
    policy.save_pretrained(tmp_path)
    pre.save_pretrained(tmp_path)
    back = from_lerobot(read_lerobot(tmp_path), ours.features)
    for (name, a), b in zip(ours.state_dict().items(), back.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


def test_what_lerobot_cannot_do_is_not_converted(demos, ours):
    for change, message in (({"frame": "gripper"}, "frame=gripper"), ({"per_step": True}, "per_step=True"),
                            ({"encoder": (8,)}, "encoder"), ({"prediction": "v"}, "prediction=v"),
                            ({"Tp": 6}, "divisible by 4")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            to_lerobot(DiffusionPolicy(replace(CFG, **change), demos.features))
    with pytest.raises(ConfigError, match="U-Net"):
        to_lerobot(DiffusionPolicy(DiffusionTransformerCfg(), demos.features))


def test_what_we_cannot_do_is_not_converted(ours):
    parts = to_lerobot(ours)

    def changed(**values):
        return LerobotPolicy({**parts.config, **values}, parts.weights, parts.stats)

    for values, error, message in (
        ({"beta_schedule": "linear"}, ConfigError, "beta_schedule=linear"),
        ({"input_features": {"observation.images.top": {}}}, ConfigError, "images"),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, ConfigError, "by QUANTILES"),
        ({"normalization_mapping": {"STATE": "MEAN_STD"}}, CheckpointError, "needs statistics mean, std"),
        ({"down_dims": (16, 64)}, CheckpointError, "do not fit the network"),
    ):
        with pytest.raises(error, match=message):
            from_lerobot(changed(**values), ours.features)


def test_directories_that_are_no_lerobot_policy_are_refused(tmp_path):
    for content in ({}, {"config.json": b"{}"}, {"config.json": b"{"}):
        for name, data in content.items():
            (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match="is not a lerobot policy"):
            read_lerobot(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({}))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    save_file({"action.min": torch.zeros(1)}, tmp_path / "policy_preprocessor_step_3_normalizer_processor.safetensors")
    with pytest.raises(CheckpointError, match="is not a lerobot policy"):
        read_lerobot(tmp_path)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_official_state_dicts_load_with_what_they_carry_besides(prefix):
    def make():
        return TransformerForDiffusion(TransformerCfg(1, 2, 16), action_dim=3, Tp=4, To=2, step_dim=5)

    source, net = make(), make()
    extra = {"_dummy_variable": torch.zeros(0), "mask": torch.zeros(4, 4), "memory_mask": torch.zeros(4, 3)}
    weights = {prefix + name: tensor for name, tensor in {**source.state_dict(), **extra}.items()}
    load_official(net, weights | ({"normalizer.params_dict.action.scale": torch.ones(3)} if prefix else {}))
    for a, b in zip(source.state_dict().values(), net.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    weights.pop(prefix + "head.bias")
    with pytest.raises(CheckpointError, match="'head.bias' is missing there"):
        load_official(net, weights)
