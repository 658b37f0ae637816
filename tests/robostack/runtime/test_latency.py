import pytest

from robostack.errors import ConfigError
from robostack.runtime.latency import DelayEstimate, LatencyModel

DT = 0.05


@pytest.mark.parametrize("text", ["none", "measured", "measured:2.5", "fixed:150", "fixed:0"])
def test_a_latency_reads_as_it_is_written(text):
    assert str(LatencyModel.parse(text)) == text


def test_spellings_of_one_latency_are_the_same():
    assert LatencyModel.parse("fixed:150.0") == LatencyModel.parse("fixed:150")
    assert str(LatencyModel.parse("measured:1")) == "measured"


@pytest.mark.parametrize(
    "text", ["", "fixed", "fixed:", "fixed:abc", "fixed:-1", "fixed:nan", "fixed:inf", "measured:0", "none:3", "slow"]
)
def test_a_latency_that_cannot_be_read_is_refused_with_the_choices(text):
    with pytest.raises(ConfigError, match=r"use none, fixed:<milliseconds>, measured or measured:<factor>"):
        LatencyModel.parse(text)


@pytest.mark.parametrize(("ms", "steps"), [(0, 0), (49, 0), (50, 1), (99.9, 1), (100, 2), (150, 3), (350, 7)])
def test_a_fixed_latency_counts_whole_control_steps_whatever_was_measured(ms, steps):
    model = LatencyModel.parse(f"fixed:{ms}")
    assert model.steps(0.0, DT) == model.steps(123.0, DT) == steps


def test_a_measured_latency_scales_with_its_factor():
    assert LatencyModel.parse("measured").steps(0.12, DT) == 2
    assert LatencyModel.parse("measured:3").steps(0.12, DT) == 7
    assert LatencyModel.parse("none").steps(0.12, DT) == 0


def test_the_estimate_is_the_worst_recent_delay_and_forgets_a_hiccup():
    delays = DelayEstimate(window=5)
    assert delays.steps == 0
    for steps in (2, 90, 3, 2, 2, 2):
        delays.add(steps)
    assert delays.steps == 90
    delays.add(2)
    assert delays.steps == 3
    delays.clear()
    assert delays.steps == 0
