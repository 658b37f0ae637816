"""Block caching across control steps: the search, the plan, and the laws of a sampler that remembers."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from policies.accel.bac import Add, Run
from policies.accel.bac_plan import Provenance
from policies.accel.calibrate import calibrate, observations, save_block_plans
from policies.accel.rti_auto import CalibrationCfg, save_plan
from policies.accel.rti_auto import calibrate as calibrate_rti
from policies.accel.ticks import TickPlan, schedule_ticks, served_by
from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionPolicy, DiffusionTransformerCfg
from policies.networks.transformer import TransformerCfg
from policies.samplers import DDIM, RTI, SAMPLERS, BacTicks
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError
from robostack.runtime.protocols import ActivePlan

compiled = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
ENGINES = ["none", pytest.param("native", marks=compiled)]
LEVELS = (7, 2, 0)


@pytest.fixture(scope="session", autouse=True)
def native_cache(tmp_path_factory):
    """No test writes into the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def build(demos):
    """A policy whose weights are those of no training, but as large."""
    torch.manual_seed(0)
    network = TransformerCfg(n_layer=2, n_head=2, n_emb=32)
    cfg = DiffusionTransformerCfg(Tp=7, Ta=4, encoder=(), network=network)
    policy = DiffusionPolicy(cfg, demos.features)
    policy.fit_statistics(demos, SequenceSampler(demos.ends, cfg.To, cfg.Tp))
    for name, p in policy.model.named_parameters():  # As after training: nothing is zero.
        torch.nn.init.normal_(p, std=0.1 if p.ndim == 2 else 0.3, mean=float("norm" in name and p.ndim == 1))
    return policy.requires_grad_(False).eval()


@pytest.fixture
def policy(demos):
    return build(demos)


def planned(policy, demos, **values):
    sampler = BacTicks(RTI(LEVELS), **{"share": 0.5, "worst": 0} | values)
    seen = observations(demos, policy, ticks=sampler.period + 2)
    return replace(sampler, plan=calibrate(policy, sampler, seen))


def drive(policy, observe, sampler, rows, seeds, ticks=5, resets=(), steps=None):
    """Chunks of every tick; lanes of ``resets`` begin anew before the tick that is named there."""
    policy.use_sampler(sampler)
    policy.reset(np.ones(len(seeds), bool), np.array(seeds))
    chunks, at = [], np.zeros(len(seeds), int)
    for tick in range(ticks):
        for lane in [lane for when, lane in resets if when == tick]:
            policy.reset(np.arange(len(seeds)) == lane, np.array(seeds))
        at = at + (0 if tick == 0 else 1 if steps is None else steps[tick])
        obs = replace(observe(*(r + a for r, a in zip(rows, at, strict=True))), t_s=at[0] / 20.0)
        chunks.append(policy.infer(obs).actions)
    return chunks


def similarities(C, seed):
    x = np.cumsum(np.random.default_rng(seed).normal(size=(C, 6)), axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def value_of(similarity, L, calls):
    return sum(similarity[s, c] for c, s in enumerate(served_by(similarity, L, calls)))


@pytest.mark.parametrize(("C", "L"), [(1, 1), (4, 2), (6, 3), (6, 2), (8, 4), (8, 2)])
def test_the_search_over_levels_and_control_steps_finds_the_best_of_all(C, L):
    for seed, M in itertools.product(range(3), range(1, C + 1)):
        similarity = similarities(C, seed)
        calls, value = schedule_ticks(similarity, L, M)
        assert len(calls) == M
        assert calls[0] == 0
        best = max(value_of(similarity, L, (0, *rest)) for rest in itertools.combinations(range(1, C), M - 1))
        assert value == pytest.approx(best, abs=1e-12) == value_of(similarity, L, calls)
    with pytest.raises(ConfigError, match="updates=0"):
        schedule_ticks(similarities(C, 0), L, 0)


def test_a_call_is_served_by_the_most_similar_of_the_latest_of_every_level():
    similarity = np.eye(6)  # Two levels, three decisions.
    similarity[0, 4], similarity[1, 4], similarity[2, 4], similarity[3, 5] = 0.9, 0.5, 0.4, 0.8
    assert served_by(similarity, 2, (0, 1, 2)) == (0, 1, 2, 2, 1, 2)  # Call 0 is not level 0's latest any more.
    assert served_by(similarity, 2, (0, 1, 2, 3)) == (0, 1, 2, 3, 2, 3)  # Nor call 1 level 1's.


def plan_of(sources, aligned=(False,), levels=(5, 0), period=2):
    errors = (0.0,) * len(sources)
    return TickPlan(levels, period, tuple(sources), tuple(aligned), errors, 1.0, Provenance("w", "s", "d", "o"))


def test_a_plan_is_code_over_the_values_that_are_used_again():
    plan = plan_of([(0, 1, 2, 3), (0, 1, 0, 1), (0, 0, 2, 2)], (False,) * 3)
    assert plan.slots == ((1, 0), (1, 1), (2, 0))
    assert plan.calls[0] == (Run(0, None), Run(1, 0), Run(2, 2))
    assert plan.calls[1] == (Run(0, None), Run(1, 1), Add(2))
    assert plan.calls[2] == (Run(0, None), Add(0), Run(2, 2))
    assert plan.calls[3] == (Run(0, None), Add(1), Add(2))
    assert plan.share == 8 / 12


@pytest.mark.parametrize("sources", [(1, 1, 2, 3), (0, 0, 1, 3), (0, 1, 2, 3, 4), (0, 1, 2, 0), ()])
def test_a_plan_that_uses_what_is_not_there_is_refused(sources):
    with pytest.raises(ValueError, match="sources"):
        plan_of([sources])


def test_kept_values_move_on_with_the_chunk_where_the_plan_says_so():
    plan = plan_of([(0, 1, 0, 1), (0, 1, 0, 1)], (True, False))
    kept = torch.arange(3.0).view(1, 1, 3, 1).expand(2, 4, 3, 1)
    moved = plan.advance(kept)
    assert moved[0, :2, :, 0].tolist() == [[1.0, 2.0, 2.0]] * 2
    torch.testing.assert_close(moved[:, 2:], kept[:, 2:])


def test_a_plan_is_a_function_of_what_it_was_made_from(policy, demos):
    plan = planned(policy, demos).plan
    assert plan == planned(policy, demos).plan
    assert TickPlan.from_json(plan.to_json(), "here") == plan
    assert plan.levels == LEVELS
    assert plan.period == 2
    assert plan.share == pytest.approx(0.5)
    assert all(e > 0 for e in plan.errors)
    assert plan.drift > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_caching_that_computes_every_block_is_plain_rti_to_the_bit(policy, demos, observe, engine):
    sampler = planned(policy, demos, share=1.0)
    if engine != "none":
        policy.accelerate(engine)
    plain = drive(policy, observe, sampler.base, (5, 50), (1, 2))
    for a, b in zip(drive(policy, observe, sampler, (5, 50), (1, 2)), plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_first_decision_of_a_period_owes_nothing_to_earlier_ones(policy, demos, observe):
    sampler = planned(policy, demos, share=0.5)
    first = tuple((0, 1, 2, 0, 1, 2) for _ in sampler.plan.sources)  # All blocks at the first tick, none at the second.
    sampler = replace(sampler, plan=replace(sampler.plan, sources=first))
    plain = drive(policy, observe, sampler.base, (5, 50), (1, 2))
    cached = drive(policy, observe, sampler, (5, 50), (1, 2))
    for tick in (0, 1):  # From noise, then the first of a period.
        np.testing.assert_array_equal(cached[tick], plain[tick])
    assert np.abs(cached[2] - plain[2]).max() > 1e-6


def test_a_lane_with_other_time_steps_computes_everything(policy, demos, observe):
    sampler = planned(policy, demos, share=0.5)
    whole = tuple((0, 1, 2, 0, 1, 2) for _ in sampler.plan.sources)
    sampler = replace(sampler, plan=replace(sampler.plan, sources=whole))
    for steps in ((0, 2, 2, 2, 2), (0, 1, 2, 1, 2)):
        plain = drive(policy, observe, sampler.base, (5,), (1,), steps=steps)
        cached = drive(policy, observe, sampler, (5,), (1,), steps=steps)
        same = [np.array_equal(a, b) for a, b in zip(cached, plain, strict=True)]
        assert same[:3] == [True, True, True]
        assert all(same) == (1 not in steps)


def test_a_lane_whose_observation_jumps_computes_everything(policy, demos, observe):
    sampler = planned(policy, demos)
    calls = []

    def phases(drift):
        policy.use_sampler(replace(sampler, plan=replace(sampler.plan, drift=drift)))
        policy.reset(np.ones(2, bool), np.array([1, 2]))
        for tick in range(3):
            obs = observe(5 + tick, 50 + tick)
            if tick == 2:
                obs.environment_state[1, :, :3] += 0.5
            policy.infer(replace(obs, t_s=tick / 20.0))
            calls.append(policy._memory["phase"].tolist())
        return calls[-1]

    assert phases(sampler.plan.drift) == [0, 1]  # After the second of a period, and after a first one.
    assert phases(1e9) == [0, 0]
    assert calls[1] == [1, 1]


def test_a_lane_that_escalates_begins_the_period_anew(policy, demos, observe):
    sampler = planned(policy, demos)
    sampler = replace(sampler, base=replace(sampler.base, tau=1e-6))
    drive(policy, observe, sampler, (5, 50), (1, 2), ticks=3)
    assert policy._memory["phase"].tolist() == [0, 0]
    assert policy.evaluations().tolist() == [11, 11]


@pytest.mark.parametrize("engine", ENGINES)
def test_lanes_in_different_phases_do_not_know_each_other(policy, demos, observe, engine):
    sampler = planned(policy, demos, share=0.4)
    assert sampler.plan.share < 0.5
    if engine != "none":
        policy.accelerate(engine)
    rows, seeds, order = (5, 40, 90), (1, 2, 3), [2, 0, 1]
    whole = drive(policy, observe, sampler, rows, seeds)
    permuted = drive(policy, observe, sampler, [rows[i] for i in order], [seeds[i] for i in order])
    broken = drive(policy, observe, sampler, rows, seeds, resets=((2, 0),))
    anew = drive(policy, observe, sampler, (7, 42, 92), seeds, ticks=3)
    for a, b, c in zip(whole, permuted, broken, strict=True):
        np.testing.assert_allclose(b, a[order], atol=5e-5)
        np.testing.assert_allclose(c[1:], a[1:], atol=5e-5)
    for a, b in zip(broken[2:], anew, strict=True):
        np.testing.assert_allclose(a[0], b[0], atol=5e-5)
    for lane, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
        for a, b in zip(drive(policy, observe, sampler, (row,), (seed,)), whole, strict=True):
            np.testing.assert_allclose(a[0], b[lane], atol=5e-5)


@compiled
def test_both_engines_run_a_tick_plan_alike(policy, demos, observe):
    sampler = planned(policy, demos, share=0.4, period=3)
    eager = drive(policy, observe, sampler, (5, 50, 90), (1, 2, 3), ticks=6, resets=((3, 1),))
    plain = drive(policy, observe, sampler.base, (5, 50, 90), (1, 2, 3), ticks=6, resets=((3, 1),))
    policy.accelerate("native")
    native = drive(policy, observe, sampler, (5, 50, 90), (1, 2, 3), ticks=6, resets=((3, 1),))
    for a, b in zip(native, eager, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert np.abs(np.stack(eager) - np.stack(plain)).max() > 1e-4


def test_a_continued_plan_is_guided_on_the_cached_network(policy, demos, observe):
    policy.use_sampler(planned(policy, demos))
    policy.reset(np.ones(1, bool), np.array([1]))
    chunks = []
    for tick in range(4):
        plan = ActivePlan(chunks[-1].actions, 2) if chunks else None
        chunks.append(policy.infer(replace(observe(5 + tick), t_s=tick / 20.0), plan))
    assert all(np.isfinite(chunk.actions).all() for chunk in chunks)
    assert policy._memory["phase"].tolist() == [1]


@pytest.fixture(scope="module")
def saved(demos, tmp_path_factory):
    policy = build(demos)
    path = save_checkpoint(tmp_path_factory.mktemp("ticks") / "a", policy, "diffusion_transformer", step=1, metrics={})
    plan = calibrate_rti(policy, demos, CalibrationCfg(C_max=10.0, tol=10.0, tol_binary=1.0))
    save_plan(path, plan)
    save_block_plans(path, policy, demos, plan.sampler())
    return path


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "a")


def test_a_checkpoint_brings_the_tick_plan_of_its_weights(checkpoint, observe):
    policy = load_policy(checkpoint, sampler="rti_bac_ticks")
    assert policy.sampler.plan.levels == policy.sampler.base.steps
    assert policy.sampler.plan.share < 1
    policy.use_sampler(policy.sampler)
    policy.reset(np.ones(1, bool), np.array([1]))
    assert np.isfinite(policy.infer(observe(5)).actions).all()


@pytest.mark.parametrize(
    ("text", "replacement", "message"),
    [('"weights": "', '"weights": "0', "was made for weights 0"), ("period=2", "period=3", "for sampler"),
     ("torch.float32", "torch.bfloat16", "for dtype torch.bfloat16"), ("levels", "lev", "damaged"),
     ('"period": 2', '"period": 3', "damaged"), ("{", "", "damaged"), ('"drift": ', '"drift": -', "damaged")],
)  # fmt: skip
def test_a_tick_plan_for_anything_else_is_refused(checkpoint, text, replacement, message):
    path = checkpoint / "plan_rti_bac_ticks.json"
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, replacement, 1))
    with pytest.raises(CheckpointError, match=message) as error:
        load_policy(checkpoint, sampler="rti_bac_ticks")
    assert "\n" not in str(error.value)
    assert "calibrate again" in str(error.value)


def test_where_rti_never_continues_blocks_are_cached_within_decisions(policy, demos, checkpoint, observe):
    save_plan(checkpoint, replace(calibrate_rti(policy, demos, CalibrationCfg(tol=1e-9, pairs=2)), steps=(), tau=()))
    save_block_plans(checkpoint, policy, demos, DDIM(10))
    chunks = []
    for name in ("rti_bac", "rti_bac_ticks"):
        loaded = load_policy(checkpoint, sampler=name)
        assert loaded.sampler.base == DDIM(10)
        loaded.reset(np.ones(1, bool), np.array([1]))
        chunks.append(loaded.infer(observe(5)).actions)
    assert np.array_equal(*chunks)


def test_settings_that_make_no_sense_are_refused():
    for values, message in (({"period": 0}, "must be positive"), ({"share": 0.0}, "share"),
                            ({"drift_margin": 0.0}, "must be positive"), ({"base": DDIM(5)}, "only rti")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            BacTicks(**{"base": RTI(LEVELS), **values})
    with pytest.raises(ConfigError, match="takes up to 20: use rti"):
        BacTicks(RTI(tuple(range(20, -1, -1)))).evaluations(100)
    assert SAMPLERS["rti_bac_ticks"].evaluations(100) == 4


def test_evaluations_are_those_of_the_base_and_the_share_says_how_much_of_them(policy, demos, observe):
    sampler = planned(policy, demos)
    drive(policy, observe, sampler, (5,), (1,))
    assert policy.evaluations().tolist() == [len(LEVELS)] == [sampler.evaluations(100)]
    computed = sum(isinstance(i, Run) for code in sampler.plan.calls for i in code)
    assert sampler.plan.share == computed / (len(sampler.plan.calls) * policy.model.blocks)
