"""One task of a library, read from its folder and checked: nothing that contradicts its name is handed out."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from robostack.data.atomic import one_line, read_json
from robostack.errors import DataError
from robostack.task.spec import TaskSpec
from simgen.gates.record import Certificate, GateRecord

Status = Literal["library", "pending", "failed"]

ID = re.compile(r"^[0-9a-f]{16}$")
_DEMO = re.compile(r"^action_(-?\d+)$")
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


def load_entry(folder: Path | str, status: Status = "library") -> Entry:
    """Open the folder of a task.

    Raises:
        DataError: a missing or damaged file, a task that is not the folder's, a certificate of another task.
    """
    folder = Path(folder)
    return check_folder(folder, folder.name if ID.match(folder.name) else None, status)


def check_folder(folder: Path, task_id: str | None, status: Status) -> Entry:
    """Read a folder; ``task_id`` is what its task has to be, None for any.

    Raises:
        DataError: a missing or damaged file, a task that is not the folder's, a certificate of another task.
    """
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
        _check_weights(folder, certificate)
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


def _check_weights(folder: Path, certificate: Certificate) -> None:
    for name, wanted in certificate.weights.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing: {_FIX}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise DataError(f"{path} is not the actor that the certificate names: {_FIX}")


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
