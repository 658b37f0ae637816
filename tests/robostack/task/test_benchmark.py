"""Benchmarks travel through the same files as other tasks."""

import pytest

from robostack.errors import SpecError
from robostack.task.benchmark import BENCHMARKS, PushTTask, load_task, task_from_json


def test_a_benchmark_survives_its_file(tmp_path):
    (tmp_path / "task.json").write_text(PushTTask().to_json())
    assert load_task(tmp_path / "task.json") == PushTTask()
    assert load_task(tmp_path / "task.json").id == PushTTask().id
    assert BENCHMARKS[PushTTask().name] is PushTTask


def test_a_shorter_horizon_is_another_task():
    assert PushTTask(horizon_s=5.0).id != PushTTask().id


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"benchmark": "pushx"}', r"is not a benchmark .*pass task=<one of pusht>"),
        ('{"benchmark": "pusht", "environment": "gym-pusht==9.9"}', "environment"),
        ('{"name": "x"}', "not a valid TaskSpec"),
        ("{", "not a valid TaskSpec"),
    ],
)
def test_a_file_of_neither_kind_is_refused_in_one_line(text, reason):
    with pytest.raises(SpecError, match=reason) as caught:
        task_from_json(text)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SpecError, match="no task at"):
        load_task(tmp_path / "task.json")
