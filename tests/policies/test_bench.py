import json
import re
import shutil

import numpy as np
import pytest
import torch

from policies.bench import latency, lerobot, timing
from policies.bench.timing import Contender, Work, measure, work_of
from policies.lerobot import LerobotDiffusionCfg
from policies.networks.transformer import TransformerCfg
from policies.networks.unet1d import UnetCfg

compiled = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
TINY = UnetCfg((8, 16), kernel=3, groups=4, step_dim=8)


class Clock:
    """Time that passes by what is decided, and a little by looking."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-6
        return self.now

    def decision(self, seconds, value=0.0):
        def decide():
            self.now += seconds
            return torch.full((2,), value)

        return decide


def test_speeds_are_ratios_within_a_round_of_whole_decisions():
    clock, work = Clock(), Work(0.0, 0.0, 1)
    slow = iter([9.0, 1.0, 2.0, 4.0])

    def drifting():
        clock.now += next(slow)
        return torch.zeros(2)

    rows = measure(
        [
            Contender("part", clock.decision(0.1), work, share=0.1),
            Contender("once", clock.decision(8.0), work, rounds=1),
            Contender("drifts", drifting, work),
            Contender("twin", clock.decision(0.5, 0.25), work, twin="part"),
        ],
        ["part", "once"], rounds=3, clock=clock,
    )  # fmt: skip
    part, once, drifts, twin = rows
    assert (part.p50_ms, once.p50_ms, drifts.p50_ms) == pytest.approx((1000, 8000, 2000), rel=1e-3)
    assert drifts.speedups["part"] == pytest.approx(np.median([1 / 1, 1 / 2, 1 / 4]), rel=1e-3)
    assert drifts.speedups["once"] == pytest.approx(8 / 1, rel=1e-3)
    assert twin.speedups == pytest.approx({"part": 2.0, "once": 16.0}, rel=1e-3)
    assert [row.difference for row in rows] == [None, None, None, 0.25]


def test_work_is_the_arithmetic_and_the_weights_that_take_part():
    network = torch.nn.ModuleList([torch.nn.Linear(8, 16), torch.nn.Conv1d(4, 6, 3, padding=1), torch.nn.Linear(9, 9)])

    def evaluate():
        return network[0](torch.ones(5, 8)).sum() + network[1](torch.ones(1, 4, 10)).sum()

    work = work_of(evaluate, network, 7)
    assert work.evaluations == 7
    assert work.gflop * 1e9 == 2 * (5 * 8 * 16 + 10 * 4 * 6 * 3)
    assert work.gbyte * 1e9 == 4 * (8 * 16 + 16 + 4 * 6 * 3 + 6)


def test_the_bound_is_the_slower_of_arithmetic_and_reading():
    machine = timing.Machine(timing.CLOCKS["wall"])
    assert machine.bound_ms(Work(machine.gflops, 1e-6, 2)) == pytest.approx(2000)
    assert machine.bound_ms(Work(0.0, 1e-3, 2)) > 0


LEROBOT = LerobotDiffusionCfg(down_dims=(16, 32), kernel_size=3, diffusion_step_embed_dim=8, num_train_timesteps=9)


@compiled
def test_lerobots_policy_is_compared_in_one_process(caplog, tmp_path):
    pytest.importorskip("lerobot")
    sizes = lerobot.Sizes(
        lerobot=LEROBOT, equal=UnetCfg((8, 16, 24), kernel=5, groups=8, step_dim=8), unet=TINY,
        transformer=TransformerCfg(1, 2, 16), large=TransformerCfg(2, 2, 16),
    )  # fmt: skip
    out = tmp_path / "lerobot.json"
    with caplog.at_level("INFO"):
        lerobot.main(["--rounds", "2", "--out", str(out)], sizes)
    (rows,) = json.loads(out.read_text()).values()
    by_name = {row["name"]: row for row in rows}
    references = {"lerobot's default (16, 32), DDPM-9, from single steps", "lerobot (8, 16, 24), DDIM-10"}
    assert all(set(row["speedups"]) == references and row["p50_ms"] > row["bound_ms"] > 0 for row in rows)
    ten, two = (by_name[f"our U-Net (8, 16, 24), {name}, native"] for name in ("DDIM-10", "RTI of two"))
    assert two["gflop"] == pytest.approx(0.2 * ten["gflop"])
    assert by_name["our U-Net (8, 16, 24), DDIM-10, torch"]["difference"] < 1e-4
    assert 0 < ten["difference"] < 1e-4  # Not 0: the chunks are no constants.
    assert len(re.findall("native .* bound", caplog.text)) == 8


def test_lerobots_default_may_take_one_whole_decision():
    pytest.importorskip("lerobot")
    whole, step = (lerobot._lerobot_default(LEROBOT, full=full) for full in (True, False))
    assert (whole.share, whole.rounds, step.share, step.rounds) == (1.0, 1, 1 / 9, None)
    assert "one whole decision" in whole.name
    assert "from single steps" in step.name
    assert whole.work == step.work
    assert whole.decide().shape == (1, 15, 10)


@compiled
def test_the_transformers_ways_to_decide_are_compared(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(latency, "PAPER", TransformerCfg(2, 2, 16))
    out = tmp_path / "latency.json"
    latency.main(["--rounds", "1", "--out", str(out)])
    (rows,) = json.loads(out.read_text()).values()
    exact = [row for row in rows if "bac" not in row["name"] and "ddim5" not in row["name"]]
    assert len(exact) == 4
    assert all(row["difference"] < 1e-4 for row in exact)
