"""The wheel holds what it should, works away from the checkout, and the set-up script explains what it lacks."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = (
    *("robostack", "simgen", "policies", "hardware", "configs", "data"),
    *("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md", ".gitignore"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, without git history."""
    pytest.importorskip("hatchling")
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    (copy / "data" / "cache").mkdir(exist_ok=True)
    (copy / "data" / "cache" / "large.bin").write_text("x")
    build = "from hatchling.build import build_wheel; print(build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return copy / "dist" / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel, unpacked as an installer does."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def away_from_the_checkout(site, tmp_path, script):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-P", "-c", script]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_packages_the_configs_and_the_cards(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("robostack", "simgen", "policies", "hardware"):
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert sources <= names
    for folder, inside in (("configs", "robostack/_configs"), ("data", "robostack/_data")):
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "cache" not in path.parts)
        assert {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in files} <= names


def test_the_wheel_holds_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"robostack", "simgen", "policies", "hardware"}
    assert not [name for name in names if "cache" in name or name.endswith((".pyc", ".bin"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/THIRD_PARTY.md") for name in names)


def test_the_wheel_works_away_from_the_checkout(site, tmp_path):
    script = (
        "import robostack, sys\n"
        "from robostack.cli import main\n"
        "from robostack.cli.settings import load_settings\n"
        "assert main(['--help']) == main(['run', '--help']) == main(['doctor', '--help']) == 0\n"
        "settings = load_settings('run', ['put the red cube in the bowl', 'sampler=ddpm100'])\n"
        "print(robostack.__file__, settings['sampler']['name'])"
    )
    done = away_from_the_checkout(site, tmp_path, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{site}/robostack/__init__.py ddpm100"
    assert list(tmp_path.iterdir()) == []


def test_the_installed_doctor_reads_the_requirements_of_the_wheel(site, tmp_path):
    script = "from robostack.cli.probes import requirements; print(*sorted({e for e, _ in requirements()}), sep=',')"
    done = away_from_the_checkout(site, tmp_path, script)
    assert done.stdout.strip() == ",bench,dev,gen,onnx,report,sim,train", done.stderr


def test_the_entry_point_is_the_command(site):
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert "robostack = robostack.cli:main" in entry.read_text()


def test_constraints_hold_versions_only_and_cover_every_requirement():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.!+-]+", line) for line in lines)
    pinned = {line.partition("==")[0] for line in lines}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {re.match(r"[\w-]+", line).group().lower() for group in groups for line in group} - {"robostack"}
    assert wanted <= pinned


def test_the_extra_all_names_every_extra():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(re.search(r"\[(.*)\]", everything).group(1).split(",")) == set(extras) - {"all"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_configs_hold_values_only(path):
    text = path.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    assert "${" not in text.replace("${now", "")


# The set-up script.


def set_up(tmp_path, python_script):
    """Run .ci/setup where ``python3.11`` is a given shell script, and apt is out of reach."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "id", "uname", "rm", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    if python_script:
        (tools / "python3.11").write_text(f"#!/bin/sh\n{python_script}\n")
        (tools / "python3.11").chmod(0o755)
    command = [shutil.which("sh"), str(ROOT / ".ci" / "setup"), str(tmp_path / "venv")]
    return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)


def test_a_missing_python_is_explained(tmp_path):
    done = set_up(tmp_path, "")
    assert done.returncode == 2
    assert "Python 3.11 was not found" in done.stderr
    assert "apt-get install python3.11 python3.11-venv" in done.stderr


def test_a_python_of_another_version_is_not_taken(tmp_path):
    done = set_up(tmp_path, "exit 1")
    assert done.returncode == 2
    assert "Python 3.11 was not found" in done.stderr


def test_a_python_without_venv_is_explained(tmp_path):
    done = set_up(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac; exit 0')
    assert done.returncode == 2
    assert "run  apt-get install python3.11-venv" in done.stderr


def test_a_failing_venv_is_no_success_and_missing_libraries_are_named(tmp_path):
    done = set_up(tmp_path, 'case "$1 $2" in *CDLL*|"-m venv") exit 1;; esac; exit 0')
    assert done.returncode != 0
    assert "apt-get install -y libegl1 libgles2" in done.stderr
