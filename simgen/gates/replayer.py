"""An interpreter that knows nothing but a task and its actions: ``python -m simgen.gates.replayer``.

It reads an npz from standard input and prints, as JSON, the hashes of what the actions lead to. It imports neither
experts nor gates, so that none of them can help.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from robostack.errors import DataError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import state_sha, versions
from robostack.task.spec import TaskSpec

PATIENCE_S = 300.0


def in_fresh_process(spec: TaskSpec, actions: Mapping[int, np.ndarray]) -> dict:
    """What a new interpreter makes of actions (T, Da) float32 by seed: versions, and per seed its hashes.

    Raises:
        DataError: the new process could not replay them; the message has its own last line.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"action_{seed}": a for seed, a in actions.items()}
    np.savez(buffer, spec=np.frombuffer(spec.to_json().encode(), np.uint8), **arrays)
    here = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # the same packages, wherever it starts
    command = [sys.executable, "-m", "simgen.gates.replayer"]
    try:
        done = subprocess.run(
            command, input=buffer.getvalue(), capture_output=True, timeout=PATIENCE_S, check=False, env=here
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"replaying '{spec.name}' took longer than {PATIENCE_S:g} s: is the machine overloaded?"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise DataError(f"cannot replay '{spec.name}': {last}")
    return json.loads(done.stdout)


def sha(array: np.ndarray) -> str:
    """SHA-256 of the bits of an array."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def replay_all(stream: BinaryIO) -> dict:
    """Versions, and per seed the hashes of start state, controls and end state, and whether the goal is held there."""
    with np.load(io.BytesIO(stream.read())) as data:
        env = TaskEnv(TaskSpec.from_json(data["spec"].tobytes().decode()))
        seeds = [int(key.removeprefix("action_")) for key in data if key != "spec"]
        return {"versions": versions(), "episodes": {str(s): _replay(env, s, data[f"action_{s}"]) for s in seeds}}


def _replay(env: TaskEnv, seed: int, actions: np.ndarray) -> dict[str, str | bool]:
    env.reset_scene(seed)
    start = state_sha(env.scene.get_state())
    ctrl = np.stack([env.apply(action) for action in actions])
    return {
        "state0": start,
        "ctrl": sha(ctrl),
        "final": state_sha(env.scene.get_state()),
        "success": bool(env.success),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(replay_all(sys.stdin.buffer)))
