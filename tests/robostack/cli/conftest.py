from pathlib import Path

import pytest

TARGETS = (
    *("propose", "check_scene", "collect", "open_store", "export", "render", "load_arrays", "train_cfg"),
    *("resolve_device", "require_sampler", "fit", "load_policy", "evaluate", "write_report"),
)
NAMES = {"train_cfg": "TrainCfg"}
WITH_POLICY = ("run", "train")


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """The fake working parts; commands run in an empty folder."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    import fake_targets

    fake_targets.CALLS.clear()
    fake_targets.FAIL.clear()
    return fake_targets


@pytest.fixture
def command(fakes, capsys):
    """Run a command against the fakes: (exit code, standard output, standard error)."""
    from robostack.cli import main

    overrides = [f"targets.{name}._target_=fake_targets.{NAMES.get(name, name)}" for name in TARGETS]

    def run(*args):
        policy = ["policy._target_=fake_targets.PolicyCfg"] if args[0] in WITH_POLICY else []
        code = main([*args, *overrides, *policy])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
