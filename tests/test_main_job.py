"""The main job on real parts and a tiny budget, and what a user sees when the input is bad."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from robostack.cli import main
from robostack.evaluation import run_report
from robostack.evaluation.schema import read_metrics

SENTENCE = "put the red cube in the bowl"
TINY = ("demos.n=3", "demos.workers=1", "policy.steps=4", "policy.batch_size=8", "eval.n=2", "eval.workers=1")


@pytest.fixture(scope="module", autouse=True)
def small_clips():
    """Reports with small clips of few frames: in software, drawing them is most of a short run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "_CLIP_SIZE", (48, 64))
        patch.setattr(run_report, "_CLIP_HZ", 1.0)
        yield


@pytest.fixture(scope="module")
def finished(small_clips, tmp_path_factory):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("job") / "run"
    assert main(["run", SENTENCE, *TINY, f"out={out}", "progress=false", "quiet=true"]) == 0
    return out


def test_a_sentence_becomes_a_report_and_figures(finished):
    metrics = read_metrics(finished / "metrics.json")
    assert metrics.robot == "panda"
    assert metrics.sentence == SENTENCE
    assert (metrics.demos.n, metrics.demos.replayed_exact, metrics.policy.n) == (3, 3, 2)
    assert metrics.expert.success > 0.5
    assert 0 < metrics.latency_ms.p50 <= metrics.latency_ms.p99
    assert metrics.env.control_steps_per_s > 0
    page = (finished / "report.html").read_text()
    assert SENTENCE in page
    assert page.count("<video") == 3 or page.count("data:image/webp") >= 3  # the expert and the policy, or no H.264
    assert not re.search(r'(src|href)="https?://', page)


def test_metrics_have_the_promised_fields(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert set(metrics["expert"]) == {"success", "n"}
    assert set(metrics["demos"]) == {"n", "replayed_exact", "per_minute"}
    assert set(metrics["policy"]) == {"success", "n", "wilson_low", "wilson_high", "first_time_success"}
    assert set(metrics["latency_ms"]) == {"p50", "p99"}
    assert {"task_id", "robot", "env", "wall_s"} <= set(metrics)


def test_the_same_command_again_changes_nothing_that_was_made(finished):
    kept = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.suffix in (".npz", ".parquet", ".safetensors")}
    assert kept
    assert main(["run", SENTENCE, *TINY, f"out={finished}", "progress=false", "quiet=true"]) == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_the_single_verbs_go_on_from_a_run(finished, tmp_path, capsys):
    train = ["train", f"dataset={finished}", "policy.steps=3", "policy.batch_size=8", f"out={tmp_path / 't'}"]
    assert main([*train, "progress=false"]) == 0
    evaluate = ["eval", f"checkpoint={tmp_path / 't'}", "n=1", "workers=1", f"out={tmp_path / 'e'}", "progress=false"]
    assert main(evaluate) == 0
    assert "/1 succeeded" in capsys.readouterr().out


def test_gen_and_demos_hand_over_a_task(tmp_path, capsys):
    assert main(["gen", "stack the green block on the blue block", "robot=ur5e", f"out={tmp_path / 'g'}"]) == 0
    assert main(["demos", f"task={tmp_path / 'g'}", "n=1", "workers=1", f"out={tmp_path / 'd'}", "progress=false"]) == 0
    assert (tmp_path / "d" / "dataset" / "meta" / "info.json").is_file()
    assert "1/1 verified" in capsys.readouterr().out


def test_cameras_are_rendered_into_the_dataset_and_do_not_bind_a_state_policy(finished, tmp_path):
    small = ("n=1", "workers=1", "cameras=[front]", "image_size=64", "progress=false")
    assert main(["demos", f"task={finished}", *small, f"out={tmp_path / 'd'}"]) == 0
    features = json.loads((tmp_path / "d" / "dataset" / "meta" / "info.json").read_text())["features"]
    assert features["observation.images.front"]["shape"] == [64, 64, 3]
    assert list((tmp_path / "d" / "dataset" / "videos").rglob("*.mp4"))
    tiny = ("policy.steps=2", "policy.batch_size=4", f"out={tmp_path / 't'}", "progress=false")
    assert main(["train", f"dataset={tmp_path / 'd'}", *tiny]) == 0
    assert main(["eval", f"checkpoint={tmp_path / 't'}", "n=1", "workers=1", f"out={tmp_path / 'e'}"]) == 0


_CHUNK = """
import sys, numpy as np
from policies.checkpoint import load_policy
from robostack.types import Observation
policy = load_policy(sys.argv[1])
policy.reset(np.ones(1, bool), np.array([7]))
Ds, De, To = len(policy.features.state), len(policy.features.environment_state), policy.horizon.To
rng = np.random.default_rng(0)
obs = Observation(0.0, rng.random((1, To, Ds), np.float32), rng.random((1, To, De), np.float32))
np.save(sys.argv[2], policy.infer(obs).actions)
"""


def test_the_checkpoint_gives_the_same_chunk_in_a_new_process(finished, tmp_path):
    for name in ("a", "b"):
        command = [sys.executable, "-c", _CHUNK, finished / "policy" / "checkpoint", tmp_path / f"{name}.npy"]
        subprocess.run(command, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


# Bad input: one line, exit code 2, nothing lost.


def refused(capsys, *args) -> str:
    code = main([str(a) for a in args])
    err = capsys.readouterr().err.strip()
    assert code == 2, err
    assert err.startswith("error: "), err
    assert "\n" not in err
    return err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", SENTENCE, "robot=pnada"], "did you mean 'panda'"),
        (["run", "make me a sandwich"], "put_in, put_on, relative_place"),
        (["run", "put the red unicorn in the bowl"], "unicorn"),
        (["run", SENTENCE, "polcy.steps=3"], "did you mean 'policy.steps'"),
        (["run", SENTENCE, "policy.stpes=3"], "did you mean 'policy.steps'"),
        (["run", SENTENCE, "policy=difusion_unet"], "diffusion_unet"),
        (["run", SENTENCE, "sampler=ddim"], "ddim10"),
        (["run", SENTENCE, "device=tpu"], "cpu"),
        (["run", SENTENCE, "demos.n=0"], "demos.n"),
        (["run", SENTENCE, "eval.n=0"], "eval.n"),
        (["run", SENTENCE, "policy.Tp=15"], "Tp"),
        (["run"], "sentence"),
        (["demos", "task=nowhere.json"], "no task at"),
        (["train", "dataset=nowhere"], "no dataset at"),
        (["eval", "checkpoint=nowhere"], "no checkpoint at"),
    ],
)
def test_bad_values_are_refused_in_one_line(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *args)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_foreign_checkpoint_is_refused(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.ckpt").write_bytes(b"\x80\x04N.")
    err = refused(capsys, "eval", f"checkpoint={foreign}", f"task={finished}", "n=1", "workers=1")
    assert "is not a robostack checkpoint" in err


def test_an_unknown_camera_is_refused(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, "demos", f"task={finished}", "n=1", "workers=1", "cameras=[top]")
    assert "front, overhead" in err


def test_another_sentence_does_not_continue_a_run(finished, capsys):
    err = refused(capsys, "run", "put the blue cube in the bowl", *TINY, f"out={finished}")
    assert "sentence" in err
