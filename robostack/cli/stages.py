"""The stages of the main job, each a small function from what lies on disk to what lies on disk.

Every stage may be repeated: it finds what an earlier, interrupted command left in its own folder and goes on there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robostack.cli.console import Console
from robostack.cli.settings import Settings
from robostack.cli.targets import build_cfg, cfg_fields, locate, target
from robostack.cli.workspace import RunPaths, write_atomically, write_json
from robostack.errors import CheckpointError, ConfigError, DataError, DeviceUnavailable
from robostack.task.spec import TaskSpec

TRAIN_RECORD = "train.json"


@dataclass(frozen=True)
class Trained:
    """What training left behind, as recorded in ``policy/train.json``.

    Attributes:
        checkpoint: the checkpoint folder.
        losses: training loss in the order in which the trainer reported it.
        wall_s: duration [s].
        steps_per_s: gradient steps per second.
    """

    checkpoint: Path
    losses: tuple[float, ...]
    wall_s: float
    steps_per_s: float


@dataclass(frozen=True)
class Plan:
    """What training will use, built before any work starts so that a wrong value is refused at once."""

    train_cfg: Any
    policy_name: str
    policy_cfg: Any


# Task.


def propose_task(settings: Settings) -> TaskSpec:
    """The TaskSpec of the sentence, with the chosen control mode."""
    spec: TaskSpec = target(settings, "propose")(settings["sentence"], settings["robot"])
    robot = spec.robot.model_copy(update={"control_mode": settings["control_mode"]})
    return spec.model_copy(update={"robot": robot})


def save_task(spec: TaskSpec, paths: RunPaths) -> None:
    """Write ``task.json``; when resuming, the task must still be the same.

    Raises:
        ConfigError: when the folder holds another task, as after an update of robostack.
    """
    if paths.task.is_file() and TaskSpec.load(paths.task).id != spec.id:
        raise ConfigError(f"{paths.task} is another task than this robostack makes of the sentence: pass fresh=true")
    write_atomically(paths.task, spec.to_json() + "\n")


def find_task(given: str) -> TaskSpec:
    """The task of ``task=<file or folder>``."""
    path = Path(given)
    return TaskSpec.load(path / "task.json" if path.is_dir() else path)


def find_task_near(folder: Path) -> TaskSpec | None:
    """The ``task.json`` in a folder or up to three levels above it."""
    resolved = folder.resolve()
    for parent in (resolved, *list(resolved.parents)[:3]):
        if (parent / "task.json").is_file():
            return TaskSpec.load(parent / "task.json")
    return None


def check_scene(settings: Settings, spec: TaskSpec) -> Mapping[str, float]:
    """Compile and settle the scene for a few seeds; returns figures for the console and the report."""
    return target(settings, "check_scene")(spec, seed=settings["seed"])


# Demonstrations.


def collect_demos(
    settings: Settings, spec: TaskSpec, paths: RunPaths, console: Console, *, n: int, workers: int
) -> Any:
    """Expert demonstrations into ``demos/``; returns simgen's DemoReport."""
    collect = target(settings, "collect")
    return collect(spec, paths.demos, n=n, seed=settings["seed"], workers=workers, progress=console.progress)


def export_dataset(settings: Settings, spec: TaskSpec, store_dir: Path, paths: RunPaths, console: Console) -> Path:
    """The demonstrations as a LeRobot dataset in ``dataset/``."""
    from tqdm import tqdm

    store = target(settings, "open_store")(store_dir)
    return target(settings, "export")(
        store,
        paths.dataset,
        repo_id=f"robostack/{spec.name}",
        fps=round(spec.robot.control_hz),
        progress=partial(tqdm, desc="dataset", unit="episode", disable=not console.progress),
    )


def find_dataset(given: str) -> Path:
    """The dataset of ``dataset=<folder>``: the dataset itself, or a folder of ``robostack demos`` or ``run``.

    Raises:
        DataError: when there is none.
    """
    folder = Path(given)
    for candidate in (folder / "dataset", folder):
        if (candidate / "meta" / "info.json").is_file():
            return candidate
    raise DataError(f"no dataset at {folder}: pass dataset=<the folder that  robostack demos  wrote>")


def load_dataset(settings: Settings, dataset: Path) -> Any:
    """The dataset in memory, as EpisodeArrays."""
    return target(settings, "load_arrays")(dataset)


# Policy.


def plan_training(settings: Settings) -> Plan:
    """Turn ``policy.*`` into the trainer's and the policy's frozen Cfgs, each value going to the one that knows it."""
    values = dict(settings["policy"])
    name = str(values.pop("name"))
    train_class = target(settings, "train_cfg")
    shared = {"seed": settings["seed"], "device": resolve_device(settings["device"])}
    known = cfg_fields(train_class)
    train_values = {key: values.pop(key) for key in list(values) if key in known}
    train_values.update({key: value for key, value in shared.items() if key in known})
    train_cfg = build_cfg(train_class, train_values, "policy")
    return Plan(train_cfg, name, build_cfg(target(settings, "policy_cfg")(name), values, "policy"))


def train_policy(settings: Settings, plan: Plan, dataset: Path, paths: RunPaths, console: Console) -> Trained:
    """Train into ``policy/``, unless a finished training lies there already."""
    record = paths.policy / TRAIN_RECORD
    if record.is_file():
        return read_training(paths.policy)
    arrays = load_dataset(settings, dataset)
    fit = target(settings, "fit")
    result = fit(
        plan.train_cfg, plan.policy_name, plan.policy_cfg, arrays, out_dir=paths.policy, progress=console.progress
    )
    losses = tuple(float(loss) for loss in result.losses)
    if losses and not math.isfinite(losses[-1]):
        raise ConfigError(f"the training loss became {losses[-1]}: lower policy.lr and pass fresh=true")
    trained = Trained(Path(result.checkpoint), losses, float(result.wall_s), float(result.steps_per_s))
    write_json(
        record,
        {
            "checkpoint": str(trained.checkpoint.resolve().relative_to(paths.policy.resolve())),
            "losses": [loss if math.isfinite(loss) else None for loss in losses],
            "wall_s": trained.wall_s,
            "steps_per_s": trained.steps_per_s,
        },
    )
    _log_training(settings, trained, paths)
    return trained


def _log_training(settings: Settings, trained: Trained, paths: RunPaths) -> None:
    block = dict(settings["logger"])
    logger = locate(block.pop("_target_"), "logger._target_")
    logger(trained.losses, config=settings, out_dir=paths.root, **block)


def read_training(policy_dir: Path) -> Trained:
    """The record of a finished training.

    Raises:
        CheckpointError: when it is damaged.
    """
    record = policy_dir / TRAIN_RECORD
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        losses = tuple(math.nan if loss is None else float(loss) for loss in values["losses"])
        wall_s, steps_per_s = float(values["wall_s"]), float(values["steps_per_s"])
        return Trained(policy_dir / values["checkpoint"], losses, wall_s, steps_per_s)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{record} is damaged ({error}): delete it and train again") from error


def find_checkpoint(given: str) -> Path:
    """The checkpoint of ``checkpoint=<folder>``: the checkpoint itself, or a folder of ``robostack train`` or ``run``.

    Raises:
        CheckpointError: when there is none.
    """
    folder = Path(given)
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint at {folder}: pass checkpoint=<the folder that  robostack train  wrote>")
    for policy_dir in (folder / "policy", folder):
        if (policy_dir / TRAIN_RECORD).is_file():
            return read_training(policy_dir).checkpoint
    if (folder / "config.yaml").is_file() and (folder / "policy").exists():
        raise CheckpointError(f"the training in {folder} is unfinished: resume it with  out={folder}")
    return folder


# Evaluation.


def evaluate_policy(
    settings: Settings, spec: TaskSpec, checkpoint: Path, paths: RunPaths, console: Console, *, n: int, workers: int
) -> Any:
    """Seeded rollouts into ``eval/``; returns the kernel's EvalReport. Workers locate ``load_policy`` themselves."""
    return target(settings, "evaluate")(
        spec,
        checkpoint,
        load_policy_target=settings["targets"]["load_policy"]["_target_"],
        n=n,
        seed=settings["seed"],
        workers=workers,
        sampler=build_sampler(settings),
        out_dir=paths.eval,
        progress=console.progress,
    )


def build_sampler(settings: Settings) -> Any:
    """The sampler record of ``sampler=<option>``."""
    block = dict(settings["sampler"])
    sampler_class = locate(block.pop("_target_"), "sampler._target_")
    return build_cfg(sampler_class, block, "sampler")


# Common.


def resolve_workers(workers: int | str) -> int:
    """``auto`` is one worker per core that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)


def resolve_device(device: str) -> str:
    """``auto`` is CUDA where present, else the CPU.

    Raises:
        DeviceUnavailable: when the chosen device is not on this machine.
    """
    if device == "cpu":
        return device
    torch_cuda = locate("torch.cuda", "device")
    count = torch_cuda.device_count() if torch_cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match and int(match.group(1) or 0) < count:
        return device
    if device == "mps" and locate("torch.backends.mps", "device").is_available():
        return device
    raise DeviceUnavailable(f"device={device} is not on this machine ({count} CUDA devices): pass device=auto or cpu")


def summary(report: Any) -> dict[str, bool | int | float | str | None]:
    """The scalar fields of a report dataclass (or of a mapping): what ``metrics.json`` and the page can show."""
    values = dict(report) if isinstance(report, Mapping) else _fields(report)
    return {key: _scalar(value) for key, value in values.items() if _is_scalar(value)}


def _fields(report: Any) -> dict[str, Any]:
    return {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, Path)) or getattr(value, "shape", None) == ()


def _scalar(value: Any) -> bool | int | float | str | None:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def loss_summary(losses: Sequence[float]) -> dict[str, float | None]:
    """First and last loss."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return {"first_loss": finite[0] if finite else None, "last_loss": finite[-1] if finite else None}
