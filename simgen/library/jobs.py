"""Many independent jobs in a pool, with a bounded number in flight."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from robostack.runtime.pool import worker_pool


def completed(
    job: Callable[..., Any], items: Sequence[Any], workers: int, start: Callable[..., None], args: tuple
) -> Iterator[Any]:
    """Results of ``job(item)`` as they finish, in workers that have run ``start(*args)``; an error of a job is raised.

    At most two jobs per worker are under way. Without items nothing is started.
    """
    if not items:
        return
    workers = min(workers, len(items))
    with worker_pool(workers, start, args) as pool:
        running: set[Future] = set()
        for item in items:
            running.add(pool.submit(job, item))
            if len(running) >= 2 * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def locate(path: str) -> Any:
    """The object behind a dotted name; worker processes import their parts themselves."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
