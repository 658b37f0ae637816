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
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from robostack.data.atomic import (
    one_line,
    read_json,
    remove_leftovers,
    storage_errors,
    sync_directory,
    temporary_beside,
    write_directory,
)
from robostack.errors import ConfigError, DataError, UnknownName
from robostack.task.spec import TaskSpec
from simgen.gates.record import Certificate, GateRecord

Status = Literal["library", "pending", "failed"]

ID = re.compile(r"^[0-9a-f]{16}$")
_PREFIX = re.compile(r"^[0-9a-f]{4,16}$")
_DEMO = re.compile(r"^action_(-?\d+)$")
_RL = re.compile(r"^rl_(\d+)\.npz$")
_RECORDS = TypeAdapter(tuple[GateRecord, ...])
_FIX = "delete the folder and generate the task again"


@dataclass(frozen=True)
class Entry:
    """One task of a library, checked when it was opened; the large files are read on demand.

    Attributes:
        certificate: None for a task that failed, or that was never certified.
    """

    folder: Path
    status: Status
    spec: TaskSpec
    records: tuple[GateRecord, ...]
    certificate: Certificate | None

    @property
    def id(self) -> str:
        """Content hash of the task."""
        return self.spec.id

    @property
    def failed(self) -> GateRecord | None:
        """The first gate that refused the task."""
        return next((record for record in self.records if not record.ok), None)

    @cached_property
    def demos(self) -> dict[int, np.ndarray]:
        """Scene seed -> recorded actions (T, Da), float32.

        Raises:
            DataError: a damaged file, or other seeds than the certificate names.
        """
        return _load_demos(self.folder / "demos.npz", self.certificate)

    @property
    def keyframes(self) -> dict[int, Any]:
        """Scene seed -> keyframes of that demonstration, as JSON values."""
        path = self.folder / "keyframes.json"
        return {int(seed): value for seed, value in read_json(path, _FIX).items()} if path.is_file() else {}

    @property
    def witness(self) -> bytes | None:
        """PNG of a state in which the goal holds."""
        path = self.folder / "witness.png"
        return path.read_bytes() if path.is_file() else None

    @property
    def parent(self) -> str | None:
        """The task of which this one is a variant, as the novelty gate recorded it."""
        found = next((record for record in self.records if record.gate == "G10" and record.ok), None)
        parent = found.metrics.get("parent") if found else None
        return str(parent) if parent else None

    def note(self, name: str) -> dict[str, Any] | None:
        """The JSON object in ``<name>.json`` of the folder; None when there is none."""
        path = self.folder / f"{name}.json"
        return read_json(path, _FIX) if path.is_file() else None

    def files(self) -> dict[str, bytes]:
        """Every file of the folder by name."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file()}


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
            _check(staged, spec.id, status)
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


def load_entry(folder: Path | str, status: Status = "library") -> Entry:
    """Open the folder of a task.

    Raises:
        DataError: a missing or damaged file, a task that is not the folder's, a certificate of another task.
    """
    folder = Path(folder)
    return _check(folder, folder.name if ID.match(folder.name) else None, status)


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


# Checks.


def _check(folder: Path, task_id: str | None, status: Status) -> Entry:
    spec = _load_spec(folder)
    if task_id is not None and spec.id != task_id:
        raise DataError(f"{folder}/task.json is task {spec.id}, not {task_id}: it was changed; {_FIX}")
    records = _load_records(folder / "gates.json", spec.id)
    certificate = _load_certificate(folder / "certificate.json", spec.id)
    if status != "failed" and (certificate is None) != (not records):
        missing = "certificate.json" if certificate is None else "gates.json"
        raise DataError(f"{folder} has no {missing}: {_FIX}")
    if certificate is not None:
        _check_archive(folder / "demos.npz", certificate)
    return Entry(folder, status, spec, records, certificate)


def _load_spec(folder: Path) -> TaskSpec:
    path = folder / "task.json"
    try:
        return TaskSpec.from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({one_line(error)})"
        raise DataError(f"{path} {reason}: {_FIX}") from error


def _load_records(path: Path, task_id: str) -> tuple[GateRecord, ...]:
    if not path.is_file():
        return ()
    records = _parse(path, _RECORDS.validate_json)
    foreign = next((record.task for record in records if record.task != task_id), None)
    if foreign is not None:
        raise DataError(f"{path} holds a record of task {foreign}, not of {task_id}: {_FIX}")
    return records


def _load_certificate(path: Path, task_id: str) -> Certificate | None:
    if not path.is_file():
        return None
    certificate = _parse(path, Certificate.model_validate_json)
    if certificate.task != task_id:
        raise DataError(f"{path} certifies task {certificate.task}, not {task_id}: {_FIX}")
    proven = {episode.seed for episode in certificate.episodes if episode.ok}
    unproven = [seed for seed in certificate.demos if seed not in proven]
    if unproven:
        raise DataError(f"{path} names the demo of seed {unproven[0]}, which it does not prove: {_FIX}")
    return certificate


def _parse(path: Path, read: Any) -> Any:
    try:
        return read(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else one_line(error)
        raise DataError(f"{path} is damaged ({first}): {_FIX}") from error


def _check_archive(path: Path, certificate: Certificate) -> None:
    """Names only: reading the arrays is left to who needs them."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({one_line(error)})"
        raise DataError(f"{path} {reason}: {_FIX}") from error
    wanted = {f"action_{seed}" for seed in certificate.demos}
    if names != wanted:
        raise DataError(f"{path} holds {sorted(names)}, the certificate names {sorted(wanted)}: {_FIX}")


def _load_demos(path: Path, certificate: Certificate | None) -> dict[int, np.ndarray]:
    if not path.is_file():
        return {}
    demos: dict[int, np.ndarray] = {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            for name in archive.files:
                match = _DEMO.match(name)
                if match is None:
                    raise ValueError(f"unknown array '{name}'")
                demos[int(match.group(1))] = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({one_line(error)}): {_FIX}") from error
    for seed, actions in demos.items():
        if actions.ndim != 2 or not len(actions) or actions.dtype != np.float32 or not np.isfinite(actions).all():
            raise DataError(f"{path}: the demo of seed {seed} is no finite float32 array (T, Da): {_FIX}")
    if certificate is not None and set(demos) != set(certificate.demos):
        raise DataError(f"{path} holds seeds {sorted(demos)}, the certificate {sorted(certificate.demos)}: {_FIX}")
    return demos


def rl_weights(entry: Entry) -> dict[int, bytes]:
    """Index of a subgoal -> weights of the policy that solved it."""
    return {int(m.group(1)): content for name, content in entry.files().items() if (m := _RL.match(name))}


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
