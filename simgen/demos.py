"""Demonstrations in parallel: every episode is solved by the expert, replayed bit-exactly, then stored.

The log is crash-consistent (``robostack.data.raw``): each worker writes finished episodes itself, so a kill at any time
loses at most the episodes in flight, and the same command goes on where it stopped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from robostack.data.atomic import read_json, write_json
from robostack.data.raw import RawStore, StoreInfo
from robostack.errors import ConfigError, ExpertError, SceneError
from robostack.runtime.pool import worker_pool
from robostack.sim.env import TaskEnv
from robostack.sim.observe import features
from robostack.sim.pusht import PushTEnv, pusht_versions
from robostack.sim.replay import replays_exactly
from robostack.sim.scene import Scene, train_seed, versions
from robostack.task.benchmark import PushTTask, Task, task_from_json
from robostack.task.spec import TaskSpec
from robostack.types import Episode
from simgen.experts.expert import Expert
from simgen.experts.pusht import PushTExpert

_SEEDS_PER_RUN = 1_000_000  # distance between the scenes of two values of ``seed``
_GIVE_UP_AFTER, _MIN_SUCCESS = 24, 0.25
_SUMMARY = "collected.json"


@dataclass(frozen=True)
class DemoReport:
    """Outcome of a collection.

    Attributes:
        n: verified demonstrations.
        attempts: seeds tried for them, in order and without gaps.
        expert_success_rate: share of the attempts that the expert solved and that replayed exactly.
        replayed_exact: demonstrations that replayed to the last bit; all of them, or they would not be here.
        per_minute: verified demonstrations per minute of wall time.
        wall_s: time spent collecting, over all sessions [s].
        failures: code -> attempts that failed so.
        seeds: scene seeds of the demonstrations; the store may hold more.
    """

    n: int
    attempts: int
    expert_success_rate: float
    replayed_exact: int
    per_minute: float
    wall_s: float
    store_dir: Path
    failures: dict[str, int]
    seeds: tuple[int, ...]


class TooFewSolved(ExpertError):
    """The expert solves so few seeds that collecting was given up.

    Attributes:
        attempts: seeds tried, in order and without gaps.
        seeds: scene seeds of those that were solved; their demonstrations are in the store.
        failures: code -> attempts that failed so.
    """

    def __init__(self, spec: Task, attempts: int, seeds: tuple[int, ...], failures: dict[str, int], example: str):
        self.attempts, self.seeds, self.failures = attempts, seeds, failures
        code = next(iter(failures))
        super().__init__(
            f"the expert solved {len(seeds)} of {attempts} seeds of '{spec.name}' on {spec.robot.name};"
            f" {failures[code]} failed with {code} ({example[:160]}): simplify the sentence or choose another robot"
        )


def collect(
    spec: Task,
    out_dir: Path | str,
    *,
    n: int,
    seed: int,
    workers: int,
    progress: bool,
    methods: Sequence[str] | None = None,
    folder: Path | None = None,
) -> DemoReport:
    """Record the first ``n`` seeds that the expert solves; the result does not depend on ``workers``.

    Args:
        spec: the task.
        out_dir: where the store is.
        n: demonstrations.
        seed: picks the scenes.
        workers: processes.
        progress: whether to show a progress bar.
        methods: that the expert may use, see ``Expert``.
        folder: of the task, with what its methods need.

    Raises:
        ConfigError: n or workers below 1.
        TooFewSolved: the expert solves less than a quarter of the seeds.
        DataError: ``out_dir`` holds demonstrations of another task.
    """
    if n < 1 or workers < 1:
        raise ConfigError(f"demos need n >= 1 and workers >= 1, not n={n}, workers={workers}")
    store, start, spent = RawStore(out_dir, _store_info(spec)), time.monotonic(), _spent(Path(out_dir))
    done = {**dict.fromkeys(store.seeds(), True), **dict.fromkeys(store.failures(), False)}
    try:
        with tqdm(total=n, desc="demos", unit="demo", disable=not progress) as bar:
            start_args = (spec.to_json(), store.directory, methods, folder)
            first = seed * _SEEDS_PER_RUN
            attempts = _attempt(spec, store, done, start_args, n=n, first=first, workers=workers, bar=bar)
    finally:
        write_json(Path(out_dir) / _SUMMARY, {"wall_s": spent + time.monotonic() - start})
    failures = _failures(store, attempts)
    wall_s = max(1e-9, spent + time.monotonic() - start)
    seeds = tuple(sorted(s for s in attempts if done[s]))
    return DemoReport(n, len(attempts), n / len(attempts), n, 60 * n / wall_s, wall_s, Path(out_dir), failures, seeds)


def _store_info(spec: Task) -> StoreInfo:
    if isinstance(spec, PushTTask):
        return StoreInfo(spec.id, PushTEnv(spec).features, spec.instruction.text, pusht_versions())
    return StoreInfo(spec.id, features(Scene(spec)), spec.instruction.text, versions())


def _spent(out_dir: Path) -> float:
    path = out_dir / _SUMMARY
    return float(read_json(path, f"delete {path}")["wall_s"]) if path.is_file() else 0.0


def _attempt(
    spec: Task, store: RawStore, done: dict[int, bool], start_args: tuple, *, n: int, first: int, workers: int, bar
) -> set[int]:
    """Try seeds in order until ``n`` of a gap-free prefix succeeded; returns that prefix."""
    order = _seeds(first)
    prefix: list[int] = []
    successes = 0  # in the prefix
    with worker_pool(workers, _start_worker, start_args) as pool:
        running: dict[Future, int] = {}
        queued: list[int] = []
        while True:
            while len(prefix) < len(queued) and queued[len(prefix)] in done:
                ok = done[queued[len(prefix)]]
                prefix.append(queued[len(prefix)])
                successes += ok
                bar.update(int(ok))
                if successes == n:
                    return set(prefix)
                if len(prefix) >= _GIVE_UP_AFTER and successes < _MIN_SUCCESS * len(prefix):
                    raise _too_few(spec, store, prefix, done)
            # Never more in flight than can still be needed: no seed is solved in vain.
            while len(running) < 2 * workers and successes + _open(queued, prefix, done) < n:
                seed = next(order)
                queued.append(seed)
                if seed not in done:
                    running[pool.submit(_solve, seed)] = seed
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done[running.pop(future)] = future.result()


def _open(queued: list[int], prefix: list[int], done: dict[int, bool]) -> int:
    """Seeds beyond the prefix that have succeeded or may still do so."""
    return sum(done.get(seed, True) for seed in queued[len(prefix) :])


def _seeds(first: int) -> Iterator[int]:
    index = first
    while True:
        yield train_seed(index)
        index += 1


def _failures(store: RawStore, seeds: Collection[int]) -> dict[str, int]:
    """Code -> how many of the seeds failed so, most frequent first."""
    return dict(Counter(failure.code for s, failure in store.failures().items() if s in seeds).most_common())


def _too_few(spec: Task, store: RawStore, tried: Sequence[int], done: dict[int, bool]) -> TooFewSolved:
    failures = _failures(store, tried)
    example = next(f.message for s, f in store.failures().items() if s in tried and f.code == next(iter(failures)))
    return TooFewSolved(spec, len(tried), tuple(sorted(s for s in tried if done[s])), failures, example)


# Worker.

_worker: tuple[Expert | PushTExpert, RawStore] | None = None


def _start_worker(spec_json: str, directory: Path, methods: Sequence[str] | None, folder: Path | None) -> None:
    global _worker
    spec = task_from_json(spec_json)
    if isinstance(spec, PushTTask):
        _worker = PushTExpert(PushTEnv(spec)), RawStore(directory)
    else:
        _worker = Expert(TaskEnv(spec), methods=methods, folder=folder), RawStore(directory)


def _solve(seed: int) -> bool:
    """Solve, replay and store one seed; returns whether it gave a demonstration."""
    assert _worker is not None
    expert, store = _worker
    try:
        episode, code = expert.solve(seed)
    except SceneError as error:
        store.save_failure(seed, error.code, str(error))
        return False
    if code:
        store.save_failure(seed, code, "; ".join(expert.log) or code)
        return False
    if not _replays(expert.env, episode):
        store.save_failure(seed, "REPLAY_DIFFERS", "the stored controls lead to another final state")
        return False
    store.save(episode)
    return True


def _replays(env: TaskEnv | PushTEnv, episode: Episode) -> bool:
    return env.replays(episode) if isinstance(env, PushTEnv) else replays_exactly(env.scene, episode)


def replay_all(spec: TaskSpec, store: RawStore, seeds: Iterable[int]) -> int:
    """How many stored episodes replay to the last bit."""
    scene = Scene(spec)
    return sum(replays_exactly(scene, store.load(seed)) for seed in seeds)
