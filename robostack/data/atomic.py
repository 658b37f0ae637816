"""Writes that are either complete or absent, whatever kills the process or the power.

A file or directory is prepared under a temporary name beside its target, flushed to the disk and renamed. The
temporary name carries the id of the writing process: leftovers of dead writers differ from work in progress.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from robostack.errors import DataError, StorageError

_TEMPORARY = re.compile(r"^\..+\.tmp-(\d+)$")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the enclosed writes into a StorageError that names the path and the fix."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(
            f"cannot write {path}: {reason}; free some space or choose a writable directory, then run the same command "
            "again: what was finished is kept"
        ) from error


def temporary_beside(path: Path) -> Path:
    """The name under which this process prepares ``path``."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Raises:
        StorageError: disk full, directory missing or not writable; nothing is left behind.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                remaining = memoryview(content)
                while remaining:
                    remaining = remaining[os.write(descriptor, remaining) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
            sync_directory(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, values: dict) -> None:
    """``write_atomic`` of readable JSON."""
    write_atomic(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path, fix: str) -> dict:
    """Read a JSON object.

    Raises:
        DataError: the file is missing, unreadable or not a JSON object; the message ends with ``fix``.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({one_line(error)})"
        raise DataError(f"{path} {reason}: {fix}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no JSON object: {fix}")
    return values


def one_line(error: BaseException) -> str:
    """The error's message without line breaks, or its type's name."""
    return " ".join(str(error).split()) or type(error).__name__


def sync_directory(directory: Path) -> None:
    """Make renames inside a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flush every file and directory below ``root`` to the disk."""
    for directory, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(directory))


def replace_directory(prepared: Path, target: Path) -> None:
    """Rename a prepared directory to its target; an old target makes way under a temporary name and is then removed."""
    sync_tree(prepared)
    if target.exists():
        outgoing = target.with_name(f".{target.name}.old.tmp-{os.getpid()}")
        os.rename(target, outgoing)
        os.rename(prepared, target)
        shutil.rmtree(outgoing)
    else:
        os.rename(prepared, target)
    sync_directory(target.parent)


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Replace a directory by one that holds exactly ``files``; complete or not at all.

    Raises:
        StorageError: the disk does not take it; an older directory stays.
    """
    prepared = temporary_beside(path)
    with storage_errors(path):
        try:
            shutil.rmtree(prepared, ignore_errors=True)
            prepared.mkdir(parents=True)
            for name, content in files.items():
                (prepared / name).write_bytes(content)
            replace_directory(prepared, path)
        except OSError:
            shutil.rmtree(prepared, ignore_errors=True)
            raise


def remove_leftovers(directory: Path, prefix: str = "") -> None:
    """Remove temporary files and directories of writers that no longer run; ``prefix`` limits them to one target."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        match = _TEMPORARY.match(path.name)
        if match is None or not path.name.startswith(f".{prefix}") or _runs(int(match.group(1))):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return False  # this process keeps no temporary across calls: it is a leftover of a namesake
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
