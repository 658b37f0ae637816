"""Sampling, re-proof, pages and their commands, on real tasks with a small set of gates."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robostack.cli import main
from robostack.errors import ConfigError, DataError, UnknownName
from simgen.gates.replayer import in_fresh_process
from simgen.library.build import build_library
from simgen.library.entry import load_entry
from simgen.library.explain import explain
from simgen.library.page import write_library_page
from simgen.library.store import Library, certified_files, task_files
from simgen.library.verify import find_tasks, prove_again, verify

HERE = Path(__file__).parent
PARTS = {
    "sampler": "library_doubles.sample",
    "certifier": "library_doubles.certify",
    "signer": "library_doubles.signature",
}
TARGETS = [
    *(f"targets.build_library.{part}={name}" for part, name in PARTS.items()),
    "targets.verify_library.certifier=library_doubles.certify",
    "targets.library_page.cells=library_doubles.cells",
]
SAMPLE = {"n": 4, "seed": 0, "robots": ("panda", "ur5e"), "seeds": 1, "demos": 1}


@pytest.fixture(autouse=True)
def _doubles(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A library of two tasks, with two refused."""
    sys.path.insert(0, str(HERE))
    root = tmp_path_factory.mktemp("built") / "lib"
    report = build_library(root, **SAMPLE, **PARTS)
    sys.path.remove(str(HERE))
    return root, report


@pytest.fixture
def library(built, tmp_path):
    """A copy that a test may spoil."""
    return Library(shutil.copytree(built[0], tmp_path / "lib"))


def contents(root):
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "gates.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# Sampling.


def test_certified_tasks_are_in_the_library_and_the_others_say_why_not(built):
    root, report = built
    library = Library(root)
    assert (report.n, report.certified, report.codes) == (4, 2, {"DUPLICATE": 2})
    assert len(report.ids) == 4
    assert {*library.ids(), *library.ids("failed")} == set(report.ids)
    assert all([r.gate for r in entry.records] == ["G1", "G7", "G10"] for entry in library)
    assert not (root / "pending").exists()
    assert report.per_core_minute > 0


def test_the_library_does_not_depend_on_the_workers_and_a_second_call_changes_nothing(built, tmp_path):
    root, report = built
    again = build_library(tmp_path / "lib", **SAMPLE, workers=2, **PARTS)
    assert (again.ids, again.codes) == (report.ids, report.codes)
    assert contents(tmp_path / "lib") == contents(root)
    before = contents(root)
    assert build_library(root, **SAMPLE, **PARTS).certified == report.certified
    assert contents(root) == before


def test_another_library_makes_tasks_old(built, tmp_path):
    report = build_library(tmp_path / "lib", **SAMPLE, against=built[0], **PARTS)
    assert (report.certified, report.codes) == (0, {"DUPLICATE": 4})
    refused = Library(tmp_path / "lib").entries("failed")
    unproven = {entry.id for entry in refused if [record.gate for record in entry.records] == ["G10"]}
    assert unproven == set(Library(built[0]).ids())  # what is there already costs no simulation


def test_what_a_gate_refuses_is_kept_with_its_record(tmp_path):
    report = build_library(tmp_path, **{**SAMPLE, "n": 1, "seed": 4}, **PARTS)
    assert (report.certified, report.codes) == (0, {"NO_WITNESS": 1})
    assert Library(tmp_path).load(report.ids[0], "failed").failed.gate == "G6"


@pytest.mark.parametrize("wrong", ["n", "seeds", "demos", "workers"])
def test_counts_below_one_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=f"{wrong}=0"):
        build_library(tmp_path, **{**SAMPLE, wrong: 0}, **PARTS)


def test_a_killed_sampling_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "lib"
    given = ["n=3", "robots=[panda]", "seeds=1", "demos=1", "workers=1", f"out={out}", *TARGETS]
    command = [sys.executable, "-m", "robostack.cli", "gen", "sample", *given]
    root = HERE.parents[1]
    process = subprocess.Popen(command, env=environment(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not Library(out).ids() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = Library(out).ids()
    assert first
    done = subprocess.run(command, env=environment(root), capture_output=True, text=True, check=True)
    assert "2/3 certified" in done.stdout
    assert set(first) <= set(Library(out).ids())
    assert all(entry.demos for entry in Library(out))


def environment(root):
    import os

    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{HERE}", "MUJOCO_GL": "egl"}


# Replay and re-proof.


def test_every_demonstration_replays_in_a_fresh_process(built):
    for entry in Library(built[0]):
        answer = in_fresh_process(entry.spec, entry.demos)
        proven = {str(e.seed): e.final_sha for e in entry.certificate.episodes if e.seed in entry.demos}
        assert {seed: after["final"] for seed, after in answer["episodes"].items()} == proven
        assert all(after["success"] for after in answer["episodes"].values())


def test_what_a_fresh_process_cannot_replay_is_a_line_that_says_why(built):
    entry = next(iter(Library(built[0])))
    seed, actions = next(iter(entry.demos.items()))
    with pytest.raises(DataError, match=rf"cannot replay '{entry.spec.name}': .*\bInvalidAction\b"):
        in_fresh_process(entry.spec, {seed: actions[:, :3]})


def test_a_sound_library_is_proven_again_and_a_second_call_costs_nothing(library, tmp_path):
    report = verify(library.root, tmp_path / "proofs", seeds=1, certifier=PARTS["certifier"])
    assert (report.n, report.ok, report.demos, report.replayed) == (2, 2, 2, 2)
    assert all(proof.compared == 1 for proof in report.proofs)
    again = verify(library.root, tmp_path / "proofs", seeds=1, certifier="library_doubles.no_such")
    assert again.proofs == report.proofs


def spoil_actions(entry):
    demos = {seed: actions + np.float32(1e-4) for seed, actions in entry.demos.items()}
    files = certified_files(
        entry.spec, entry.records, entry.certificate, demos=demos, keyframes={}, witness_png=None, rl={}, notes={}
    )
    (entry.folder / "demos.npz").write_bytes(files["demos.npz"])


def spoil_file(entry):
    (entry.folder / "demos.npz").write_bytes(b"PK")


def spoil_model(entry):
    changed = entry.certificate.model_copy(update={"model_sha": "0" * 64})
    (entry.folder / "certificate.json").write_text(changed.model_dump_json())


def spoil_record(entry):
    first, *rest = entry.certificate.episodes
    seed = first.model_copy(update={"seed": first.seed + 2, "final_sha": "0" * 64})
    changed = entry.certificate.model_copy(update={"episodes": (first, seed, *rest), "n": 2, "k": 2})
    (entry.folder / "certificate.json").write_text(changed.model_dump_json())


@pytest.mark.parametrize(
    ("spoil", "gate", "code"),
    [
        (spoil_actions, "G9", "REPLAY_DIFFERS"),
        (spoil_file, "G1", "CORRUPT"),
        (spoil_model, "G9", "MODEL_CHANGED"),
        (spoil_record, "G9", "NOT_REPRODUCED"),
    ],
)
def test_what_was_tampered_with_is_not_proven(library, spoil, gate, code):
    import library_doubles

    entry = next(iter(library))
    spoil(entry)
    failed = prove_again(entry.folder, certify=library_doubles.certify, seeds=2).failed
    assert (failed.gate, failed.code) == (gate, code)


def test_tasks_are_found_in_libraries_in_folders_and_as_files(library):
    assert [path.name for path in find_tasks(library.root)] == list(library.ids())
    folder = library.root / library.ids()[0]
    assert find_tasks(folder) == find_tasks(folder / "task.json") == (folder,)
    presets = HERE.parents[1] / "data" / "presets"
    assert len(find_tasks(presets)) == len(list(presets.glob("*/*.json")))


def test_folders_without_tasks_are_refused(tmp_path):
    for folder, words in ((tmp_path, "holds no task"), (tmp_path / "x", "no folder at")):
        with pytest.raises(ConfigError, match=words):
            find_tasks(folder)


# Pages.


def test_the_page_of_a_library_shows_every_task_and_runs_nothing_else(built, tmp_path):
    overview = write_library_page(built[0], tmp_path / "p.html", resamples=20, cells="library_doubles.cells")
    page = (tmp_path / "p.html").read_text()
    assert (overview.tasks, overview.failed, overview.families) == (2, 2, 2)
    assert page.count('<article class="card"') == 2
    assert all(task_id in page for task_id in Library(built[0]).ids())
    assert page.count('data-method="skill"') == 2
    assert re.search(r"script-src &#x27;sha256-|script-src 'sha256-", page)
    assert "http://" not in re.sub(r'xmlns(:\w+)?="http://[^"]*"', "", page)
    assert overview.figures()["vendi"] == overview.diversity.vendi.value


def test_markup_in_a_task_stays_text(built, tmp_path):
    entry = next(iter(Library(built[0])))
    words = "<script>alert(1)</script>"
    told = entry.spec.model_copy(update={"instruction": entry.spec.instruction.model_copy(update={"text": words})})
    Library(tmp_path / "lib").publish(told, task_files(told, ()), "failed")
    shown = explain(told.id, tmp_path / "p.html", library=tmp_path / "lib")
    assert words not in shown.page.read_text()
    assert words in shown.lines[0]


def test_an_explanation_says_all(library, tmp_path):
    entry = next(iter(library))
    shown = explain(entry.id[:5], tmp_path / "p.html", library=library.root)
    said = "\n".join(shown.lines)
    words = (entry.spec.instruction.text, entry.id, "goal", "subgoals", "objects", "gates", "novelty", "solved 1 of 1")
    assert all(word in said for word in words)
    assert "data:image/png" in shown.page.read_text()
    failed = explain(str(library.root / "failed" / library.ids("failed")[0]), tmp_path / "q.html")
    assert any("DUPLICATE (refused)" in line for line in failed.lines)
    with pytest.raises(UnknownName, match="unknown task"):
        explain("nothing", tmp_path / "r.html", library=library.root)


def test_an_empty_library_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="holds no certified task"):
        write_library_page(tmp_path, tmp_path / "p.html")
    with pytest.raises(ConfigError, match="no library at"):
        write_library_page(tmp_path / "x", tmp_path / "p.html")


# Commands.


def run(capsys, *args):
    code = main(["gen", *args, *(t for t in TARGETS if args[0] in t or args[0] in ("sample", "verify", "library"))])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_commands_hand_over_to_one_another(library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "verify", str(library.root), "seeds=1", "workers=1", "out=v")
    assert code == 0
    assert "2/2 proven, 2/2 demos replay" in out
    figures = json.loads(Path("v/metrics.json").read_text())["stages"]["verify"]
    assert (figures["n"], figures["ok"]) == (2, 2)
    code, out, _ = run(capsys, "explain", library.ids()[0][:6], f"library={library.root}", "out=e")
    assert code == 0
    assert out.rstrip().endswith("e/report.html")
    code, out, _ = run(capsys, "library", str(library.root), "out=p", "resamples=5")
    assert code == 0
    assert "2 tasks, 2 families" in out


def test_a_library_that_is_not_proven_exits_with_2_and_names_the_task(library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spoil_actions(next(iter(library)))
    code, out, _ = run(capsys, "verify", str(library.root), "depth=replay", "workers=1", "out=v")
    assert code == 2
    assert f"not proven: {library.root / library.ids()[0]}: G9 REPLAY_DIFFERS" in out
    assert "1/2 proven" in out


def test_tasks_of_the_users_library_are_known_by_their_first_digits(library, tmp_path, monkeypatch):
    from robostack.cli.stages import find_task
    from robostack.errors import SpecError

    monkeypatch.setenv("ROBOSTACK_DATA", str(tmp_path))
    (tmp_path / "tasks").symlink_to(library.root)
    for task_id in library.ids():
        assert find_task(task_id[:8]) == load_entry(library.root / task_id).spec
    with pytest.raises(SpecError, match="no task of the library"):
        find_task("ffffffff")
