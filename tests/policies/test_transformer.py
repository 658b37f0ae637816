import pytest
import torch
from torch import nn

from policies.networks.transformer import PAPER, TransformerCfg, TransformerForDiffusion
from robostack.errors import ConfigError

SMALL = TransformerCfg(n_layer=2, n_head=2, n_emb=32, p_drop_attn=0.0)


def network(cfg=SMALL, context=0, seed=0):
    torch.manual_seed(seed)
    net = TransformerForDiffusion(cfg, action_dim=5, Tp=8, To=2, step_dim=7, context_dim=context).eval()
    for p in net.parameters():  # Biases and norms must matter.
        nn.init.normal_(p, std=0.2)
    return net


def inputs(context=0, B=3, seed=1):
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, 8, 5, generator=g), torch.tensor([0, 37, 99])[:B],
        torch.randn(B, 2, 7, generator=g), torch.randn(B, context, generator=g),
    )  # fmt: skip


def reference(net, x, k, steps):
    """The authors' forward pass, from torch's own transformer layers with the same weights."""
    cfg, n, Tp = net.cfg, net.cfg.n_emb, x.shape[1]
    options = {"activation": "gelu", "batch_first": True, "norm_first": True, "dropout": 0.0}
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(n, cfg.n_head, 4 * n, **options), cfg.n_layer).eval()
    decoder.load_state_dict(net.decoder.state_dict())
    memory = torch.cat([net.time_emb(k)[:, None], net.cond_obs_emb(steps)], dim=1) + net.cond_pos_emb
    if cfg.n_cond_layers:
        layer = nn.TransformerEncoderLayer(n, cfg.n_head, 4 * n, **options)
        encoder = nn.TransformerEncoder(layer, cfg.n_cond_layers, enable_nested_tensor=False).eval()
        encoder.load_state_dict(net.encoder.state_dict())
        memory = encoder(memory)
    else:
        memory = net.encoder(memory)
    t, s = torch.arange(Tp)[:, None], torch.arange(memory.shape[1])[None]
    hidden = [torch.zeros(a.shape).masked_fill(~a, -torch.inf) for a in (t >= t.T, t >= s - 1)]
    h = decoder(net.input_emb(x) + net.pos_emb, memory, *hidden)
    return net.head(net.ln_f(h))


@pytest.mark.parametrize("layers", [0, 2])
def test_the_network_is_the_authors_whose_attention_is_not_rewritten(layers):
    net = network(TransformerCfg(2, 2, 32, layers, p_drop_attn=0.0))
    x, k, steps, context = inputs()
    with torch.no_grad():
        torch.testing.assert_close(net.predict(x, k, steps, context), reference(net, x, k, steps), atol=2e-5, rtol=1e-4)


def test_the_state_dict_has_the_official_names_and_shapes():
    n, official = 32, {"pos_emb": (1, 8, 32), "cond_pos_emb": (1, 3, 32)}
    linear = {"input_emb": (n, 5), "cond_obs_emb": (n, 7), "encoder.0": (4 * n, n), "encoder.2": (n, 4 * n)}
    linear |= {"head": (5, n), "ln_f": (n,)}
    for i in range(2):
        at = f"decoder.layers.{i}."
        for attention in ("self_attn", "multihead_attn"):
            official |= {f"{at}{attention}.in_proj_weight": (3 * n, n), f"{at}{attention}.in_proj_bias": (3 * n,)}
            linear |= {f"{at}{attention}.out_proj": (n, n)}
        linear |= {f"{at}linear1": (4 * n, n), f"{at}linear2": (n, 4 * n)} | {f"{at}norm{j}": (n,) for j in (1, 2, 3)}
    for name, shape in linear.items():
        official |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    assert {name: tuple(p.shape) for name, p in network().state_dict().items()} == official


def test_the_official_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = TransformerForDiffusion(PAPER, action_dim=10, Tp=10, To=2, step_dim=23)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(8.97, abs=0.05)


def test_an_action_depends_on_earlier_actions_and_on_observations_up_to_its_own_time():
    net = network(context=4)
    x, k, steps, context = inputs(4)
    with torch.no_grad():
        before = net.predict(x, k, steps, context)
        x2, steps2 = x.clone(), steps.clone()
        x2[:, 5] += 1
        changed = (net.predict(x2, k, steps, context) - before).abs().amax(dim=(0, 2)) > 0
        assert changed.tolist() == [False] * 5 + [True] * 3
        steps2[:, 1] += 1
        changed = (net.predict(x, k, steps2, context) - before).abs().amax(dim=(0, 2)) > 0
        assert changed.tolist() == [False] + [True] * 7
        assert (net.predict(x, k, steps, context + 1) - before).abs().amax(dim=(0, 2)).min() > 0


def test_the_first_actions_alone_get_what_they_get_in_a_chunk():
    net = network(context=4)
    x, k, steps, context = inputs(4)
    with torch.no_grad():
        conditioning = net.combine(net.level(k), net.observe(steps, context))
        torch.testing.assert_close(net.denoise(x[:, :3], conditioning), net.denoise(x, conditioning)[:, :3])


@pytest.mark.parametrize("layers", [0, 1])
def test_a_level_of_one_lane_serves_all(layers):
    net = network(TransformerCfg(2, 2, 32, layers), context=4)
    x, _, steps, context = inputs(4)
    with torch.no_grad():
        one = net.combine(net.level(torch.tensor([7])), net.observe(steps, context))
        torch.testing.assert_close(net.denoise(x, one), net.predict(x, torch.full((3,), 7), steps, context))


def test_decay_spares_biases_norms_and_positions():
    net = network(TransformerCfg(1, 2, 32), context=4)
    spared = {name for name, _ in net.named_parameters() if not net.decays(name)}
    assert {name for name, p in net.named_parameters() if p.ndim != 2} == spared
    assert "decoder.layers.0.self_attn.in_proj_weight" not in spared


@pytest.mark.parametrize(
    ("values", "message"),
    [({"n_emb": 30}, "multiple of n_head=4"), ({"n_layer": 0}, "n_layer=0"), ({"p_drop_attn": 1.0}, "p_drop_attn")],
)
def test_sizes_that_cannot_work_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TransformerCfg(**values)


def test_at_first_an_action_already_depends_on_what_is_observed():
    torch.manual_seed(0)
    net = TransformerForDiffusion(TransformerCfg(), action_dim=5, Tp=8, To=2, step_dim=7).eval()
    x, k = torch.randn(1, 8, 5).expand(32, -1, -1), torch.full((32,), 50)
    predicted = net.predict(x, k, torch.randn(32, 2, 7), torch.zeros(32, 0))
    assert predicted.std(0).mean() > 0.05 * predicted.square().mean().sqrt()
