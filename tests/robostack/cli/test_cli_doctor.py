"""Doctor tells what is wrong and the command that helps, and survives whatever is broken."""

import json
from pathlib import Path

import pytest

from robostack.cli import doctor, main, probes
from robostack.cli.probes import Check

APT = "apt-get install -y libegl1 libgl1-mesa-dri libgles2"


def test_a_package_in_the_wrong_version_is_broken():
    check = probes.package("sim", "numpy==1.0.0")
    assert check.status == "broken"
    assert check.blocks
    assert "wanted ==1.0.0" in check.detail
    assert check.fix


def test_a_missing_package_is_missing():
    check = probes.package("train", "robostack-no-such-thing>=1")
    assert (check.status, check.blocks) == ("missing", True)


def test_development_packages_do_not_block():
    assert not probes.package("dev", "robostack-no-such-thing").blocks


def test_every_extra_is_checked():
    extras = {"", "sim", "gen", "train", "report", "bench", "onnx", "dev"}
    assert {extra for extra, _ in probes.requirements()} == extras


def test_a_frame_is_really_drawn():
    pytest.importorskip("mujoco")
    check = probes.probe("rendering", "MuJoCo EGL", probes.RENDER_SCRIPT, fix=APT)
    assert check.status == "ok", check.detail
    assert check.detail == "8x8 frame drawn"


def test_a_video_is_really_encoded():
    pytest.importorskip("av")
    check = probes.probe("video", "H.264", probes.ENCODE_SCRIPT, fix="")
    assert check.status == "ok", check.detail


def test_a_renderer_that_fails_names_the_system_packages(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "no_such_backend")
    check = probes.probe("rendering", "MuJoCo EGL", probes.RENDER_SCRIPT, fix=APT)
    assert check.status == "broken"
    assert "no_such_backend" in check.detail
    assert "libegl1 libgl1-mesa-dri" in check.fix


def test_a_probe_that_crashes_or_hangs_is_broken():
    crash = probes.probe("x", "crash", "import os; os.kill(os.getpid(), 9)", fix="y")
    hang = probes.probe("x", "hang", "import time; time.sleep(60)", fix="y", timeout_s=0.2)
    assert [crash.status, hang.status] == ["broken", "broken"]
    assert "-9" in crash.detail


def test_a_probe_without_its_package_is_missing():
    assert probes.probe("x", "y", "import robostack_no_such_thing", fix="").status == "missing"


def test_little_memory_is_noticed(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable: 1048576 kB\n")
    assert probes.memory(meminfo).status == "broken"
    assert probes.memory(tmp_path / "none").status == "note"


def test_a_folder_that_cannot_be_written_blocks(monkeypatch, tmp_path):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(probes.tempfile, "TemporaryFile", refuse)
    check = probes.writable(tmp_path / "outputs")
    assert check.blocks
    assert "Permission denied" in check.detail


def test_descriptions_are_found_only_when_complete(tmp_path):
    assert probes.robot_descriptions((tmp_path,)).status == "missing"
    robots = tmp_path / "cmeel.prefix/share/example-robot-data/robots"
    (robots / "panda_description/urdf").mkdir(parents=True)
    assert probes.robot_descriptions((tmp_path,)).status == "broken"
    for name in ("ur_description", "so_arm_description"):
        (robots / name / "urdf").mkdir(parents=True)
    assert probes.robot_descriptions((tmp_path,)).status == "ok"


def test_the_users_robot_cards_are_found(monkeypatch, tmp_path):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots/mine.yaml").write_text("{}")
    monkeypatch.setenv("ROBOSTACK_DATA", str(tmp_path))
    assert "mine" in probes.cards().detail


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("missing", 2), ("broken", 2)])
def test_the_exit_code_says_whether_the_main_job_can_run(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "all_checks", lambda: [Check("g", "thing", status, "detail", "do this")])
    assert main(["doctor"]) == code
    out = capsys.readouterr().out
    assert ("do this" in out) == (code == 2)
    assert main(["doctor", "json=true"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] == (code == 0)
    assert answer["checks"][0]["name"] == "thing"


def test_doctor_refuses_other_arguments(capsys):
    assert main(["doctor", "json=yes"]) == 2
    assert "json=true or json=false" in capsys.readouterr().err


def test_doctor_never_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    probes.disk(Path("outputs"))
    probes.writable(Path("outputs"))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
