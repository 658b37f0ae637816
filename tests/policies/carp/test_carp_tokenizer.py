import pytest
import torch

from policies.carp.tokenizer import ActionTokenizer, TokenizerCfg
from robostack.errors import ConfigError

CFG = TokenizerCfg(codes=32)


def tokenizer(Da=3, cfg=CFG, seed=0):
    torch.manual_seed(seed)
    return ActionTokenizer(Da, cfg)


def of_one_dimension(batched: ActionTokenizer, d: int) -> ActionTokenizer:
    """A tokenizer of one dimension with the weights that the batched one has for dimension d."""
    single = ActionTokenizer(1, batched.cfg)
    with torch.no_grad():
        for mine, theirs in zip(single.parameters(), batched.parameters(), strict=True):
            mine.copy_(theirs.unflatten(0, (batched.Da, -1))[d])
    return single


def waves(count, Tp=16, Da=3, seed=0):
    """Smooth chunks in [-1, 1]: what actions in network units look like."""
    g = torch.Generator().manual_seed(seed)
    phase, slope, offset = (torch.rand(count, 1, Da, generator=g) for _ in range(3))
    t = torch.linspace(0, 1, Tp)[None, :, None]
    return 0.6 * torch.sin(3 * slope * t + 6 * phase) + 0.4 * (2 * offset - 1)


def learn(model, steps, lr=3e-3, seed=1):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        loss = model.loss(waves(64, Da=model.Da, seed=seed + step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.inference_mode()
def reconstruction_error(model, actions):
    return (model.decode(model.quantise(model.encode(actions)).sums[-1]) - actions).pow(2).mean().sqrt().item()


@torch.inference_mode()
def usage(model, actions):
    codes = torch.cat(model.quantise(model.encode(actions)).indices, dim=2).transpose(0, 1).flatten(1)
    return sum(len(c.unique()) for c in codes) / model.codebook.shape[0] / model.cfg.codes


@pytest.mark.parametrize("patches", [(1, 2, 3, 4), (1, 2), (2,), (1, 3, 8)])
def test_codes_and_reconstructions_have_the_shapes_of_the_scales(patches):
    model = tokenizer(5, TokenizerCfg(patches=patches, codes=16))
    actions = waves(2, 4 * patches[-1], 5)
    found = model.quantise(model.encode(actions))
    assert [tuple(i.shape) for i in found.indices] == [(2, 5, p) for p in patches]
    assert all(s.shape == (2, 5, 8, patches[-1]) for s in found.sums)
    assert model.decode(found.sums[-1]).shape == actions.shape


def test_codes_say_all_that_is_decoded():
    model = tokenizer()
    found = model.quantise(model.encode(waves(4)))
    again = sum(model.describe(model.vectors(i), s) for s, i in enumerate(found.indices))
    torch.testing.assert_close(again, found.sums[-1])


def test_a_code_is_the_nearest_by_length_too():
    model = tokenizer(2, TokenizerCfg(patches=(1,), codes=16))
    with torch.no_grad():
        model.codebook[:, :8] = 3 * model.codebook[:, 8:]  # The same directions, other lengths.
    latent = 2 * torch.randn(64, 2, 8, 1)
    found = model.quantise(latent).indices[0][:, :, 0]
    for d in range(2):
        assert torch.equal(found[:, d], torch.cdist(latent[:, d, :, 0], model.codebook[d]).argmin(-1))
    assert (found < 8).any()
    assert (found >= 8).any()


def test_one_batched_tokenizer_is_as_many_separate_ones():
    batched, actions = tokenizer(), waves(6)
    together = batched.quantise(batched.encode(actions))
    decoded = batched.decode(together.sums[-1])
    for d in range(3):
        single = of_one_dimension(batched, d)
        alone = single.quantise(single.encode(actions[..., d : d + 1]))
        for a, b in zip(alone.indices, together.indices, strict=True):
            torch.testing.assert_close(a[:, 0], b[:, d])
        torch.testing.assert_close(single.decode(alone.sums[-1])[..., 0], decoded[..., d], atol=1e-5, rtol=1e-4)


def test_one_batched_training_step_is_as_many_separate_ones():
    batched, actions = tokenizer(), waves(6)
    batched.loss(actions).backward()
    for d in range(3):
        single = of_one_dimension(batched, d)
        single.loss(actions[..., d : d + 1]).backward()
        for mine, theirs in zip(single.parameters(), batched.parameters(), strict=True):
            # The loss is a mean over dimensions.
            expected = 3 * theirs.grad.unflatten(0, (3, -1))[d]
            torch.testing.assert_close(mine.grad, expected, atol=1e-5, rtol=1e-3)


def test_training_improves_the_reconstruction():
    unseen, model = waves(128, seed=999), tokenizer()
    before = reconstruction_error(model, unseen)
    after = reconstruction_error(learn(model, 250), unseen)
    assert after < before / 3
    assert after < 0.12


def test_every_scale_brings_the_description_closer():
    model = learn(tokenizer(), 100)
    with torch.inference_mode():
        latent = model.encode(waves(64, seed=999))
        errors = [(latent - s).pow(2).mean().item() for s in model.quantise(latent).sums]
    assert errors == sorted(errors, reverse=True)


def with_dead_codes(spread):
    """All codes but eight point where no latent lies."""
    model = tokenizer(cfg=TokenizerCfg(codes=64, spread=spread))
    with torch.no_grad():
        away = -model.encode(waves(64)).mean((0, 3))
        model.codebook[:, 8:] = away[:, None] + 0.05 * model.codebook[:, 8:] * away.norm()
    return model


def test_only_spreading_gives_a_gradient_to_codes_that_nothing_uses():
    for spread, moved in ((0.0, False), (0.1, True)):
        model, actions = with_dead_codes(spread), waves(64)
        found = model.quantise(model.encode(actions)).indices
        model.loss(actions).backward()
        for d in range(3):
            unused = torch.ones(64, dtype=torch.bool)
            unused[torch.cat([i[:, d].flatten() for i in found])] = False
            assert unused.sum() > 16
            assert bool((model.codebook.grad[d, unused] != 0).any()) == moved


def test_spreading_wakes_codes_that_nothing_uses():
    actions, models = waves(256, seed=999), [with_dead_codes(0.0), with_dead_codes(1.0)]
    left, woken = (usage(learn(model, 40, lr=1e-2), actions) for model in models)
    assert woken > left + 0.15


@pytest.mark.parametrize(
    ("values", "message"),
    [({"patches": ()}, "must be increasing"), ({"patches": (2, 2)}, "must be increasing"),
     ({"patches": (0, 1)}, "must be increasing"), ({"codes": 1}, "at least 2"), ({"width": 0}, "width=0")],
)  # fmt: skip
def test_sizes_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TokenizerCfg(**values)


def test_a_dimension_that_varies_little_about_a_large_value_is_described_as_well_as_the_others():
    small, model = 0.02, tokenizer(2, TokenizerCfg(codes=32))

    def actions(seed):
        return waves(64, Da=2, seed=seed) * torch.tensor([1.0, small]) + torch.tensor([0.0, 0.95])

    model.fit(torch.cat([actions(seed) for seed in range(4)]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        optimizer.zero_grad()
        model.loss(actions(step)).backward()
        optimizer.step()
    with torch.inference_mode():
        held = actions(999)
        off = (model.decode(model.quantise(model.encode(held)).sums[-1]) - held).square().mean((0, 1)).sqrt()
    assert (off < 0.5 * held.std((0, 1))).all()


def test_what_a_tokenizer_is_fitted_to_it_sees_standardised_and_constants_stay():
    model = tokenizer(3)
    model.fit(torch.stack([torch.tensor([1.0, 5.0, 0.0]), torch.tensor([3.0, 5.0, 0.5])])[:, None].expand(2, 16, 3))
    torch.testing.assert_close(model.mean, torch.tensor([2.0, 5.0, 0.25]))
    torch.testing.assert_close(model.std, torch.tensor([1.0, 1.0, 0.25]))
