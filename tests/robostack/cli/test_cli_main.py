"""The boundary: help, exit codes, one-line errors."""

import errno
import re
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from robostack.cli import main
from robostack.cli.help import documented_knobs
from robostack.cli.settings import group_options
from robostack.cli.targets import locate
from robostack.cli.verbs import SUB_VERBS, VERBS
from robostack.errors import ConfigError, MissingExtra
from robostack.paths import config_dir

COMPOSED = [name for name, verb in (VERBS | SUB_VERBS).items() if verb.composed]
SENTENCE = "put the red cube in the bowl"


def test_help_loads_nothing_heavy(record_property):
    script = (
        "import sys, time; start = time.perf_counter()\n"
        "from robostack.cli import main; code = main(['--help'])\n"
        "heavy = {'hydra', 'omegaconf', 'yaml', 'numpy', 'torch', 'mujoco', 'pydantic', 'tqdm'} & set(sys.modules)\n"
        "print(code, sorted(heavy), time.perf_counter() - start, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, heavy, seconds = re.fullmatch(r"(\d) (\[.*\]) (.*)\n", done.stderr).groups()
    record_property("help_seconds", seconds)
    assert (code, heavy) == ("0", "[]")
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", (VERBS | SUB_VERBS).values(), ids=lambda verb: verb.key)
def test_every_verb_explains_itself_with_two_examples(verb, capsys):
    assert main([*verb.name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert out.count(f"  robostack {verb.name}") >= 2
    assert "out=null" in out or verb.name in ("doctor", "bench")


@pytest.mark.parametrize("name", ["gen", "bench"])
def test_the_help_of_a_verb_teaches_its_sub_verbs(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    below = [verb.name for verb in SUB_VERBS.values() if verb.name.startswith(f"{name} ")]
    assert below
    assert all(f"\n  {sub} " in out for sub in below)


def test_bench_alone_says_what_there_is(capsys):
    assert main(["bench"]) == 2
    assert "robostack bench policies" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["smaple", "verfy", "dance"])
def test_an_unknown_sub_verb_gets_the_closest_one_on_one_line(word, capsys):
    assert main(["gen", word, "n=3"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"unknown sub-verb '{word}' of gen" in err
    assert word == "dance" or "did you mean" in err
    assert "sample, verify, explain" in err


@pytest.mark.parametrize("verb", COMPOSED)
def test_documented_defaults_are_the_composed_defaults(verb):
    pairs = re.findall(r"(?<=\s)([\w.]+)=(\S+)", documented_knobs(verb).partition("Leaves")[0])
    assert len(pairs) >= 5
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        plain = compose(verb)
        assert {key for key, value in pairs if value == "<required>"} <= set(plain)
        assert compose(verb, [f"{key}={value}" for key, value in pairs if value != "<required>"]) == plain


def test_an_unknown_verb_gets_the_closest_one(capsys):
    assert main(["tarin"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown verb 'tarin': did you mean 'train'?")


def test_errors_of_the_user_are_one_line_and_exit_2(command):
    code, out, err = command("run", "paint the wall")
    assert (code, out) == (2, "")
    assert err == "error: cannot read 'paint the wall': name a cube\n"


def test_an_interrupt_says_how_to_resume(command, fakes):
    fakes.FAIL["collect"] = KeyboardInterrupt()
    code, _, err = command("run", SENTENCE)
    assert code == 130
    assert err == "interrupted: run the same command again to resume\n"


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied")])
def test_a_full_or_closed_disk_is_a_storage_error(command, fakes, number, words):
    fakes.FAIL["export"] = OSError(number, "no", "outputs/x")
    code, _, err = command("run", SENTENCE)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err
    assert "outputs/x" in err


def test_a_bug_shows_its_traceback_and_asks_for_a_report(command, fakes):
    fakes.FAIL["fit"] = RuntimeError("boom")
    code, _, err = command("run", SENTENCE)
    assert code == 1
    assert "Traceback" in err
    assert "RuntimeError: boom" in err
    assert "please report it" in err


def test_a_reader_that_goes_away_is_no_error():
    script = f"{sys.executable} -m robostack.cli run --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.strip() == "0"


def test_a_missing_extra_names_the_install_command(tmp_path, monkeypatch):
    (tmp_path / "needs_lerobot.py").write_text("raise ModuleNotFoundError('no', name='lerobot.datasets')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra, match=r"'lerobot' is not installed.*pip install 'robostack\[train\]'"):
        locate("needs_lerobot.x")


@pytest.mark.parametrize("path", ["no_such_module.x", "json.no_such_name", "plain"])
def test_a_wrong_target_is_a_config_error(path):
    with pytest.raises(ConfigError, match=f"targets.fit._target_={path}"):
        locate(path, "targets.fit._target_")


def test_the_help_of_train_and_eval_names_every_policy_and_every_kind_of_sampler():
    from policies.zoo import POLICIES

    assert all(f" {name}" in documented_knobs("train") for name in POLICIES)
    shown = documented_knobs("eval")
    assert all(f" {name} " in shown for name in POLICIES)
    for name in group_options("sampler"):
        kind = re.sub(r"(?<=[a-z])\d+$", "", name)
        assert re.search(rf"\b({name}|{kind})\b", shown), name


def test_every_sampler_of_a_policy_can_be_chosen():
    from policies.zoo import POLICIES

    known = {sampler for name in POLICIES for sampler in POLICIES[name].samplers}
    assert set(group_options("sampler")) == known | {"own"}
