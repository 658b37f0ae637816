"""An interpreter that knows nothing but a task and its actions: ``python -m simgen.gates.replayer``.

It reads an npz from standard input and prints, as JSON, the hashes of what the actions lead to. It imports neither
experts nor gates, so that none of them can help.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from typing import BinaryIO

import numpy as np

from robostack.sim.env import TaskEnv
from robostack.sim.scene import state_sha, versions
from robostack.task.spec import TaskSpec


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
