"""Prove a library again: every file, every stored demonstration in a fresh process, every gate.

Nothing that a folder claims is taken for granted: hashes are computed anew, and the expert solves again the scenes
that the certificate names. On the same platform and MuJoCo the outcome has to be the same to the last bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from tqdm import tqdm

from robostack.data.atomic import one_line, read_json, remove_leftovers, storage_errors, write_json
from robostack.errors import ConfigError, DataError, RobostackError, SpecError
from robostack.sim.scene import versions
from robostack.task.spec import Frozen, TaskSpec
from simgen.gates.record import Certificate, GateRecord
from simgen.gates.replayer import in_fresh_process
from simgen.library.entry import ID, Entry, load_entry
from simgen.library.jobs import completed, locate

Depth = Literal["full", "replay"]


class Proof(Frozen):
    """Outcome for one task.

    Attributes:
        task: its id; its path where the folder cannot be read.
        records: of the gates that were passed again, and of what was wrong.
        demos, replayed: stored demonstrations, and those of them that replay to the last bit in a fresh process.
        compared: episodes of the certificate that were solved again.
    """

    task: str
    path: str
    text: str = ""
    records: tuple[GateRecord, ...] = ()
    demos: int = 0
    replayed: int = 0
    compared: int = 0

    @property
    def failed(self) -> GateRecord | None:
        """What refused the task."""
        return next((record for record in self.records if not record.ok), None)


@dataclass(frozen=True)
class VerifyReport:
    """Outcome of a verification.

    Attributes:
        n, ok: tasks, and those of them that are proven again.
        demos, replayed: stored demonstrations, and those that replay to the last bit.
    """

    n: int
    ok: int
    demos: int
    replayed: int
    cpu_s: float
    wall_s: float
    proofs: tuple[Proof, ...]

    @property
    def failures(self) -> tuple[Proof, ...]:
        """What is not proven."""
        return tuple(proof for proof in self.proofs if proof.failed is not None)


def verify(
    folder: Path | str,
    out_dir: Path | str,
    *,
    seeds: int = 16,
    depth: Depth = "full",
    workers: int = 1,
    progress: bool = False,
    certifier: str = "simgen.gates.certify.certify",
) -> VerifyReport:
    """Prove every task below ``folder``; proofs that ``out_dir`` already holds are kept.

    Args:
        folder: a library, a folder with task folders or with task files, or one task.
        out_dir: where proofs are kept, one file per task.
        seeds: scenes on which the expert has to solve each task again.
        depth: ``replay`` checks the files and replays the demonstrations; ``full`` also passes all gates again.
        workers: processes.
        progress: whether to show a progress bar.
        certifier: dotted name of the function that passes a task through the gates.

    Raises:
        ConfigError: no such folder, or no task in it.
    """
    start, out_dir, tasks = time.monotonic(), Path(out_dir), find_tasks(folder)
    with storage_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir)
    todo = [path for path in tasks if not _proof_path(out_dir, path).is_file()]
    start_args = (out_dir, certifier, seeds, depth)
    with tqdm(total=len(tasks), initial=len(tasks) - len(todo), desc="verify", disable=not progress) as bar:
        for _ in completed(_verify, todo, workers, _start, start_args):
            bar.update(1)
    proofs = tuple(_load_proof(_proof_path(out_dir, path)) for path in tasks)
    return VerifyReport(
        n=len(proofs),
        ok=sum(proof.failed is None for proof in proofs),
        demos=sum(proof.demos for proof in proofs),
        replayed=sum(proof.replayed for proof in proofs),
        cpu_s=sum(record.cost_s for proof in proofs for record in proof.records),
        wall_s=time.monotonic() - start,
        proofs=proofs,
    )


def find_tasks(folder: Path | str) -> tuple[Path, ...]:
    """Folders with a ``task.json``, or task files; what failed its gates or still waits is left out.

    Raises:
        ConfigError: no such folder, or nothing in it.
    """
    root = Path(folder)
    if root.is_file():
        return (root.parent if root.name == "task.json" else root,)
    if not root.is_dir():
        raise ConfigError(f"no folder at {root}: pass a folder of tasks, as  robostack gen sample  writes it")
    if (root / "task.json").is_file():
        return (root,)
    found = tuple(sorted(path for path in root.iterdir() if path.is_dir() and _looks_like_task(path)))
    found = found or tuple(sorted(_task_files(root)))
    if not found:
        raise ConfigError(f"{root} holds no task: pass a folder of tasks, as  robostack gen sample  writes it")
    return found


def _looks_like_task(path: Path) -> bool:
    return ID.match(path.name) is not None or (path / "task.json").is_file()


def _task_files(root: Path) -> Iterator[Path]:
    for path in (*root.glob("*.json"), *root.glob("*/*.json")):
        try:
            TaskSpec.load(path)
        except (SpecError, UnicodeDecodeError):
            continue
        yield path


def _proof_path(out_dir: Path, path: Path) -> Path:
    name = path.name if path.is_dir() else f"{path.parent.name}_{path.stem}"
    return out_dir / f"{name}.json"


def _load_proof(path: Path) -> Proof:
    try:
        return Proof.model_validate(read_json(path, "delete it and run the same command again"), strict=False)
    except ValidationError as error:
        raise DataError(f"{path} is damaged: delete it and run the same command again") from error


# Worker.

_worker: tuple[Path, Callable | None, int] | None = None


def _start(out_dir: Path, certifier: str, seeds: int, depth: Depth) -> None:
    global _worker
    _worker = out_dir, locate(certifier) if depth == "full" else None, seeds


def _verify(path: Path) -> None:
    assert _worker is not None
    out_dir, certify, seeds = _worker
    proof = prove_again(path, certify=certify, seeds=seeds)
    write_json(_proof_path(out_dir, path), proof.model_dump(mode="json"))


def prove_again(path: Path, *, certify: Callable | None, seeds: int) -> Proof:
    """Check one task: its files, its demonstrations, and with ``certify`` all gates."""
    try:
        entry = load_entry(path) if path.is_dir() else Entry(path, "library", TaskSpec.load(path), (), None)
    except RobostackError as error:
        record = GateRecord(task=path.name, gate="G1", ok=False, code="CORRUPT", detail=one_line(error))
        return Proof(task=path.name, path=str(path), records=(record,))
    replayed, record = _replay(entry)
    records, compared = (record,) if record else (), 0
    if certify is not None and (record is None or record.ok):
        verdict = certify(entry.spec, seeds=seeds, demos=1, folder=path if path.is_dir() else None)
        records = (*verdict.records, *records)
        if entry.certificate is not None and verdict.certificate is not None:
            compared, difference = _compare(entry.certificate, verdict.certificate)
            records = (*records, difference) if difference else records
    demos = len(entry.certificate.demos) if entry.certificate else 0
    return Proof(
        task=entry.id,
        path=str(path),
        text=entry.spec.instruction.text,
        records=records,
        demos=demos,
        replayed=replayed,
        compared=compared,
    )


def _replay(entry: Entry) -> tuple[int, GateRecord | None]:
    """How many demonstrations replay to the last bit, and the verdict; None without a certificate."""
    if entry.certificate is None:
        return 0, None
    start, wanted = _children_s(), {e.seed: e.final_sha for e in entry.certificate.episodes}
    try:
        ends = in_fresh_process(entry.spec, entry.demos)["episodes"]
    except DataError as error:
        return 0, GateRecord(task=entry.id, gate="G9", ok=False, code="CORRUPT", detail=one_line(error))
    differ = [seed for seed in entry.certificate.demos if ends[str(seed)]["final"] != wanted[seed]]
    exact = len(entry.certificate.demos) - len(differ)
    here = versions()
    other = {k: v for k, v in entry.certificate.versions.items() if k in here and here[k] != v}
    detail = f"the demo of seed {differ[0]} ends in another state" if differ else ""
    if differ and other:
        detail += f"; it was recorded with {other}, here is {here}"
    return exact, GateRecord(
        task=entry.id,
        gate="G9",
        ok=not differ,
        code="REPLAY_DIFFERS" if differ else "OK",
        detail=detail,
        metrics={"demos": len(entry.certificate.demos), "exact": exact, "fresh_process": True},
        cost_s=_children_s() - start,
    )


def _children_s() -> float:
    """Processor time of the processes that this one has waited for [s]."""
    times = os.times()
    return times.children_user + times.children_system


def _compare(stored: Certificate, fresh: Certificate) -> tuple[int, GateRecord | None]:
    """Episodes in common, and what is wrong when they differ although the physics is the same."""
    again = {episode.seed: episode for episode in fresh.episodes}
    common = [episode for episode in stored.episodes if episode.seed in again]
    if stored.versions != fresh.versions:
        return len(common), None  # other bits are to be expected: the gates have the last word
    if stored.model_sha != fresh.model_sha:
        detail = "the task compiles to another model than the one that was certified: generate it again"
        return len(common), GateRecord(task=stored.task, gate="G9", ok=False, code="MODEL_CHANGED", detail=detail)
    differ = [e.seed for e in common if (e.ok, e.final_sha) != (again[e.seed].ok, again[e.seed].final_sha)]
    if not differ:
        return len(common), None
    detail = f"the expert's episode of seed {differ[0]} ends otherwise than certified ({len(differ)} of {len(common)})"
    return len(common), GateRecord(task=stored.task, gate="G9", ok=False, code="NOT_REPRODUCED", detail=detail)
