"""What a verb says while it works: one line per stage on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stage:
    """One stage in progress; ``result`` is what its line will say."""

    name: str
    result: str = ""


@dataclass
class Console:
    """Prints ``[2/6] demos   300/300 verified  61 s``.

    Attributes:
        total: number of stages of this verb.
        quiet: only the last line is printed, which says where the result is.
        progress: whether progress bars are drawn, on standard error.
        seconds: duration of each finished stage [s].
    """

    total: int
    quiet: bool = False
    progress: bool = False
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time the block, then print its line; a block that raises prints none."""
        start = self.clock()
        stage = Stage(name)
        yield stage
        took_s = self.clock() - start
        self.seconds[name] = took_s
        number = f"[{len(self.seconds)}/{self.total}]"
        self.note(f"{number} {name:<9} {stage.result:<48} {format_seconds(took_s):>7}")

    def note(self, text: str) -> None:
        """A line that ``quiet`` suppresses."""
        if not self.quiet:
            print(text, flush=True)

    def final(self, text: str) -> None:
        """The line that remains under ``quiet``."""
        print(text, flush=True)


def make_console(settings: Mapping[str, Any], total: int) -> Console:
    """The console for ``quiet`` and ``progress``; ``auto`` draws bars when standard error is a terminal."""
    wanted = settings["progress"]
    progress = (sys.stderr.isatty() and not settings["quiet"]) if wanted == "auto" else bool(wanted)
    return Console(total, quiet=settings["quiet"], progress=progress)


def format_seconds(seconds: float) -> str:
    """``0.4 s``, ``61 s``, ``12 min 5 s``."""
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 600 else f"{whole // 60} min {whole % 60} s"
