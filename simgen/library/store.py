"""The library on the disk: one folder per task, named by the task's id, complete or not there at all.

Layout below the root of a library::

    <id>/            a certified task
    failed/<id>/     a task that some gate refused: task.json and gates.json, so that nobody tries it again
    pending/<id>/    certified, its novelty not decided yet

A folder is prepared under a temporary name, flushed to the disk and renamed, so a kill at any time leaves no half task.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from robostack.data.atomic import (
    remove_leftovers,
    storage_errors,
    sync_directory,
    temporary_beside,
    write_directory,
)
from robostack.errors import ConfigError, UnknownName
from robostack.task.spec import TaskSpec
from simgen.gates.record import Certificate, GateRecord
from simgen.library.entry import ID, Entry, Status, check_folder, load_entry

_PREFIX = re.compile(r"^[0-9a-f]{4,16}$")


class Library:
    """A folder of tasks. Several processes may write at once: publishing is a rename, and the first one wins."""

    def __init__(self, root: Path | str):
        """Open a library, or the place of a future one; what a killed writer left half done is removed.

        Raises:
            ConfigError: ``root`` is a file.
        """
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"{self.root} is a file: pass the folder of a library")
        for status in ("library", "pending", "failed"):
            remove_leftovers(self._parent(status))

    # Reading.

    def ids(self, status: Status = "library") -> tuple[str, ...]:
        """Ids of all tasks with a status, sorted."""
        parent = self._parent(status)
        found = (path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else ()
        return tuple(sorted(name for name in found if ID.match(name)))

    def __len__(self) -> int:
        return len(self.ids())

    def __contains__(self, task_id: str) -> bool:
        return self._parent("library").joinpath(task_id).is_dir()

    def __iter__(self) -> Iterator[Entry]:
        """The certified tasks, in the order of their ids."""
        return (self.load(task_id) for task_id in self.ids())

    def entries(self, status: Status) -> tuple[Entry, ...]:
        """All tasks with a status, in the order of their ids."""
        return tuple(self.load(task_id, status) for task_id in self.ids(status))

    def load(self, task_id: str, status: Status = "library") -> Entry:
        """Open one task by its id or the beginning of it.

        Raises:
            UnknownName: no such task, or several.
            DataError: the folder holds something else than its name says.
        """
        names = self.ids(status)
        found = [name for name in names if name.startswith(task_id)]
        if len(found) != 1:
            raise UnknownName(f"task of {self.root}", task_id, found or names[:8])
        return load_entry(self._parent(status) / found[0], status)

    def status(self, task_id: str) -> Status | None:
        """What became of a task; None when it was never tried."""
        kinds: tuple[Status, ...] = ("library", "failed", "pending")
        return next((kind for kind in kinds if (self._parent(kind) / task_id).is_dir()), None)

    # Writing.

    def publish(self, spec: TaskSpec, files: Mapping[str, bytes], status: Status = "library") -> Path:
        """Put a task there under its id, complete or not at all; a task that is already there stays as it is.

        Raises:
            DataError: the files contradict the task.
            StorageError: the disk does not take it; nothing is left behind.
        """
        target = self._parent(status) / spec.id
        if target.is_dir():
            return target
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        staged = temporary_beside(target)
        write_directory(staged, files)
        try:
            check_folder(staged, spec.id, status)
            with storage_errors(target):
                _rename_first(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return target

    def settle(self, entry: Entry, record: GateRecord) -> Path:
        """Move a pending task to where its last gate sends it: into the library, or among the failed."""
        records = (*entry.records, record)
        if record.ok:
            path = self.publish(entry.spec, {**entry.files(), "gates.json": records_json(records)})
        else:
            path = self.publish(entry.spec, task_files(entry.spec, records), "failed")
        shutil.rmtree(entry.folder, ignore_errors=True)  # a kill before this leaves a copy; the settled one counts
        return path

    def tidy(self) -> None:
        """Drop pending copies of settled tasks, as a kill may leave them, and the folder when it is empty."""
        for task_id in self.ids("pending"):
            if self.status(task_id) != "pending":
                shutil.rmtree(self._parent("pending") / task_id, ignore_errors=True)
        with suppress(OSError):
            self._parent("pending").rmdir()

    def _parent(self, status: Status) -> Path:
        return self.root if status == "library" else self.root / status


def task_files(spec: TaskSpec, records: Sequence[GateRecord]) -> dict[str, bytes]:
    """The files that every task has, certified or not."""
    return {"task.json": f"{spec.to_json()}\n".encode(), "gates.json": records_json(records)}


def records_json(records: Sequence[GateRecord]) -> bytes:
    """``gates.json``."""
    return json.dumps([r.model_dump(mode="json") for r in records], indent=1, allow_nan=False).encode() + b"\n"


def certified_files(
    spec: TaskSpec,
    records: Sequence[GateRecord],
    certificate: Certificate,
    *,
    demos: Mapping[int, np.ndarray],
    keyframes: Mapping[int, Any],
    witness_png: bytes | None,
    rl: Mapping[int, bytes],
    notes: Mapping[str, Mapping[str, Any]],
) -> dict[str, bytes]:
    """All files of a certified task.

    Args:
        spec: the task.
        records: its gates.
        certificate: its proof.
        demos: scene seed -> actions (T, Da).
        keyframes: scene seed -> JSON values.
        witness_png: a state in which the goal holds.
        rl: index of a subgoal -> weights of the policy that solved it.
        notes: name -> further JSON objects, each in a file of its own.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"action_{seed}": np.asarray(a, np.float32) for seed, a in sorted(demos.items())}
    np.savez_compressed(buffer, **arrays)
    files = task_files(spec, records)
    files["certificate.json"] = f"{certificate.model_dump_json(indent=1)}\n".encode()
    files["demos.npz"] = _timeless(buffer.getvalue())
    files["keyframes.json"] = _json({str(seed): value for seed, value in sorted(keyframes.items())})
    if witness_png is not None:
        files["witness.png"] = witness_png
    files.update({f"rl_{index}.npz": weights for index, weights in sorted(rl.items())})
    files.update({f"{name}.json": _json(value) for name, value in notes.items()})
    return files


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False).encode() + b"\n"


def _timeless(archive: bytes) -> bytes:
    """The same archive with the same date in every member, so that equal demos are equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for info in sorted(source.infolist(), key=lambda member: member.filename):
            member = zipfile.ZipInfo(info.filename, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(member, source.read(info))
    return out.getvalue()


def _rename_first(prepared: Path, target: Path) -> None:
    """Rename onto a name that is free; when another process was first, its folder stays."""
    try:
        prepared.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    sync_directory(target.parent)


def find_folder(given: Path | str, roots: Sequence[Path]) -> Path:
    """The folder of a task: its path, or the beginning of its id in one of the libraries at ``roots``.

    Raises:
        UnknownName: neither.
    """
    path = Path(given)
    if (path / "task.json").is_file():
        return path
    if path.name == "task.json" and path.is_file():
        return path.parent
    name = str(given)
    known = [folder for root in roots for status in ("library", "failed") for folder in _folders(Library(root), status)]
    found = [folder for folder in known if _PREFIX.match(name) and folder.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    fix = "Pass the id of a task of the library, or the folder that holds its task.json."
    raise UnknownName("task", name, [folder.name for folder in (found or known)[:8]], fix)


def _folders(library: Library, status: Status) -> list[Path]:
    parent = library.root if status == "library" else library.root / status
    return [parent / name for name in library.ids(status)]
