"""Every command of the README runs, in its order, on a budget of seconds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from robostack.cli import main
from robostack.evaluation import run_report

README = Path(__file__).parents[1] / "README.md"
DEMOS, TRAIN, EVAL = ("n=2", "workers=1"), ("policy.steps=2", "policy.batch_size=4"), ("n=1", "workers=1")
SMALL = {
    "run": ("demos.n=2", "demos.workers=1", *TRAIN, "eval.n=1", "eval.workers=1"),
    "gen": (),
    "demos": DEMOS,
    "train": TRAIN,
    "eval": EVAL,
    "doctor": (),
}


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [body for name, body in fenced if name == language]


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


def test_the_readme_is_short_and_its_picture_exists():
    text = README.read_text()
    assert len(text.splitlines()) < 200
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures
    assert all((README.parent / picture).is_file() for picture in pictures)


def test_make_targets_exist():
    targets = (README.parent / "Makefile").read_text()
    named = {line[1] for line in commands("make")} | set(re.findall(r"`make ([a-z-]+)`", README.read_text()))
    assert {"demo", "test"} <= named
    assert all(re.search(rf"^{target}:", targets, flags=re.MULTILINE) for target in named)


def test_every_robostack_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_report, "_CLIP_SIZE", (48, 64))  # In software, drawing is most of a short run's time.
    monkeypatch.setattr(run_report, "_CLIP_HZ", 1.0)
    found = commands("robostack")
    assert {"run", "gen", "demos", "train", "eval", "doctor"} <= {words[1] for words in found}
    for words in found:
        verb, rest = words[1], [word for word in words[2:] if not re.match(r"(n|policy\.steps)=", word)]
        extra = () if verb == "doctor" else (*SMALL[verb], "progress=false")
        code = main([verb, *rest, *extra])
        assert code == 0, (words, capsys.readouterr().err)
    (viewer,) = commands("lerobot-dataset-viz")  # shows what the demos command above has left
    subprocess.run([sys.executable, "-m", "lerobot.scripts.lerobot_dataset_viz", *viewer[1:]], check=True)
    assert list((tmp_path / "viz").iterdir())


def test_every_python_block_runs():
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], check=True, capture_output=True, text=True)


def test_help_of_every_verb_teaches(capsys):
    for verb in SMALL:
        assert main([verb, "--help"]) == 0
        assert f"robostack {verb}" in capsys.readouterr().out
