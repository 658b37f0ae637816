"""Keyframes to multiply a task from: those of its certificate, or of demonstrations that the expert gives now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robostack.data.atomic import storage_errors, write_atomic
from robostack.errors import ExpertError, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import train_seed
from robostack.task.spec import TaskSpec
from simgen.experts.expert import Expert
from simgen.experts.keyframe import load_keyframes

_DEMOS, _ATTEMPTS = 4, 12
_DECIMALS = 7  # of a position [m]

Shown = Mapping[str, list[dict[str, Any]]]


def teach(spec: TaskSpec, path: Path, certified: Path | None = None, folder: Path | None = None) -> Shown:
    """Demonstrations by seed as keyframes, kept in ``path``.

    Args:
        spec: the task.
        path: read when it is there; else written.
        certified: keyframes of the task's certificate; taken where they hold the paths of all subgoals.
        folder: of the task, with what its methods have learned.

    Raises:
        ExpertError: there are none, and the expert cannot demonstrate the task.
        DataError: a file is damaged.
    """
    for known in (path, certified):
        if known is not None and len(load_keyframes(known)) == len(spec.subgoals) > 0:
            shown = json.loads(known.read_text(encoding="utf-8"))
            break
    else:
        shown = _demonstrate(spec, folder)
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_keyframes(shown, path)
    return shown


def write_keyframes(shown: Shown, path: Path) -> None:
    """Write ``keyframes.json``."""
    write_atomic(path, json.dumps(shown).encode() + b"\n")


def scaled(shown: Shown, factor: float) -> Shown:
    """The same demonstrations for objects that are larger by a factor; places on the table stay where they are."""

    def resized(key: dict[str, Any]) -> dict[str, Any]:
        x, y, z = key["pos"]
        level = factor if key["frame"] else 1.0
        return {**key, "pos": [round(x * level, _DECIMALS), round(y * level, _DECIMALS), round(z * factor, _DECIMALS)]}

    return {seed: [resized(key) for key in keys] for seed, keys in shown.items()}


def _demonstrate(spec: TaskSpec, folder: Path | None) -> Shown:
    expert, shown, code = Expert(TaskEnv(spec), folder=folder), {}, "nothing was tried"
    for seed in map(train_seed, range(_ATTEMPTS)):
        try:
            _, code = expert.solve(seed)
        except SceneError as error:
            code = error.code
        if not code:
            shown[str(seed)] = [key.to_dict() for key in expert.keyframes]
        if len(shown) == _DEMOS:
            break
    if not shown:
        raise ExpertError(
            f"the expert cannot demonstrate '{spec.name}' on {spec.robot.name} ({code}): nothing to multiply"
        )
    return shown
