"""The output folder of one command: made, resumed or refused; and what lies in it.

A folder is the property of one configuration. The same configuration goes on with it; another one is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from robostack.cli.settings import flatten
from robostack.data.atomic import write_atomic
from robostack.errors import ConfigError

OUTPUTS = Path("outputs")

PRESENTATION = ("out", "fresh", "quiet", "progress", "workers", "demos.workers", "eval.workers", "logger.name")
"""Settings that do not change the result: a command may be resumed with other values of these."""


@dataclass(frozen=True)
class RunPaths:
    """Where everything of one command lies."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Written last: its presence says that the command finished."""
        return self.root / "metrics.json"

    @property
    def task(self) -> Path:
        """The TaskSpec."""
        return self.root / "task.json"

    @property
    def demos(self) -> Path:
        """The episode store."""
        return self.root / "demos"

    @property
    def dataset(self) -> Path:
        """The LeRobot dataset."""
        return self.root / "dataset"

    @property
    def policy(self) -> Path:
        """Training: checkpoint and ``train.json``."""
        return self.root / "policy"

    @property
    def eval(self) -> Path:
        """Evaluation rollouts."""
        return self.root / "eval"

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.root / "report.html"


@contextmanager
def open_workspace(
    verb: str, settings: Mapping[str, Any], *, note: Callable[[str], None], outputs: Path = OUTPUTS
) -> Iterator[RunPaths]:
    """The folder of this command, locked against a second process while it is in use.

    Args:
        verb: picks ``outputs/<verb>/``.
        settings: the resolved settings, saved as ``config.yaml``.
        note: told when an earlier command is resumed.
        outputs: parent of all output folders.

    Raises:
        ConfigError: when ``out`` holds something else, or is in use by another process.
    """
    root, lock = _choose(verb, settings, note, outputs)
    paths = RunPaths(root)
    try:
        if not paths.config.exists():
            saved = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
            write_atomic(paths.config, saved.encode())
        yield paths
    finally:
        os.close(lock)


def _choose(verb: str, settings: Mapping[str, Any], note: Callable[[str], None], outputs: Path) -> tuple[Path, int]:
    if settings["out"] is not None:
        return _explicit(Path(settings["out"]), settings, note)
    parent = outputs / verb
    newest = _newest(parent)
    if newest is not None and not settings["fresh"] and _is_resumable(newest, settings):
        lock = _try_lock(newest)
        if lock is not None:
            note(f"resuming the unfinished {newest} (fresh=true starts anew)")
            return newest, lock
    root = _new_folder(parent)
    return root, _lock(root)


def _explicit(root: Path, settings: Mapping[str, Any], note: Callable[[str], None]) -> tuple[Path, int]:
    if root.exists() and not root.is_dir():
        raise ConfigError(f"out={root} is a file: pass out=<a folder>")
    if root.is_dir() and any(path.name != ".lock" for path in root.iterdir()):
        if settings["fresh"]:
            raise ConfigError(f"fresh=true needs a new folder, but out={root} exists: pass another out, or delete it")
        _check_same(root, settings)
        note(f"resuming {root}")
    root.mkdir(parents=True, exist_ok=True)
    return root, _lock(root)


def _check_same(root: Path, settings: Mapping[str, Any]) -> None:
    saved = _saved_settings(root)
    if saved is None:
        raise ConfigError(f"out={root} holds other files and no readable config.yaml: pass out=<a new folder>")
    differences = _differences(saved, settings)
    if differences:
        raise ConfigError(
            f"out={root} holds another configuration ({'; '.join(differences)}): "
            "pass out=<a new folder>, or the same values again to resume"
        )


def _differences(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    there, here = flatten(saved), flatten(settings)
    keys = [key for key in (*there, *(k for k in here if k not in there)) if key not in PRESENTATION]
    return [
        f"{key}: {there.get(key, 'absent')} there, {here.get(key, 'absent')} here"
        for key in keys
        if key not in there or key not in here or there[key] != here[key]
    ]


def _is_resumable(root: Path, settings: Mapping[str, Any]) -> bool:
    saved = _saved_settings(root)
    return saved is not None and not RunPaths(root).metrics.exists() and not _differences(saved, settings)


def _saved_settings(root: Path) -> dict[str, Any] | None:
    try:
        saved = yaml.safe_load(RunPaths(root).config.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return saved if isinstance(saved, dict) else None


def _newest(parent: Path) -> Path | None:
    # By the age of config.yaml, which is written once: a folder's own time changes with every file in it.
    folders = [path.parent for path in parent.glob("*/config.yaml")]
    return max(folders, key=lambda path: RunPaths(path).config.stat().st_mtime_ns, default=None)


def _new_folder(parent: Path) -> Path:
    """``outputs/run/2026-11-21_05-43-10``, with ``-2``, ``-3`` ... when that second is taken."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(1, 1000):
        root = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            if not parent.is_dir():
                raise ConfigError(f"{parent} is a file: pass out=<a folder>") from None
            continue
        return root
    raise ConfigError(f"no free folder name in {parent}: pass out=<a new folder>")


def _lock(root: Path) -> int:
    lock = _try_lock(root)
    if lock is None:
        raise ConfigError(f"{root} is in use by another robostack process: wait for it, or pass out=<a new folder>")
    return lock


def _try_lock(root: Path) -> int | None:
    # The kernel drops the lock with the process, however it dies: no stale lock can block a resume.
    descriptor = os.open(root / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
