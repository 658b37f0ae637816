"""The verbs on fake working parts: what they leave behind, and that they go on where they stopped."""

import fcntl
import json
import os
from pathlib import Path

import pytest
import yaml

from robostack.cli import main, stages
from robostack.cli.metrics import Metrics, write_metrics
from robostack.cli.workspace import RunPaths
from robostack.errors import ConfigError
from robostack.evaluation.schema import read_metrics
from robostack.task.benchmark import PushTTask

SENTENCE = "put the red cube in the bowl, it's {urgent}"
SMALL = ("demos.n=4", "policy.steps=7", "eval.n=5")


def folders(verb="run"):
    return sorted(Path("outputs", verb).iterdir())


def test_run_leaves_everything_that_it_promises(command):
    code, out, err = command("run", SENTENCE, *SMALL)
    assert (code, err) == (0, "")
    (root,) = folders()
    assert {path.name for path in root.iterdir()} == {
        *("task.json", "demos", "dataset", "policy", "eval"),
        *("report.html", "config.yaml", "metrics.json", ".lock"),
    }
    config = yaml.safe_load((root / "config.yaml").read_text())
    assert config["sentence"] == SENTENCE
    assert config["policy"]["steps"] == 7
    metrics = read_metrics(root / "metrics.json")
    assert metrics.sentence == SENTENCE
    assert metrics.policy.successes == 4
    assert metrics.demos.n == 4
    assert metrics.stages is not None
    assert list(metrics.stages) == ["task", "scene", "demos", "dataset", "train", "evaluate"]
    lines = out.splitlines()
    assert [line[:5] for line in lines[:-1]] == [f"[{i}/7]" for i in range(1, 8)]
    assert "4/4 verified" in out
    assert "4/5 succeeded, 80% (50 to 100%)" in out
    assert lines[-1] == f"report: {(root / 'report.html').resolve()}"


def test_settings_reach_the_working_parts(command):
    code, _, _ = command("run", SENTENCE, *SMALL, "out=o", "sampler=ddpm100", "seed=3", "policy.lr=1", "policy.To=3",
                         "logger=tensorboard", "eval.workers=2", "control_mode=joint_pos")  # fmt: skip
    assert code == 0
    trained = json.loads(Path("o/policy/checkpoint/weights.json").read_text())
    assert trained == {
        "policy": "diffusion_unet", "steps": 7, "lr": 1.0, "To": 3, "logger": "tensorboard", "rows": [0, 1, 2]
    }  # fmt: skip
    rolled = json.loads(Path("o/eval/episodes.json").read_text())
    assert (rolled["sampler"], rolled["seed"], rolled["workers"]) == ("ddpm100", 3, 2)
    assert json.loads(Path("o/task.json").read_text())["robot"]["control_mode"] == "joint_pos"


@pytest.mark.parametrize(
    ("policy", "fix"), [("image", "pass demos.cameras=[front]"), ("points", "pass demos.points=512")]
)
def test_a_run_whose_policy_would_look_at_what_is_not_shown_is_refused_at_once(policy, fix, tmp_path, capsys):
    code = main(["run", SENTENCE.partition(",")[0], f"policy=diffusion_unet_{policy}", f"out={tmp_path / 'o'}"])
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert fix in error
    assert not (tmp_path / "o").exists()


def test_quiet_prints_the_result_only(command):
    _, out, err = command("run", SENTENCE, *SMALL, "quiet=true")
    assert out.startswith("report: ")
    assert out.count("\n") == 1
    assert err == ""


def test_an_interrupted_run_is_resumed_by_the_same_command(command, fakes):
    fakes.FAIL["fit"] = KeyboardInterrupt()
    assert command("run", SENTENCE, *SMALL)[0] == 130
    (root,) = folders()
    assert not (root / "metrics.json").exists()
    code, out, _ = command("run", SENTENCE, *SMALL, "quiet=false", "demos.workers=1")
    assert code == 0
    assert f"resuming the unfinished {root}" in out
    assert folders() == [root]


def test_fresh_starts_anew_and_a_finished_run_is_not_resumed(command, fakes):
    fakes.FAIL["fit"] = KeyboardInterrupt()
    command("run", SENTENCE, *SMALL)
    assert command("run", SENTENCE, *SMALL, "fresh=true")[0] == 0
    assert len(folders()) == 2
    assert command("run", SENTENCE, *SMALL)[0] == 0
    assert len(folders()) == 3


def test_other_settings_do_not_resume(command, fakes):
    fakes.FAIL["fit"] = KeyboardInterrupt()
    command("run", SENTENCE, *SMALL)
    assert "resuming" not in command("run", SENTENCE, *SMALL, "seed=1")[1]
    assert len(folders()) == 2


def test_out_is_resumed_with_the_same_and_refused_with_another_configuration(command, fakes):
    assert command("run", SENTENCE, *SMALL, "out=o")[0] == 0
    code, out, _ = command("run", SENTENCE, *SMALL, "out=o")
    assert code == 0
    assert "resuming o" in out
    code, _, err = command("run", SENTENCE, *SMALL, "out=o", "policy.steps=8")
    assert code == 2
    assert "policy.steps: 7 there, 8 here" in err
    assert "pass out=<a new folder>" in err


def test_a_folder_of_something_else_is_never_written_into(command):
    Path("o").mkdir()
    Path("o/thesis.tex").write_text("x")
    code, _, err = command("run", SENTENCE, "out=o")
    assert code == 2
    assert "holds other files" in err
    assert [path.name for path in Path("o").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "\x00"])
def test_a_damaged_config_in_out_is_refused(command, content):
    Path("o").mkdir()
    Path("o/config.yaml").write_text(content)
    code, _, err = command("run", SENTENCE, "out=o")
    assert code == 2
    assert "no readable config.yaml" in err


def test_out_that_is_a_file_is_refused(command):
    Path("o").write_text("x")
    assert "out=o is a file" in command("run", SENTENCE, "out=o")[2]


def test_fresh_does_not_overwrite(command):
    command("run", SENTENCE, *SMALL, "out=o")
    assert "fresh=true needs a new folder" in command("run", SENTENCE, *SMALL, "out=o", "fresh=true")[2]


def test_a_folder_in_use_is_left_alone(command, fakes):
    fakes.FAIL["fit"] = KeyboardInterrupt()
    command("run", SENTENCE, *SMALL, "out=o")
    other = os.open("o/.lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert "in use by another robostack process" in command("run", SENTENCE, *SMALL, "out=o")[2]
    os.close(other)
    assert command("run", SENTENCE, *SMALL, "out=o")[0] == 0


def test_a_run_in_progress_is_not_joined_by_its_twin(command, fakes):
    fakes.FAIL["fit"] = KeyboardInterrupt()
    command("run", SENTENCE, *SMALL)
    other = os.open(folders()[0] / ".lock", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert command("run", SENTENCE, *SMALL)[0] == 0
    os.close(other)
    assert len(folders()) == 2


def test_wrong_input_leaves_no_folder_behind(command):
    for wrong in ("robot=pnada", "device=cuda:7", "policy.Ta=99", "demos.n=0"):
        assert command("run", SENTENCE, wrong)[0] == 2
    assert command("gen", "a heavy cube")[0] == 2
    assert not Path("outputs").exists()


def test_an_unknown_robot_comes_from_the_loader(command):
    err = command("run", SENTENCE, "robot=pnada")[2]
    assert err == "error: unknown robot 'pnada': did you mean 'panda'? Available: panda, ur5e.\n"


def test_the_verbs_chain_through_their_folders(command):
    assert command("gen", SENTENCE, "out=g")[0] == 0
    assert command("demos", "task=g", "n=4", "out=d")[0] == 0
    assert command("train", "dataset=d", "policy.steps=7", "out=t")[0] == 0
    code, out, _ = command("eval", "checkpoint=t", "n=5", "out=e")
    assert code == 0
    assert "4/5 succeeded" in out.splitlines()[-1]
    tasks = {json.loads(Path(folder, "task.json").read_text())["name"] for folder in "gdte"}
    assert tasks == {"cube_in_bowl"}
    for folder in "gdte":
        assert Metrics.model_validate_json(Path(folder, "metrics.json").read_text()).task_id
    slow = ("execution=rtc", "latency=fixed:150", "out=slow")
    assert command("eval", "checkpoint=t", "task=g/task.json", "n=5", *slow)[0] == 0
    for folder, expected in (("e", ("sync", "none")), ("slow", ("rtc", "fixed:150"))):
        rolled = json.loads(Path(folder, "eval/episodes.json").read_text())
        assert (rolled["execution"], rolled["latency"]) == expected


def test_several_datasets_are_found_and_have_a_task_only_if_it_is_the_same(command):
    for folder, sentence in (("a", SENTENCE), ("b", SENTENCE), ("c", "put the red cube into the blue bowl")):
        assert command("gen", sentence, f"out={folder}")[0] == 0
        Path(folder, "dataset", "meta").mkdir(parents=True)
        Path(folder, "dataset", "meta", "info.json").write_text("{}")
    found = stages.find_datasets("[a, 'b' ,c/dataset]")
    assert found == [Path("a/dataset"), Path("b/dataset"), Path("c/dataset")]
    assert stages.find_datasets("a") == found[:1]
    assert stages.find_common_task(found[:2]) == stages.find_task_near(found[0])
    different = json.loads(Path("c/task.json").read_text())
    different["name"] = "another"
    Path("c/task.json").write_text(json.dumps(different))
    assert stages.find_common_task(found) is None
    code, _, err = command("train", "dataset=[a,nowhere]")
    assert code == 2
    assert "no dataset at nowhere" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("demos", "task=nowhere"), "no task at nowhere"),
        (("train", "dataset=nowhere"), "no dataset at nowhere"),
        (("eval", "checkpoint=nowhere"), "no checkpoint at nowhere"),
        (("eval", "checkpoint=c"), "no task.json near c"),
        (("eval", "checkpoint=half"), "the training in half is unfinished"),
    ],
)
def test_missing_inputs_are_named(command, args, message):
    Path("c").mkdir()
    Path("half/policy").mkdir(parents=True)
    Path("half/config.yaml").write_text("{}")
    code, _, err = command(*args)
    assert code == 2
    assert message in err


def test_a_half_written_task_is_refused(command):
    Path("task.json").write_text('{"name": "x", ')
    code, _, err = command("demos", "task=task.json")
    assert code == 2
    assert "not a valid TaskSpec" in err


def test_metrics_refuse_what_is_not_a_finite_number(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        write_metrics(RunPaths(tmp_path), "run", seconds={}, stages={"x": {"y": float("nan")}})
    assert not (tmp_path / "metrics.json").exists()


def test_a_benchmark_is_found_by_its_name_and_near_what_was_made_of_it(tmp_path):
    task = stages.find_task("pusht")
    stages.save_task(task, RunPaths(tmp_path))
    (tmp_path / "policy" / "checkpoint").mkdir(parents=True)
    assert stages.find_task_near(tmp_path / "policy" / "checkpoint") == task == stages.find_task(str(tmp_path))
    stages.save_task(task, RunPaths(tmp_path))
    with pytest.raises(ConfigError, match="is another task"):
        stages.save_task(PushTTask(horizon_s=1.0), RunPaths(tmp_path))
