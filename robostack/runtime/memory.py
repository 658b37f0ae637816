"""Peak memory of a job with all its worker processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_PERIOD_S = 0.5


class MemoryWatch:
    """Samples the resident size of this process and its descendants; a context manager.

    Pages that processes share count once for each, so the peak is an upper bound. Linux only: elsewhere it stays None.
    """

    def __init__(self):
        self.peak_gib: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            size = resident_bytes(os.getpid()) / 2**30
            if size > 0:
                self.peak_gib = max(size, self.peak_gib or 0.0)
            if self._stop.wait(_PERIOD_S):
                return


def resident_bytes(pid: int) -> int:
    """Resident size of a process and its descendants [bytes]; 0 when it is gone or /proc is not there."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident_bytes(int(child)) for child in children)
