from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.carp import TOKEN_SAMPLERS, CarpCfg, CarpPolicy
from policies.carp.gpt import GptCfg
from policies.carp.sampling import TokenSampler
from policies.carp.tokenizer import TokenizerCfg
from policies.checkpoint import load_policy
from policies.observed import Observed
from policies.train import TrainCfg, fit
from robostack.data.sequence import SequenceSampler
from robostack.errors import ConfigError, UnknownName
from robostack.types import Observation

CFG = CarpCfg(
    Tp=8, Ta=4, encoder=(64,), tokenizer=TokenizerCfg(patches=(1, 2), codes=32),
    network=GptCfg(depth=2, width=32, heads=2, gate=1.0),
)  # fmt: skip


@pytest.fixture
def carp(demos):
    torch.manual_seed(0)
    policy = CarpPolicy(CFG, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, CFG.To, CFG.Tp))
    with torch.no_grad():
        policy.gpt.head.weight.mul_(50)
    return policy.eval()


def act(policy, obs, seeds):
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    return policy.infer(obs).actions


def test_a_decision_is_one_network_pass_per_scale(carp, observe):
    calls = []
    carp.gpt.register_forward_hook(lambda *_: calls.append(1))
    act(carp, observe(40), [0])
    assert len(calls) == 2


def test_argmax_ignores_the_seed_and_drawing_does_not(carp, observe):
    np.testing.assert_array_equal(act(carp, observe(40), [1]), act(carp, observe(40), [2]))
    carp.use_sampler("sampled")
    assert np.abs(act(carp, observe(40), [1]) - act(carp, observe(40), [2])).max() > 1e-4


def test_drawing_from_a_nearly_certain_distribution_is_argmax(carp, observe):
    best = act(carp, observe(10, 60), [1, 2])
    carp.sampler = TokenSampler(temperature=1e-6)
    np.testing.assert_allclose(act(carp, observe(10, 60), [1, 2]), best, atol=1e-6)


def test_the_mean_of_the_codes_ignores_the_seed_and_is_not_the_likeliest(carp, observe):
    carp.use_sampler("expected")
    mean = act(carp, observe(40), [1])
    np.testing.assert_array_equal(mean, act(carp, observe(40), [2]))
    carp.use_sampler("argmax")
    assert np.abs(mean - act(carp, observe(40), [1])).max() > 1e-4


def test_the_mean_of_a_nearly_certain_distribution_is_argmax(carp, observe):
    best = act(carp, observe(10, 60), [1, 2])
    carp.sampler = TokenSampler(temperature=1e-6, expected=True)
    np.testing.assert_allclose(act(carp, observe(10, 60), [1, 2]), best, atol=1e-6)


def test_the_mean_of_the_codes_is_that_of_many_draws(carp):
    D, draws = len(carp.columns.kept), 4000
    logits, uniform = torch.randn(D, 32), ((torch.arange(draws) + 0.5) / draws)[:, None, None].expand(draws, 1, D)
    codes = TokenSampler().choose(logits.expand(draws, 1, D, 32), uniform)
    mean = carp.tokenizer.mean_vectors(logits.softmax(-1)[None, :, None])
    torch.testing.assert_close(carp.tokenizer.vectors(codes.transpose(1, 2)).mean(0), mean[0], atol=5e-3, rtol=0)


def test_codes_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    uniform = (torch.arange(10_000) + 0.5) / 10_000

    def frequencies(sampler):
        chosen = sampler.choose(logits.expand(10_000, 4), uniform)
        return (chosen.bincount(minlength=4) / 10_000).tolist()

    assert frequencies(TokenSampler()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-3)
    assert frequencies(TokenSampler(top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-3)
    assert frequencies(TokenSampler(top_p=0.9)) == pytest.approx([0.526, 0.316, 0.158, 0], abs=1e-3)
    assert frequencies(TokenSampler(top_p=0.01)) == [1, 0, 0, 0]
    squared = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    assert frequencies(TokenSampler(temperature=0.5)) == pytest.approx(squared / squared.sum(), abs=1e-3)
    assert frequencies(TokenSampler(top_k=1)) == [1, 0, 0, 0]


def test_the_ends_of_the_unit_interval_choose_codes_too():
    logits = torch.zeros(2, 7)
    assert TokenSampler().choose(logits, torch.tensor([0.0, 1.0])).tolist() == [0, 6]
    assert TokenSampler(top_k=3).choose(logits, torch.tensor([0.0, 1.0])).tolist() == [0, 2]


def test_the_codebook_usage_is_a_share_per_predicted_column(carp):
    usage = carp.codebook_usage(torch.rand(64, 8, 10) * 2 - 1)
    assert usage.shape == (len(carp.columns.kept),)
    assert (usage > 0).all()
    assert (usage <= 1).all()


def test_the_transformer_learns_while_the_tokenizer_rests(carp):
    from policies.base import Batch
    from policies.samplers import seeded

    batch = Batch(Observed(torch.randn(4, 2, 10), torch.randn(4, 2, 18)), torch.randn(4, 8, 10))
    for stage, learning in ((0, "tokenizer"), (1, "gpt")):
        carp.zero_grad()
        carp.loss(replace(batch, stage=stage), seeded(0)).backward()
        with_gradient = {name.split(".")[0] for name, p in carp.named_parameters() if p.grad is not None}
        assert with_gradient <= {learning, "encoder"}
        assert learning in with_gradient


@pytest.mark.parametrize(
    ("values", "message"),
    [({"Tp": 32}, r"last patch number must be Tp / 4, so use Tp=16"), ({"tokenizer_share": 1.0}, "between 0 and 1")],
)
def test_values_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        CarpCfg(**values)


def test_an_unknown_sampler_is_refused_by_name():
    with pytest.raises(UnknownName, match="did you mean 'argmax'"):
        CarpCfg(sampler="argmx")
    with pytest.raises(ConfigError, match="0 < top_p <= 1"):
        TokenSampler(top_p=0.0)
    with pytest.raises(ConfigError, match="expected takes all codes"):
        TokenSampler(expected=True, top_k=3)
    assert {"argmax", "expected", "sampled"} <= set(TOKEN_SAMPLERS)


def test_a_policy_reproduces_the_motion_it_was_trained_on(demos, tmp_path):
    first = {name: getattr(demos, name)[:40] for name in ("state", "environment_state", "action")}
    demos = replace(demos, **first, ends=np.array([40]))
    train = TrainCfg(
        steps=250, batch_size=40, lr=6e-3, warmup_steps=10, log_every=125, val_fraction=0.0, device="cpu", threads=1,
        progress=False,
    )  # fmt: skip
    policy = load_policy(fit(train, "carp", replace(CFG, Ta=7, tokenizer_share=0.6), demos, tmp_path).checkpoint)
    rows = np.arange(1, len(demos.action) - 8, 7)
    window = rows[:, None] + np.array([-1, 0])
    chunk = act(policy, Observation(0.0, demos.state[window], demos.environment_state[window]), rows)
    wanted = demos.action[rows[:, None] + np.arange(7)]
    error = np.linalg.norm((chunk - wanted)[..., :3], axis=-1)
    moved = np.linalg.norm(wanted[..., :3] - demos.state[rows, None, :3], axis=-1)
    assert np.median(error) < np.median(moved) / 4
