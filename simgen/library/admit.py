"""Tasks written by hand or by another generator into a library: ``python -m simgen.library.admit --help``.

A task passes the same gates as a sampled one. What was learned for its subgoals, ``rl_<subgoal>.npz`` beside its
``task.json``, is tried last and comes along when it was needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from robostack.errors import RobostackError
from robostack.task.spec import TaskSpec
from simgen.gates.certify import certify
from simgen.library.build import publish
from simgen.library.dedup import known_entries, novelty_record
from simgen.library.entry import Entry
from simgen.library.signature import signature
from simgen.library.store import Library


def admit(
    folder: Path,
    library: Library,
    *,
    seeds: int = 16,
    demos: int = 4,
    certify: Callable = certify,
    signer: Callable[[TaskSpec], str] = signature,
) -> Entry:
    """Prove the task of a folder and put it into the library, or among the failed; one that is there is not proven.

    Args:
        folder: with ``task.json``, and the actors that were learned for its subgoals.
        library: where it goes, and in which its like must not be yet.
        seeds: scenes on which the expert has to solve it.
        demos: demonstrations to keep.
        certify: passes a task through the gates.
        signer: says what a task means.

    Raises:
        SpecError: no task in the folder.
        CheckpointError: a damaged actor.
    """
    spec = TaskSpec.load(folder / "task.json")
    if library.status(spec.id) is None:
        publish(library, certify(spec, seeds=seeds, demos=demos, folder=folder))
    if library.status(spec.id) == "pending":
        (facts,) = known_entries([library.load(spec.id, "pending")], signer=signer)
        library.settle(library.load(spec.id, "pending"), novelty_record(facts, known_entries(library, signer=signer)))
        library.tidy()
    status = library.status(spec.id)
    assert status is not None, "a task that was published has a status"
    return library.load(spec.id, status)


def main(args: list[str]) -> int:
    """Admit tasks from the command line; prints a JSON object per task, and returns 1 when one was refused."""
    parser = argparse.ArgumentParser(prog="python -m simgen.library.admit", description="Prove tasks and store them.")
    parser.add_argument("folders", type=Path, nargs="+", help="folders with a task.json")
    parser.add_argument("--into", type=Path, required=True, help="the library")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--demos", type=int, default=4)
    options = parser.parse_args(args)
    refused = 0
    for folder in options.folders:
        try:
            entry = admit(folder, Library(options.into), seeds=options.seeds, demos=options.demos)
        except RobostackError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        refused += entry.status != "library"
        sys.stdout.write(json.dumps(_summary(entry)) + "\n")
        sys.stdout.flush()
    return int(refused > 0)


def _summary(entry: Entry) -> dict[str, object]:
    solved = next((record.metrics for record in entry.records if record.gate == "G7"), {})
    failed = entry.failed
    return {
        "task": entry.id,
        "text": entry.spec.instruction.text,
        "status": entry.status,
        "tried": solved.get("tried", ()),
        "methods": solved.get("methods", ()),
        "refused": "" if failed is None else f"{failed.gate} {failed.code}: {failed.detail}",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
