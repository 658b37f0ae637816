"""``robostack bench join``: from the files of two machines to one page."""

import json

from robostack.cli import main

ROW = {
    "cell": "p:ddim10:sync", "n": 4, "k": 3, "low": 0.3, "high": 0.95, "p50_ms": 2.0, "p99_ms": 3.0, "params": 10,
    "weights_mib": 0.1, "gflops": 0.1, "failures": {"DROPPED": 1},
}  # fmt: skip


def record(folder, task):
    """The file of a comparison of one cell."""
    content = {
        "robostack": "0", "suite": "toy", "machine": f"machine of {task}", "margin": 0.05, "threads": 1,
        "rows": [{"task": task, **ROW}], "outcomes": {task: {ROW["cell"]: "1101"}},
    }  # fmt: skip
    path = folder / f"{task}.json"
    path.write_text(json.dumps(content))
    return path


def test_two_records_become_one_page_and_the_command_can_be_repeated(tmp_path, capsys):
    given = f"results=[{record(tmp_path, 'push')},{record(tmp_path, 'pick')}]"
    for _ in range(2):
        assert main(["bench", "join", given, f"out={tmp_path / 'both'}"]) == 0
        assert str(tmp_path / "both" / "report.html") in capsys.readouterr().out
    page = (tmp_path / "both" / "report.html").read_text()
    assert "machine of push; machine of pick" in page
    assert set(json.loads((tmp_path / "both" / "bench.json").read_text())["outcomes"]) == {"push", "pick"}


def test_what_cannot_be_joined_is_one_line_and_leaves_nothing(tmp_path, capsys):
    push = record(tmp_path, "push")
    for given, message in (
        ("[]", "nothing to join"),
        (f"[{push},{push}]", "task 'push' is in two of the comparisons"),
        (f"[{push},{tmp_path / 'none.json'}]", "none.json: No such file"),
    ):
        assert main(["bench", "join", f"results={given}", f"out={tmp_path / 'both'}"]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "both").exists()
