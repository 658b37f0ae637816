"""Worker processes for jobs that are many, independent and long; one worker means this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from robostack.errors import RobostackError


class _InProcess(Executor):
    """Runs at once, here: saves a start-up, and is what a debugger wants."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def worker_pool(workers: int, start: Callable[..., None], args: tuple) -> Iterator[Executor]:
    """An executor whose workers have run ``start(*args)``; an error in the block cancels what is still queued.

    Processes are spawned, since forked MuJoCo and OpenMP threads are undefined; Ctrl-C is left to the parent, and they
    end with it however it ends.

    Raises:
        RobostackError: a worker process died.
    """
    if workers == 1:
        start(*args)
        yield _InProcess()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(start, args)) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise RobostackError(
                "a worker process died: run the same command again, finished episodes are kept"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(start: Callable[..., None], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    start(*args)


def _die_with_parent() -> None:
    """A worker whose parent was killed would wait for its next job for ever, and keep its memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are started by worker_pool only"
    parent.join()
    os._exit(1)
