"""Replay of stored demonstrations: ``python -m simgen.library.replay <task folder>`` does it in a process of its own.

It prints one JSON object, seed -> SHA-256 of the state in which the replay ends, so that nothing of the process that
recorded a demonstration can help the replay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robostack.errors import DataError, RobostackError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import state_sha
from robostack.task.spec import TaskSpec
from simgen.library.entry import load_entry

_TIMEOUT_S = 600.0


def replay(spec: TaskSpec, demos: Mapping[int, np.ndarray]) -> dict[int, str]:
    """Seed -> SHA-256 of the integration state after the actions (T, Da) of that seed's demonstration."""
    env, shas = TaskEnv(spec), {}
    for seed, actions in sorted(demos.items()):
        env.reset_scene(seed)
        for action in actions:
            env.apply(action)
        shas[seed] = state_sha(env.scene.get_state())
    env.close()
    return shas


def replay_in_fresh_process(folder: Path) -> dict[int, str]:
    """``replay`` of all stored demonstrations of a task's folder, by a new interpreter.

    Raises:
        DataError: the new process could not replay them; the message is its own last line.
    """
    here = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # the same packages, wherever it starts
    command = [sys.executable, "-m", "simgen.library.replay", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=here)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"replaying {folder} took longer than {_TIMEOUT_S:g} s: is the machine overloaded?") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DataError(f"cannot replay {folder}: {last}")
    return {int(seed): sha for seed, sha in json.loads(done.stdout).items()}


def main(folder: str) -> int:
    """Replay and print; 2 for an error of the folder."""
    try:
        entry = load_entry(folder)
        sys.stdout.write(json.dumps(replay(entry.spec, entry.demos)))
    except RobostackError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
