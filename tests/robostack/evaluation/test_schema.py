import json
import os

import pytest
from pydantic import ValidationError

from robostack.errors import DataError, StorageError
from robostack.evaluation.schema import RunMetrics, read_metrics, write_json_atomic

VALUES = {
    "task_id": "abc",
    "robot": "panda",
    "expert": {"success": 0.99, "n": 300},
    "demos": {"n": 297, "replayed_exact": 297, "per_minute": 410.0},
    "policy": {"success": 0.93, "n": 100, "wilson_low": 0.863, "wilson_high": 0.966, "first_time_success": 0.95},
    "latency_ms": {"p50": 2.1, "p99": 3.4},
    "env": {"control_steps_per_s": 1200.0},
    "wall_s": 500.0,
}


def changed(path: str, value) -> dict:
    values = json.loads(json.dumps(VALUES))
    *parents, last = path.split(".")
    target = values
    for name in parents:
        target = target[name]
    target[last] = value
    return values


def test_what_is_written_is_read_back_and_absent_fields_stay_absent(tmp_path):
    metrics = RunMetrics(**VALUES, stages={"demos": 1.5, "train": 2.5}, failure_codes={"DROPPED": 3})
    path = write_json_atomic(tmp_path / "metrics.json", metrics)
    assert read_metrics(path) == metrics
    assert metrics.policy.successes == 93
    written = json.loads(path.read_text())
    assert list(written["stages"]) == ["demos", "train"]
    assert "params" not in written
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("policy.success", 93.0, "policy.success"),
        ("policy.success", 0.5, "lies outside"),
        ("expert.success", float("nan"), "expert.success"),
        ("latency_ms.p99", 1.0, "exceeds p99"),
        ("demos.replayed_exact", 298, "replayed_exact=298 of n=297"),
        ("policy.n", 0, "policy.n"),
        ("wall_s", -1.0, "wall_s"),
        ("succes", 1, "succes"),
    ],
)
def test_impossible_metrics_are_refused_by_name(path, value, message, tmp_path):
    with pytest.raises(ValidationError):
        RunMetrics(**changed(path, value))
    (tmp_path / "metrics.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(DataError, match=message):
        read_metrics(tmp_path / "metrics.json")


def test_values_smuggled_past_validation_are_not_written(tmp_path):
    smuggled = RunMetrics(**VALUES).model_copy(update={"wall_s": float("nan")})
    with pytest.raises(DataError, match="wall_s"):
        write_json_atomic(tmp_path / "metrics.json", smuggled)
    assert not list(tmp_path.iterdir())


def test_a_missing_directory_is_a_storage_error_and_a_missing_file_a_data_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        write_json_atomic(tmp_path / "nowhere" / "metrics.json", RunMetrics(**VALUES))
    with pytest.raises(DataError, match="finished run"):
        read_metrics(tmp_path / "metrics.json")
