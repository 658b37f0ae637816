import json
import re

import numpy as np
import pytest
import torch

from robostack.data.arrays import EpisodeArrays
from robostack.errors import ConfigError, DataError
from robostack.evaluation.bench.files import join_comparisons, read_comparison, write_comparison
from robostack.evaluation.bench.latency import Cost, Timed, measure
from robostack.evaluation.bench.page import write_bench_page
from robostack.evaluation.bench.plots import _covers, _offsets, write_overview
from robostack.evaluation.bench.result import BenchResult, Outcome, row
from robostack.evaluation.bench.suite import Cell
from robostack.runtime.protocols import Horizon
from robostack.types import ActionChunk, Features

FEATURES = Features(("s",), ("e",), ("a",), (), "ee_pose", 20.0, "toy")
COST = Cost(1.5, 2.5, 1000, 0.1, 0.002, 10.0)


class Linear(torch.nn.Module):
    """One matrix product per decision; keeps what it was shown."""

    features, horizon = FEATURES, Horizon(2, 4, 2)

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 8, bias=False)
        self.seen, self.resets = [], 0

    def reset(self, mask, seeds):
        self.resets += 1

    def evaluations(self):
        return np.array([3])

    def infer(self, obs, plan=None):
        self.seen.append((obs.t_s, obs.state[0, :, 0].tolist()))
        with torch.inference_mode():
            self.layer(torch.zeros(1, 4))
        return ActionChunk(obs.t_s, 0.05, np.zeros((1, 3, 1)))


def arrays(lengths):
    n = sum(lengths)
    column = np.arange(n, dtype=np.float32)[:, None]
    return EpisodeArrays(column, column, column, np.cumsum(lengths).astype(np.int64), FEATURES, "t", "go")


def test_decisions_walk_through_the_episodes_at_their_rate():
    policy = Linear()
    measure([Timed("a:b:c", policy, stride=2, plain=Linear())], arrays([6, 5]), decisions=4, threads=1)
    assert [state for _, state in policy.seen[:5]] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert [round(t, 3) for t, _ in policy.seen[:5]] == [0.05, 0.15, 0.25, 0.05, 0.15]
    assert policy.resets >= 3


def test_the_cost_counts_weights_and_arithmetic():
    cost = measure([Timed("a:b:c", Linear(), stride=1, plain=Linear())], arrays([9]), decisions=5, threads=1)["a:b:c"]
    assert cost.params == 32
    assert cost.gflops == pytest.approx(2 * 32 / 1e9)
    assert cost.evaluations == 3.0
    assert 0 < cost.p50_ms <= cost.p99_ms


def test_too_short_episodes_are_refused():
    with pytest.raises(DataError, match="no episode has the 2 steps"):
        measure([Timed("a:b:c", Linear(), stride=1, plain=Linear())], arrays([1, 1]), decisions=2, threads=1)


def outcome(successes, scores=None):
    return Outcome(successes, {"TIMEOUT": successes.count(False)}, 10, steps=80, evaluations=100.0, scores=scores)


def result_of(first, second, scores=(None, None)):
    cells = [Cell("p", "ddim10", "sync"), Cell("p", "rti", "rti", "p:ddim10:sync")]
    outcomes = {cells[0].key: outcome(first, scores[0]), cells[1].key: outcome(second, scores[1])}
    rows = tuple(row("push", cell, outcomes, COST, 0.05) for cell in cells)
    kept = {"push": {key: o.bits for key, o in outcomes.items()}}
    return BenchResult(
        robostack="0", suite="toy", machine="<b>two</b> cores", margin=0.05, threads=1, rows=rows, outcomes=kept
    )


def test_a_row_holds_rates_costs_and_the_comparison():
    reference, other = result_of([True] * 9 + [False], [True] * 8 + [False] * 2).rows
    assert (reference.k, reference.n, reference.comparison) == (9, 10, None)
    assert (other.per_decision, other.per_action) == (10.0, 1.25)
    assert other.comparison is not None
    assert other.comparison.difference == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ([True] * 300, [True] * 300, "not worse"),
        ([True] * 300, [False] * 300, "worse"),
        ([True] * 10, [True] * 9 + [False], "undecided"),
        ([True] + [False] * 199, [False] * 199 + [True], "no contrast"),
        ([True] + [False] * 199, [False] * 200, "no contrast"),
        ([True] + [False] * 199, [True] * 40 + [False] * 160, "better"),
        ([True] * 100 + [False] * 100, [True] * 120 + [False] * 80, "better"),
        ([True] * 150 + [False] * 150, [True] * 151 + [False] * 149, "not worse"),
        ([True] * 30 + [False] * 170, [True] * 30 + [False] * 170, "not worse"),
    ],
)
def test_the_verdict_follows_the_interval(first, second, word):
    reference, other = result_of(first, second).rows
    assert (reference.verdict, other.verdict) == ("reference", word)


def test_what_shows_nothing_is_not_counted_as_not_worse(tmp_path):
    failing = [True] + [False] * 199
    for first, second, held in ((failing, failing, 0), ([True] * 200, [True] * 200, 1), (failing, [True] * 200, 1)):
        write_comparison(tmp_path, result_of(first, second))
        assert f"<dd>{held}<small>/1</small>" in (tmp_path / "report.html").read_text()


def test_the_page_is_self_contained_and_escapes_what_it_shows(tmp_path):
    write_bench_page(tmp_path / "report.html", result_of([True] * 40, [True] * 39 + [False]))
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;two" in page
    assert "p:rti:rti" in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page)


def test_the_page_of_several_tasks_begins_with_all_of_them(tmp_path):
    one = result_of([True], [True])
    rows = (*one.rows, *(r.model_copy(update={"task": "pick"}) for r in one.rows))
    two = one.model_copy(update={"rows": rows, "outcomes": one.outcomes | {"pick": one.outcomes["push"]}})
    for result, shown in ((one, False), (two, True)):
        write_bench_page(tmp_path / "report.html", result)
        assert ("All tasks" in (tmp_path / "report.html").read_text()) == shown


def test_scores_are_compared_where_the_environment_has_them():
    second = [0.51, 0.69, 0.71, 0.88]
    reference, other = result_of([True] * 4, [False] * 4, ([0.5, 0.7, 0.7, 0.9], second)).rows
    assert (reference.score, other.score) == (pytest.approx(0.7), pytest.approx(sum(second) / 4))
    assert other.comparison is not None
    assert other.comparison.score is not None
    assert (other.verdict, other.comparison.score.verdict) == ("worse", "not worse")


@pytest.mark.parametrize("scores", [(None, None), ([0.5], [0.5])])
def test_scores_of_fewer_than_two_episodes_are_not_compared(scores):
    comparison = result_of([True], [True], scores).rows[1].comparison
    assert comparison is not None
    assert comparison.score is None


def test_the_page_shows_scores_where_the_environment_has_them(tmp_path):
    for scores, shown in (((None, None), False), (([0.8, 0.7], [0.9, 0.6]), True)):
        write_bench_page(tmp_path / "report.html", result_of([True] * 2, [True] * 2, scores))
        assert ("<th>Score</th>" in (tmp_path / "report.html").read_text()) == shown


def test_numbers_stand_apart_where_all_points_are_at_the_top():
    row = result_of([True] * 40, [True] * 40).rows[0]
    times = [5.0, 5.1, 5.2, 5.2, 8.0, 8.5, 8.5, 9.0, 26.0, 27.0, 27.0, 100.0]
    rows = [row.model_copy(update={"cell": f"p:{i}:sync", "p50_ms": t, "k": 40}) for i, t in enumerate(times)]
    offsets = _offsets(rows)
    alone = offsets["p:11:sync"]
    assert alone == (0, -10)
    same = [offsets[f"p:{i}:sync"] for i in (2, 3)]
    assert not _covers(*same)
    assert len({offsets[r.cell] for r in rows[:4]}) == 4


def test_the_picture_has_a_line_per_cell_and_equal_results_give_equal_bytes(tmp_path):
    rows = result_of([True] * 40, [True] * 39 + [False]).rows
    write_overview(tmp_path / "a.png", rows)
    write_overview(tmp_path / "b.png", rows)
    write_overview(tmp_path / "taller.png", [*rows, rows[1].model_copy(update={"cell": "q:rti:rti"})])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    height, taller = (int.from_bytes((tmp_path / name).read_bytes()[20:24]) for name in ("a.png", "taller.png"))
    assert height < taller


def renamed(result, task, **changes):
    """The same comparison of another task."""
    rows = tuple(r.model_copy(update={"task": task}) for r in result.rows)
    return result.model_copy(update={"rows": rows, "outcomes": {task: result.outcomes["push"]}, **changes})


def test_the_record_survives_a_round_trip(tmp_path):
    result = result_of([True, False], [False, True], ([0.1, 0.2], [0.3, 0.5]))
    write_comparison(tmp_path, result)
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.png", "report.html"}
    assert read_comparison(tmp_path) == read_comparison(tmp_path / "bench.json") == result
    assert result.outcomes["push"] == {"p:ddim10:sync": "10", "p:rti:rti": "01"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", r"not a bench.json \(file: Invalid JSON"),
        ("{}", r"not a bench.json \(robostack: "),
    ],
)
def test_what_is_no_record_is_refused(text, message, tmp_path):
    path = tmp_path / "bench.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_comparison(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(rows=[]), "at least 1 item"),
        (lambda record: record["rows"].pop(), "rows and outcomes are not of the same cells"),
        (lambda record: record["outcomes"]["push"].update({"p:rti:rti": "12"}), "should match pattern"),
        (lambda record: record["rows"][1]["comparison"].pop("sensitive"), "sensitive"),
        (lambda record: record["rows"][1]["comparison"].update(against="q"), "p:rti:rti is held against q, which has"),
        (lambda record: record["rows"][0].update(p50_ms=None), "p50_ms"),
    ],
)
def test_a_damaged_record_is_refused(change, message, tmp_path):
    record = json.loads(result_of([True], [True]).model_dump_json(exclude_none=True))
    change(record)
    (tmp_path / "bench.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=message):
        read_comparison(tmp_path)


def test_joined_comparisons_have_the_rows_of_all(tmp_path):
    one = result_of([True] * 9 + [False], [True] * 10)
    other = renamed(result_of([True] * 10, [False] * 10), "pick", machine="four cores")
    joined = join_comparisons([one, other])
    assert joined.rows == one.rows + other.rows
    assert joined.outcomes == one.outcomes | other.outcomes
    assert joined.machine == "<b>two</b> cores; four cores"
    assert join_comparisons([one]) == one
    write_comparison(tmp_path, joined)
    assert "All tasks" in (tmp_path / "report.html").read_text()


def test_a_cell_that_a_task_lacks_leaves_its_place_in_the_picture_empty(tmp_path):
    one = result_of([True], [True])
    fewer = renamed(one, "pick")
    kept = {"pick": {"p:ddim10:sync": "1"}}
    joined = join_comparisons([one, fewer.model_copy(update={"rows": fewer.rows[:1], "outcomes": kept})])
    write_comparison(tmp_path, joined)
    assert (tmp_path / "bench.png").stat().st_size > 0


def test_comparisons_that_do_not_fit_are_refused():
    one = result_of([True], [True])
    with pytest.raises(ConfigError, match="nothing to join"):
        join_comparisons([])
    with pytest.raises(ConfigError, match="task 'push' is in two"):
        join_comparisons([one, one])
    with pytest.raises(ConfigError, match="differ in margin cannot be joined: 0.05, 0.1"):
        join_comparisons([one, renamed(one, "pick", margin=0.1)])
    with pytest.raises(ConfigError, match="differ in episodes cannot be joined: 1, 2"):
        join_comparisons([one, renamed(result_of([True] * 2, [True] * 2), "pick")])
