"""Many independent jobs in a pool, with a bounded number in flight."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any


def completed(pool: Executor, job: Callable[..., Any], items: Iterable[Any], in_flight: int) -> Iterator[Any]:
    """Results of ``job(item)`` as they finish, at most ``in_flight`` of them under way; an error of a job is raised."""
    running: set[Future] = set()
    for item in items:
        running.add(pool.submit(job, item))
        if len(running) >= in_flight:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


def locate(path: str) -> Any:
    """The object behind a dotted name; worker processes import their parts themselves."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
