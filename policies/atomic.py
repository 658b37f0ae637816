"""Files and directories that are either complete or absent, whatever kills the process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from robostack.errors import StorageError


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror or error}; free space or choose another directory, "
        "what was saved before is untouched"
    )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_file(path: Path, data: bytes) -> None:
    """Replace a file in one step. Raises StorageError and leaves the old file when the disk does not take it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _storage_error(path, error) from error


def write_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Replace a directory by one that holds exactly ``files``; same promises as ``write_file``.

    A directory cannot be swapped in one call: between two renames the old one is at ``.<name>.old``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.old")
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            _write(temporary / name, data)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        raise _storage_error(path, error) from error
    shutil.rmtree(old, ignore_errors=True)
