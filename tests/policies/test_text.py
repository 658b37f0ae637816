"""Instructions as a part of the context."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.base import cfg_from_dict, cfg_to_dict
from policies.beso import BesoCfg, BesoPolicy
from policies.carp import CarpCfg, CarpPolicy
from policies.carp.gpt import GptCfg
from policies.carp.tokenizer import TokenizerCfg
from policies.checkpoint import load_policy
from policies.convert import to_lerobot
from policies.diffusion import DiffusionCfg, DiffusionPolicy, DiffusionTransformerCfg
from policies.goals import GoalCfg
from policies.networks.goal_gpt import GoalGptCfg
from policies.networks.transformer import TransformerCfg
from policies.networks.unet1d import UnetCfg
from policies.observed import Recorded
from policies.streaming import StreamingCfg, StreamingPolicy
from policies.text import TextCfg, TextEncoder, hashed, vector_of
from policies.train import TrainCfg, fit
from robostack.cli.console import make_console
from robostack.cli.settings import load_settings
from robostack.cli.stages import plan_training
from robostack.errors import CheckpointError, ConfigError, DataError, MissingExtra

UNET = UnetCfg((16, 32), kernel=3, groups=4, step_dim=16)
CFG = DiffusionCfg(
    To=1, Tp=4, Ta=4, encoder=(16,), sampler="ddim5", state_noise=0.0, network=UNET, text=TextCfg(width=16)
)
COMMON = {"To": 1, "Ta": 2, "encoder": (16,), "text": TextCfg(width=8)}
KINDS = {
    "unet": (DiffusionPolicy, CFG),
    "transformer": (
        DiffusionPolicy, DiffusionTransformerCfg(**COMMON, Tp=4, sampler="ddim5", network=TransformerCfg(1, 2, 16))
    ),
    "streaming": (StreamingPolicy, StreamingCfg(**COMMON, Tp=4, network=UnetCfg((8,), kernel=3, groups=4, step_dim=8))),
    "beso": (BesoPolicy, BesoCfg(**COMMON, Tp=4, bank=4, network=GoalGptCfg(width=16, layers=1, heads=2))),
    "carp": (
        CarpPolicy,
        CarpCfg(
            **COMMON, Tp=8, sampler="sampled", tokenizer=TokenizerCfg(patches=(1, 2), codes=16),
            network=GptCfg(depth=1, width=16, heads=2),
        ),
    ),
}  # fmt: skip


@pytest.fixture
def build(untrained):
    return lambda arrays, cfg=CFG, kind=DiffusionPolicy: untrained(arrays, cfg, kind, spread=0.2)


def act(policy, obs):
    policy.reset(np.ones(len(obs.state), bool), np.arange(len(obs.state)))
    return policy.infer(obs).actions


# It is used.


def test_of_opposite_instructions_a_policy_follows_the_one_it_is_given(opposite, begin, tmp_path):
    train = TrainCfg(
        steps=250, batch_size=32, lr=4e-3, warmup_steps=20, log_every=250, val_fraction=0.0, device="cpu", threads=1,
        progress=False, calibrate=False,
    )  # fmt: skip
    policy = load_policy(fit(train, "diffusion_unet", CFG, opposite, tmp_path).checkpoint)
    for instruction, way in (("push it up", 1), ("pull it down", -1), ("Push it UP!", 1)):
        obs = begin(16, instruction)
        moved = act(policy, obs)[:, -1, 0] - obs.state[:, 0, 0]
        assert (np.sign(moved) == way).all()
        assert np.median(moved * way) > 0.2  # of 0.4


def test_a_policy_without_text_acts_alike_under_opposite_instructions(build, opposite, begin):
    policy = build(opposite, replace(CFG, text=None))
    up, down = (act(policy, begin(4, text)) for text in opposite.instructions[:2])
    np.testing.assert_array_equal(up, down)


@pytest.mark.parametrize("name", KINDS)
def test_every_chunk_policy_reads_its_instruction_in_training_and_in_acting(build, name, opposite, begin):
    kind, cfg = KINDS[name]
    policy = build(opposite, cfg, kind)
    up, down, again = (act(policy, begin(3, opposite.instructions[i])) for i in (0, 1, 0))
    np.testing.assert_array_equal(up, again)
    assert np.abs(up - down).max() > 1e-4
    assert policy.state_dict()["text.mlp.0.weight"].shape == (cfg.text.width, 256)


def test_each_window_has_the_instruction_of_its_episode(opposite):
    recorded = Recorded(opposite, opposite.features, torch.device("cpu"))
    rows = np.array([[0, 0], [4, 5], [6, 6], [11, 11], [12, 12]])
    assert [text.split()[-1] for text in recorded.at(rows).language] == ["up", "up", "down", "down", "up"]
    alike = replace(opposite, language="go", languages=())
    assert set(Recorded(alike, alike.features, torch.device("cpu")).at(rows).language) == {"go"}


@pytest.mark.parametrize("text", ["", "  ", "?!"])
def test_without_an_instruction_it_refuses_to_act_and_to_train(build, text, opposite, begin, tmp_path):
    with pytest.raises(DataError, match="follows an instruction, and there is none") as caught:
        act(build(opposite), begin(2, text))
    assert "\n" not in str(caught.value)
    train = TrainCfg(steps=2, batch_size=4, device="cpu", threads=1, progress=False)
    with pytest.raises(DataError, match="there is none"):
        fit(train, "diffusion_unet", CFG, replace(opposite, languages=(text,) * len(opposite.ends)), tmp_path)


def test_it_cannot_become_a_policy_of_lerobots(build, opposite):
    with pytest.raises(ConfigError, match=r"told more than states \(text\)"):
        to_lerobot(build(opposite))


# Vectors.


def test_hashed_instructions_are_the_same_in_every_process_and_on_every_machine():
    slots = {27: -1, 28: -1, 63: 1, 100: 1, 143: 1, 152: 1, 162: 1, 164: -1, 238: 1}
    expected = np.zeros(256, np.float32)
    expected[list(slots)] = np.array(list(slots.values())) / 3
    np.testing.assert_allclose(hashed("push it"), expected, rtol=1e-6)
    np.testing.assert_array_equal(hashed("  Push, it!"), hashed("push it"))


def test_hashed_instructions_have_length_1_and_those_that_share_words_are_close():
    red, blue, drawer = (hashed(t) for t in ("pick up the red cube", "pick up the blue cube", "open the drawer"))
    for vector in (red, blue, drawer, hashed("把红色方块放进碗里")):
        assert np.linalg.norm(vector) == pytest.approx(1)
    assert red @ blue > 0.5 > red @ drawer
    assert red @ blue < 0.9
    assert hashed("put red on blue") @ hashed("put blue on red") < 0.95
    assert not hashed("?").any()


def test_a_vector_is_computed_once():
    assert vector_of("hashed", "stack the cups") is vector_of("hashed", "stack the cups")
    with pytest.raises(ValueError, match="read-only"):
        vector_of("hashed", "stack the cups")[0] = 1


# Settings.


@pytest.mark.parametrize("values", [{"encoder": "clip"}, {"encoder": "hub:"}, {"width": 0}])
def test_values_that_mean_nothing_are_refused(values):
    with pytest.raises(ConfigError, match="text"):
        TextCfg(**values)


def test_no_encoder_is_no_text_and_settings_survive_plain_values():
    assert replace(CFG, text=TextCfg(encoder="none")) == replace(CFG, text=None)
    assert cfg_from_dict(DiffusionCfg, cfg_to_dict(CFG)) == CFG


def planned(*args):
    settings = load_settings("train", ["dataset=d", "device=cpu", *args])
    return plan_training(settings, make_console(settings, 1)).policy_cfg


def test_instructions_and_goals_are_settings_of_every_chunk_policy():
    assert (planned().text, planned().goal) == (None, None)
    assert planned("policy=diffusion_unet_language").text == TextCfg()
    goal = planned("policy=diffusion_unet_goal", "policy.goal.kind=future", "policy.goal.drop=0").goal
    assert goal == GoalCfg(kind="future", drop=0.0)
    for name in ("diffusion_transformer", "streaming", "carp", "beso"):
        assert planned(f"policy={name}", "policy.text.encoder=hub:owner/model").text == TextCfg("hub:owner/model")
    with pytest.raises(ConfigError, match="unknown text.encoder 'bert'"):
        planned("policy.text.encoder=bert")


# Models of the hub; they are never fetched here.


def test_a_hub_model_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="'transformers' is not installed: run  pip install transformers$"):
        TextEncoder(TextCfg(encoder="hub:nowhere/at-all"))


def test_a_hub_model_that_is_not_there_is_one_line(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(CheckpointError, match="cannot be loaded") as caught:
        TextEncoder(TextCfg(encoder=f"hub:{tmp_path / 'nothing'}"))
    assert "\n" not in str(caught.value)


def test_a_model_in_a_folder_gives_unit_vectors_that_are_not_learnt(build, opposite, begin, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "push", "it", "up"]))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=8, **sizes)).save_pretrained(tmp_path)
    encoder = f"hub:{tmp_path}"
    assert np.linalg.norm(vector_of(encoder, "push it up")) == pytest.approx(1, abs=1e-5)
    policy = build(opposite, replace(CFG, text=TextCfg(encoder=encoder, width=8)))
    assert [name for name in policy.state_dict() if name.startswith("text.mlp.0")]
    assert not [name for name in policy.state_dict() if "bert" in name or "embeddings" in name]
    assert np.isfinite(act(policy, begin(2, "push it up"))).all()
