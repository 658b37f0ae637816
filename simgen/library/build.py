"""Fill a library: sample tasks, prove each in a worker process, then let in what is new, in the order of sampling.

Every worker publishes what it finished itself, so a kill loses at most the tasks in flight, and the same command goes
on where it stopped. Novelty is decided in the order of sampling, whoever finishes first: the library that comes out
does not depend on the number of workers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from robostack.errors import ConfigError
from robostack.task.spec import TaskSpec
from simgen.gates.certify import Verdict
from simgen.library.behaviour import observe_behaviour
from simgen.library.dedup import Known, known, known_entries, novelty_record
from simgen.library.entry import Entry
from simgen.library.jobs import completed, locate
from simgen.library.store import Library, certified_files, task_files


@dataclass(frozen=True)
class Parts:
    """Where the working parts are: dotted names, since worker processes import them themselves."""

    sampler: str = "simgen.sample.sample"
    certifier: str = "simgen.gates.certify.certify"
    signer: str = "simgen.library.signature.signature"


@dataclass(frozen=True)
class BuildReport:
    """Outcome of a sampling run.

    Attributes:
        n: tasks sampled.
        certified: of them, those that passed all gates and are in the library.
        rate: certified / n.
        cpu_s: processor time of all gates of these tasks [s].
        per_core_minute: certified tasks per minute of one core.
        families, robots: how many kinds are among the certified.
        ids: of the sampled tasks, in order.
        codes: code of the gate that refused -> tasks.
    """

    n: int
    certified: int
    rate: float
    cpu_s: float
    per_core_minute: float
    families: int
    robots: int
    wall_s: float
    ids: tuple[str, ...]
    codes: dict[str, int]


def build_library(
    root: Path | str,
    *,
    n: int,
    seed: int,
    robots: Sequence[str],
    families: Sequence[str] = (),
    seeds: int = 16,
    demos: int = 4,
    workers: int = 1,
    against: Path | str | None = None,
    progress: bool = False,
    **parts: str,
) -> BuildReport:
    """Sample ``n`` tasks and prove each; what ``root`` already holds of them is kept.

    Args:
        root: folder of the library.
        n: tasks to sample; ``seed`` picks which.
        seed: of the sampler.
        robots: names of robot cards to sample for.
        families: task families; empty for all.
        seeds: scenes on which the expert has to solve a task.
        demos: demonstrations to keep per task.
        workers: processes.
        against: another library in which a task must not be yet.
        progress: whether to show a progress bar.
        parts: dotted names of the working parts, see ``Parts``.

    Raises:
        ConfigError: n, seeds or workers below 1.
        UnknownName: no such robot or family.
    """
    if min(n, seeds, demos, workers) < 1:
        raise ConfigError(f"n={n}, seeds={seeds}, demos={demos} and workers={workers} must all be at least 1")
    start, names, library = time.monotonic(), Parts(**parts), Library(root)
    specs = tuple(locate(names.sampler)(n, seed, robots=tuple(robots), families=tuple(families) or None))
    signer = locate(names.signer)
    others = known_entries(Library(against), signer=signer) if against is not None else []
    _refuse_known(library, specs, others, signer)
    todo = [spec for spec in specs if library.status(spec.id) is None]
    queue = _Novelty(library, specs, others, signer)
    queue.advance()
    jobs, start_args = [spec.to_json() for spec in todo], (library.root, names.certifier, seeds, demos)
    with tqdm(total=n, initial=n - len(todo), desc="tasks", unit="task", disable=not progress) as bar:
        for _ in completed(_prove, jobs, workers, _start, start_args):
            bar.update(1)
            queue.advance()
    return _report(library, specs, time.monotonic() - start)


def _refuse_known(library: Library, specs: Sequence[TaskSpec], others: Sequence[Known], signer: Callable) -> None:
    """Do not prove what another library has already: its content or its meaning says so before any simulation."""
    ids, signatures = {other.id for other in others}, {other.signature for other in others}
    for spec in specs if others else ():
        facts = known(spec, signer=signer)
        if library.status(spec.id) is None and (facts.id in ids or facts.signature in signatures):
            library.publish(spec, task_files(spec, [novelty_record(facts, others)]), "failed")


class _Novelty:
    """Decides pending tasks in the order of sampling."""

    def __init__(self, library: Library, specs: Sequence[TaskSpec], others: Sequence[Known], signer: Callable):
        self._library, self._specs, self._known, self._signer = library, specs, list(others), signer
        self._next = 0

    def advance(self) -> None:
        """Decide as far as the tasks are proven without a gap."""
        library = self._library
        while self._next < len(self._specs):
            task_id = self._specs[self._next].id
            status = library.status(task_id)
            if status is None:
                return
            if status == "pending":
                entry = library.load(task_id, "pending")
                library.settle(entry, novelty_record(self._facts(entry), self._known))
            if library.status(task_id) == "library":
                self._known.append(self._facts(library.load(task_id)))
            self._next += 1
        library.tidy()

    def _facts(self, entry: Entry) -> Known:
        return known_entries([entry], signer=self._signer)[0]


def _report(library: Library, specs: Sequence[TaskSpec], wall_s: float) -> BuildReport:
    entries = [_settled(library, spec.id) for spec in specs]
    good = [entry for entry in entries if entry.status == "library"]
    cpu_s = sum(record.cost_s for entry in entries for record in entry.records)
    return BuildReport(
        n=len(specs),
        certified=len(good),
        rate=len(good) / len(specs),
        cpu_s=cpu_s,
        per_core_minute=60 * len(good) / max(cpu_s, 1e-9),
        families=len({entry.spec.family for entry in good}),
        robots=len({entry.spec.robot.name for entry in good}),
        wall_s=wall_s,
        ids=tuple(spec.id for spec in specs),
        codes=dict(Counter(entry.failed.code for entry in entries if entry.failed is not None).most_common()),
    )


def _settled(library: Library, task_id: str) -> Entry:
    status = library.status(task_id)
    assert status in ("library", "failed"), (task_id, status)
    return library.load(task_id, status)


# Worker.

_worker: tuple[Library, Callable, int, int] | None = None


def _start(root: Path, certifier: str, seeds: int, demos: int) -> None:
    global _worker
    _worker = Library(root), locate(certifier), seeds, demos


def _prove(spec_json: str) -> None:
    """Certify one task and publish the outcome."""
    assert _worker is not None
    library, certify, seeds, demos = _worker
    spec = TaskSpec.from_json(spec_json)
    publish(library, certify(spec, seeds=seeds, demos=demos))


def publish(library: Library, verdict: Verdict) -> None:
    """Put what the gates left behind among the pending tasks, or among the failed."""
    spec = verdict.spec
    if not verdict.certified:
        library.publish(spec, task_files(spec, verdict.records), "failed")
        return
    assert verdict.certificate is not None
    files = certified_files(
        spec,
        verdict.records,
        verdict.certificate,
        demos=verdict.demos,
        keyframes=verdict.keyframes,
        witness_png=verdict.witness_png,
        rl=verdict.rl,
        notes={"behaviour": observe_behaviour(spec, verdict.demos).to_dict()},
    )
    library.publish(spec, files, "pending")
