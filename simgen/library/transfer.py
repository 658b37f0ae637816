"""The demonstrations of a library in another physics engine: how much of each family survives the change.

Actions are replayed open loop, by the same controller, under the same predicates: whatever fails, fails for the
physics. The outcome of each task is a file of its own, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from tqdm import tqdm

from robostack.data.atomic import one_line, read_json, remove_leftovers, storage_errors, write_atomic, write_json
from robostack.errors import ConfigError, DataError, RobostackError
from robostack.evaluation.html import Html, join, table, tag
from robostack.evaluation.page import absent, document, plot, section, small, tile
from robostack.evaluation.plots import Proportion, success_intervals
from robostack.evaluation.stats import wilson
from robostack.sim.engines import ENGINES
from robostack.task.spec import Frozen
from simgen.library.entry import load_entry
from simgen.library.jobs import completed
from simgen.library.verify import find_tasks
from simgen.transfer import transfer

NOTE = "transfer"


class TaskTransfer(Frozen):
    """Outcome for one task, and what ``transfer.json`` holds.

    Attributes:
        codes: seed -> failure code in the other engine, empty where the goal was held at the end.
        error: why nothing could be replayed; empty when something was.
    """

    task: str
    engine: str
    family: str = ""
    robot: str = ""
    text: str = ""
    codes: dict[str, str] = {}
    error: str = ""

    @property
    def n(self) -> int:
        """Demonstrations replayed."""
        return len(self.codes)

    @property
    def k(self) -> int:
        """Those that still reach the goal."""
        return sum(not code for code in self.codes.values())


@dataclass(frozen=True)
class TransferReport:
    """Outcome for a library.

    Attributes:
        tasks, whole: tasks with demonstrations, and those of them of which every one transfers.
        k, n: demonstrations that reach the goal in ``engine``, of all.
        rate: k / n with Wilson's 95 % interval; not a number without demonstrations.
        unreadable: tasks whose folder cannot be read, or that hold no demonstration.
    """

    engine: str
    tasks: int
    whole: int
    k: int
    n: int
    rate: float
    ci_low: float
    ci_high: float
    unreadable: int
    wall_s: float
    outcomes: tuple[TaskTransfer, ...]

    def groups(self, by: str) -> list[tuple[str, int, int, Counter[str]]]:
        """Per ``family`` or ``robot``: name, k, n and failure codes, sorted by name."""
        found: dict[str, list[TaskTransfer]] = {}
        for outcome in self.outcomes:
            if outcome.n:
                found.setdefault(str(getattr(outcome, by)), []).append(outcome)
        return [
            (
                name,
                sum(o.k for o in group),
                sum(o.n for o in group),
                Counter(code for o in group for code in o.codes.values() if code),
            )
            for name, group in sorted(found.items())
        ]

    def text(self) -> str:
        """The tables for a terminal."""
        blocks = []
        for by in ("family", "robot"):
            rows = [f"{by:16} {'k/n':>9}   {'95 % interval':15} refused for"]
            for name, k, n, codes in self.groups(by):
                low, high = wilson(k, n)
                why = ", ".join(f"{code} {count}" for code, count in codes.most_common(3))
                rows.append(f"{name:16} {f'{k}/{n}':>9}   {low:.2f} to {high:.2f}    {why}".rstrip())
            blocks.append("\n".join(rows))
        return "\n\n".join(blocks)


def transfer_library(
    folder: Path | str,
    out_dir: Path | str,
    *,
    engine: str = "pybullet",
    record: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> TransferReport:
    """Replay all demonstrations of the tasks below ``folder`` in ``engine``; outcomes in ``out_dir`` are kept.

    Args:
        folder: a library, a folder with task folders, or one task.
        out_dir: where the outcomes are, one file per task.
        engine: another physics engine.
        record: whether ``transfer.json`` is also written into each task's folder.
        workers: processes.
        progress: whether to show a progress bar.

    Raises:
        UnknownName: no such engine.
        ConfigError: no such folder, no task in it, or none with demonstrations.
        StorageError: a folder that cannot be written.
    """
    start, out_dir, tasks = time.monotonic(), Path(out_dir), find_tasks(folder)
    ENGINES[engine]
    with storage_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir)
    places = {path: out_dir / f"{path.name}.json" for path in tasks}
    todo = [path for path in tasks if not places[path].is_file()]
    with tqdm(total=len(tasks), initial=len(tasks) - len(todo), desc="transfer", disable=not progress) as bar:
        for _ in completed(_transfer, todo, workers, _start, (out_dir, engine)):
            bar.update(1)
    outcomes = tuple(_load(place) for place in places.values())
    if not any(outcome.n for outcome in outcomes):
        raise ConfigError(f"{folder} holds no demonstration ({outcomes[0].error}): pass a folder of certified tasks")
    if record:
        for path, outcome in zip(tasks, outcomes, strict=True):
            if outcome.n:
                write_json(path / f"{NOTE}.json", outcome.model_dump(mode="json"))
    return _report(engine, outcomes, time.monotonic() - start)


def _report(engine: str, outcomes: Sequence[TaskTransfer], wall_s: float) -> TransferReport:
    tried = [outcome for outcome in outcomes if outcome.n]
    k, n = sum(outcome.k for outcome in tried), sum(outcome.n for outcome in tried)
    low, high = wilson(k, n)
    whole = sum(outcome.k == outcome.n for outcome in tried)
    missing = len(outcomes) - len(tried)
    return TransferReport(engine, len(tried), whole, k, n, k / n, low, high, missing, wall_s, tuple(outcomes))


def _load(path: Path) -> TaskTransfer:
    fix = "delete it and run the same command again"
    try:
        return TaskTransfer.model_validate(read_json(path, fix), strict=False)
    except ValidationError as error:
        raise DataError(f"{path} is damaged: {fix}") from error


# Worker.

_worker: tuple[Path, str] | None = None


def _start(out_dir: Path, engine: str) -> None:
    global _worker
    _worker = out_dir, engine


def _transfer(path: Path) -> None:
    assert _worker is not None
    out_dir, engine = _worker
    write_json(out_dir / f"{path.name}.json", replay_elsewhere(path, engine).model_dump(mode="json"))


def replay_elsewhere(path: Path, engine: str) -> TaskTransfer:
    """One task's demonstrations in another engine; what is wrong with its folder is part of the outcome."""
    try:
        entry = load_entry(path)
        demos = entry.demos
        if not demos:
            return TaskTransfer(task=entry.id, engine=engine, error="it has no demonstration")
        found = transfer(entry.spec, demos, engine=engine)
    except RobostackError as error:
        return TaskTransfer(task=path.name, engine=engine, error=one_line(error))
    return TaskTransfer(
        task=found.task,
        engine=engine,
        family=found.family,
        robot=found.robot,
        text=entry.spec.instruction.text,
        codes={str(seed): code for seed, code in sorted(found.codes.items())},
    )


# Page.


def write_transfer_page(folder: Path | str, page: Path | str, report: TransferReport) -> str:
    """Write the page of a transfer; returns the tables for the terminal."""
    title = f"{report.k} of {report.n} demonstrations still work in {report.engine}"
    head = tag("header", tag("p", tag("b", "robostack"), f" transfer · {folder}", class_="kicker"), tag("h1", title))
    parts = [head, _tiles(report)]
    for by in ("family", "robot"):
        groups = report.groups(by)
        rows = [Proportion(name, k, n) for name, k, n, _ in groups]
        parts.append(
            section(
                f"Per {by}", plot("Demonstrations that transfer", success_intervals(rows, many=True)), _groups(groups)
            )
        )
    parts.append(section("Every task", _tasks(report)))
    write_atomic(Path(page), document("transfer", parts, wide=True).encode())
    return report.text()


def _tiles(report: TransferReport) -> Html:
    interval = f"95 % CI {report.ci_low:.2f}–{report.ci_high:.2f}"
    return tag(
        "dl",
        tile("Transfer", [f"{report.rate:.0%}"], interval, first=True),
        tile("Demonstrations", [f"{report.k}", small(f"/{report.n}")], f"open loop in {report.engine}"),
        tile("Tasks", [f"{report.whole}", small(f"/{report.tasks}")], "with every demonstration"),
        tile("Not replayed", [f"{report.unreadable}"], "tasks without a readable demonstration"),
        tile("Wall time", [f"{report.wall_s / 60:.1f}", small(" min")], "of the last command"),
        class_="tiles",
    )


def _groups(groups: Sequence[tuple[str, int, int, Counter[str]]]) -> Html:
    rows = (
        (
            name,
            f"{k}/{n}",
            "{:.2f} to {:.2f}".format(*wilson(k, n)),
            join([join([tag("code", code), f" {count}"]) for code, count in codes.most_common()], ", "),
        )
        for name, k, n, codes in groups
    )
    return table(("", "Transfer", "95 % interval", "Failures"), rows)


def _tasks(report: TransferReport) -> Html:
    if not report.outcomes:
        return absent("There is no task.")
    rows = (
        (
            tag("code", outcome.task[:16]),
            outcome.text,
            outcome.robot,
            f"{outcome.k}/{outcome.n}",
            outcome.error or ", ".join(f"{seed}: {code}" for seed, code in outcome.codes.items() if code),
        )
        for outcome in report.outcomes
    )
    return table(("Task", "Text", "Robot", "Transfer", "Failures by seed"), rows)
