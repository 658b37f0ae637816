"""The stages of the main job, each a small function from what lies on disk to what lies on disk.

Every stage may be repeated: it finds what an earlier, interrupted command left in its own folder and goes on there.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robostack.cli.console import Console
from robostack.cli.settings import Settings
from robostack.cli.targets import build_cfg, cfg_fields, locate, target
from robostack.cli.workspace import RunPaths
from robostack.data.arrays import EpisodeArrays
from robostack.data.atomic import write_atomic
from robostack.errors import CheckpointError, ConfigError, DataError, SpecError
from robostack.paths import data_dirs
from robostack.task.benchmark import BENCHMARKS, Task, load_task
from robostack.task.spec import TaskSpec

# Task.

_ID = re.compile(r"[0-9a-f]{4,16}\Z")


def propose_task(settings: Settings) -> TaskSpec:
    """The TaskSpec of the sentence, with the chosen control mode."""
    spec: TaskSpec = target(settings, "propose")(settings["sentence"], settings["robot"])
    robot = spec.robot.model_copy(update={"control_mode": settings["control_mode"]})
    return spec.model_copy(update={"robot": robot})


def save_task(spec: Task, paths: RunPaths) -> None:
    """Write ``task.json``; when resuming, the task must still be the same.

    Raises:
        ConfigError: when the folder holds another task, as after an update of robostack.
    """
    if paths.task.is_file() and load_task(paths.task).id != spec.id:
        raise ConfigError(f"{paths.task} is another task than this robostack makes of the sentence: pass fresh=true")
    write_atomic(paths.task, f"{spec.to_json()}\n".encode())


def find_task(given: str) -> Task:
    """The benchmark of that name, or the task that ``find_task_file`` finds."""
    return BENCHMARKS[given]() if given in BENCHMARKS else load_task(find_task_file(given))


def find_task_folder(given: str) -> Path | None:
    """Where the task that ``find_task`` finds lies; None for a benchmark."""
    return None if given in BENCHMARKS else find_task_file(given).parent


def find_task_file(given: str) -> Path:
    """The ``task.json`` of ``task=<file or folder>``, or of the library's task whose id begins with what is given.

    Raises:
        SpecError: no such task, or several whose ids begin so.
    """
    path = Path(given)
    if not path.exists() and _ID.match(given):
        path = _in_library(given)
    return path / "task.json" if path.is_dir() else path


def _in_library(prefix: str) -> Path:
    found = sorted({path.name: path for root in data_dirs() for path in (root / "tasks").glob(f"{prefix}*")}.items())
    if len(found) == 1:
        return found[0][1]
    if not found:
        raise SpecError(f"no task of the library has an id that begins with '{prefix}': see  robostack gen library")
    raise SpecError(f"'{prefix}' begins the ids of several tasks: {', '.join(name for name, _ in found[:8])}")


def find_task_near(folder: Path) -> Task | None:
    """The ``task.json`` in a folder or up to three levels above it."""
    resolved = folder.resolve()
    for parent in (resolved, *list(resolved.parents)[:3]):
        if (parent / "task.json").is_file():
            return load_task(parent / "task.json")
    return None


def check_scene(settings: Settings, spec: TaskSpec) -> Any:
    """Compile and settle the scene for a few seeds; returns figures for the console and the report."""
    return target(settings, "check_scene")(spec, seed=settings["seed"])


# Demonstrations.


def collect_demos(
    settings: Settings, spec: Task, paths: RunPaths, console: Console, *, n: int, workers: int, **options: Any
) -> Any:
    """Expert demonstrations into ``demos/``; returns simgen's DemoReport."""
    seed, progress = settings["seed"], console.progress
    return target(settings, "collect")(spec, paths.demos, n=n, seed=seed, workers=workers, progress=progress, **options)


def export_dataset(
    settings: Settings, wanted: Settings, spec: Task, demos: Any, paths: RunPaths, console: Console
) -> Path:
    """The demonstrations of a DemoReport as a LeRobot dataset in ``dataset/``, with the looks of ``wanted``."""
    from tqdm import tqdm

    size, points = wanted["image_size"], wanted.get("points", 0)
    cameras = [(str(name), size, size) for name in wanted["cameras"]]
    store = target(settings, "open_store")(demos.store_dir)
    return target(settings, "export")(
        store,
        paths.dataset,
        repo_id=f"robostack/{spec.name}",
        fps=round(spec.robot.control_hz),
        frames=target(settings, "render")(spec, cameras) if cameras else None,
        cameras=cameras,
        seeds=demos.seeds,
        progress=partial(tqdm, desc="dataset", unit="episode", disable=not console.progress),
        **({"clouds": target(settings, "clouds")(spec, points), "points": points} if points else {}),
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


def find_datasets(given: str) -> list[Path]:
    """The datasets of ``dataset=<folder>`` or ``dataset=[<folder>,<folder>]``, each as ``find_dataset`` finds it.

    Raises:
        DataError: when there is none at one of the folders.
    """
    if not (given.startswith("[") and given.endswith("]")) or Path(given).is_dir():
        return [find_dataset(given)]
    return [find_dataset(folder.strip().strip("'\"")) for folder in given[1:-1].split(",")]


def find_common_task(folders: Sequence[Path]) -> Task | None:
    """The task near all of the folders, as ``find_task_near`` finds it; None where they are of several."""
    tasks = [find_task_near(folder) for folder in folders]
    return tasks[0] if len({task.id if task is not None else None for task in tasks}) == 1 else None


def load_dataset(settings: Settings, given: Path | Sequence[Path], policy_cfg: Any = None) -> Any:
    """A dataset, or several, as one EpisodeArrays: vectors in memory, and what a policy with this Cfg looks at.

    Raises:
        DataError: one that cannot be used, or several that differ in more than what is done in them.
    """
    datasets = [given] if isinstance(given, Path) else given
    cameras, points = looks(policy_cfg)
    wanted = ({"cameras": cameras} if cameras else {}) | ({"points": True} if points else {})
    loaded = [target(settings, "load_arrays")(dataset, **wanted) for dataset in datasets]
    return loaded[0] if len(loaded) == 1 else EpisodeArrays.concatenate(loaded, [str(path) for path in datasets])


def looks(policy_cfg: Any) -> tuple[tuple[str, ...], bool]:
    """The cameras that a policy with this Cfg looks at, and whether it looks at point clouds."""
    image, points = (getattr(policy_cfg, name, None) for name in ("image", "points"))
    return (tuple(image.cameras) if image is not None else ()), points is not None


def require_looks(plan: Plan, demos: Settings) -> None:
    """Raise ConfigError when the policy will look at what the demonstrations are not going to show."""
    cameras, points = looks(plan.policy_cfg)
    missing = [name for name in cameras if name not in demos["cameras"]]
    if missing:
        raise ConfigError(
            f"the policy looks at camera '{missing[0]}', which the demonstrations lack: "
            f"pass demos.cameras=[{','.join(cameras)}]"
        )
    if points and not demos["points"]:
        raise ConfigError("the policy looks at point clouds, which the demonstrations lack: pass demos.points=512")


# Policy.


@dataclass(frozen=True)
class Plan:
    """What training will use, built before any work starts so that a wrong value is refused at once."""

    train_cfg: Any
    policy_name: str
    policy_cfg: Any

    def times(self, factor: float) -> Plan:
        """The same training, ``factor`` times as long."""
        steps = max(1, round(factor * self.train_cfg.steps))
        return dataclasses.replace(self, train_cfg=dataclasses.replace(self.train_cfg, steps=steps))


def plan_training(settings: Settings, console: Console) -> Plan:
    """Turn ``policy.*`` into the trainer's and the policy's frozen Cfgs, each value going to the one that knows it."""
    values = dict(settings["policy"])
    name = str(values.pop("name"))
    policy_class = locate(str(values.pop("_target_")), "policy._target_")
    train_class = target(settings, "train_cfg")
    target(settings, "resolve_device")(settings["device"])
    shared = {
        "seed": settings["seed"],
        "device": settings["device"],
        "logger": settings["logger"]["name"],
        "progress": console.progress,
    }
    known = cfg_fields(train_class)
    train_values = {key: values.pop(key) for key in list(values) if key in known}
    train_cfg = build_cfg(train_class, {**train_values, **shared}, "policy")
    plan = Plan(train_cfg, name, build_cfg(policy_class, values, "policy"))
    if "sampler" in settings:
        require_sampler(settings, plan, settings["sampler"]["name"])
    return plan


def require_sampler(settings: Settings, plan: Plan, sampler: str) -> None:
    """Refuse a sampler that the policy of a training will not be able to act with."""
    target(settings, "require_sampler")(plan.policy_name, plan.policy_cfg, sampler)


def train_policy(settings: Settings, plan: Plan, datasets: Path | Sequence[Path], paths: RunPaths) -> Any:
    """Train into ``policy/``; returns the trainer's TrainResult, at once when a finished training lies there."""
    arrays = load_dataset(settings, datasets, plan.policy_cfg)
    return target(settings, "fit")(plan.train_cfg, plan.policy_name, plan.policy_cfg, arrays, paths.policy)


def training_figures(result: Any) -> dict[str, Any]:
    """What ``metrics.json`` holds about training: speed, and the last losses."""
    last = summary(result.losses[-1]) if result.losses else {}
    return {"wall_s": result.wall_s, "steps_per_s": result.steps_per_s, **{f"loss_{k}": v for k, v in last.items()}}


def find_checkpoint(given: str) -> Path:
    """The checkpoint of ``checkpoint=<folder>``: the checkpoint itself, or a folder of ``robostack train`` or ``run``.

    Raises:
        CheckpointError: when there is none.
    """
    folder = Path(given)
    for candidate in (folder / "policy" / "checkpoint", folder / "checkpoint"):
        if candidate.is_dir():
            return candidate
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint at {folder}: pass checkpoint=<the folder that  robostack train  wrote>")
    if (folder / "config.yaml").is_file() and (folder / "policy").is_dir():
        raise CheckpointError(f"the training in {folder} is unfinished: repeat its command to resume it")
    return folder


# Evaluation.


def evaluate_policy(
    settings: Settings,
    spec: Task,
    checkpoint: Path,
    paths: RunPaths,
    console: Console,
    *,
    n: int,
    workers: int,
    **options: Any,
) -> Any:
    """Seeded rollouts into ``eval/``; returns the kernel's EvalReport. Workers locate ``load_policy`` themselves."""
    return target(settings, "evaluate")(
        spec,
        checkpoint,
        load_policy_target=settings["targets"]["load_policy"]["_target_"],
        n=n,
        seed=settings["seed"],
        workers=workers,
        sampler=settings["sampler"]["name"],
        execution=settings.get("execution", "sync"),
        latency=settings.get("latency", "none"),
        accelerate=settings.get("accelerate", "none"),
        any_task=settings.get("any_task", False),
        out_dir=paths.eval,
        progress=console.progress,
        **options,
    )


# Common.


def resolve_workers(workers: int | str) -> int:
    """``auto`` is one worker per core that this process may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else int(workers)


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
