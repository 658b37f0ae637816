"""What an import costs, where it comes from, and which way imports point."""

import importlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import robostack

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("robostack", "simgen", "policies", "hardware")


def loaded_by(statement):
    """Modules in a fresh interpreter after one statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import robostack", "import robostack.cli, robostack.cli.verbs"])
def test_robostack_loads_nothing_heavy(statement):
    assert not loaded_by(statement) & {"torch", "mujoco", "lerobot", "numpy", "hydra", "pydantic"}


@pytest.mark.parametrize("module", ["robostack.types", "robostack.runtime.protocols", "robostack.task.spec"])
def test_the_contracts_load_neither_torch_nor_mujoco(module):
    assert not loaded_by(f"import {module}") & {"torch", "mujoco", "lerobot"}


def test_reading_settings_loads_neither_torch_nor_mujoco():
    statement = (
        "from robostack.cli.settings import load_settings; load_settings('run', ['put the red cube in the bowl'])"
    )
    assert not loaded_by(statement) & {"torch", "mujoco", "lerobot", "simgen", "policies"}


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_ours_and_no_namesake(name):
    # The index has other distributions called simgen, policies and hardware; one of them may shadow ours.
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None, f"{name} is a namespace package: its __init__.py is missing"
    assert Path(spec.origin).resolve().parent.parent == Path(robostack.__file__).resolve().parent.parent


@pytest.mark.parametrize("folder", ["configs", "data", "tests"])
def test_data_folders_are_no_packages(folder):
    assert list((ROOT / folder).rglob("__init__.py")) == []


@pytest.mark.parametrize("module", ["robostack", "robostack.cli"])
def test_exported_names_exist(module):
    loaded = importlib.import_module(module)
    assert all(hasattr(loaded, name) for name in getattr(loaded, "__all__", ["main"]))


def test_imports_point_down():
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if lint is None:
        pytest.skip("import-linter is not installed")
    command = [lint, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
