"""Multiplication: one certified task becomes demonstrations on new scenes, with objects of other sizes and colours.

An instance is the same task with every object larger or smaller by one factor, and with its colours exchanged
consistently, in the objects as in the words. The expert solves each instance again through the actuators; what is kept
held the goal to the end and replays bit-exactly. The acceptance says how far the certificate carries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robostack.data.atomic import storage_errors, write_atomic, write_json
from robostack.errors import ConfigError, ExpertError, SceneError
from robostack.evaluation.stats import wilson
from robostack.sim.cards import load_asset
from robostack.task.check import check
from robostack.task.spec import Entity, TaskSpec
from simgen.demos import DemoReport, collect

_DECIMALS = 2  # of a scale: an instance can be told from its neighbour


@dataclass(frozen=True)
class Instance:
    """One variation of a task.

    Attributes:
        scale: factor on the size of every object.
        colors: old colour -> new colour, for those that change.
    """

    spec: TaskSpec
    scale: float
    colors: Mapping[str, str]


@dataclass(frozen=True)
class Harvest:
    """Demonstrations of one instance; ``refused`` says why there are none."""

    instance: Instance
    folder: Path
    report: DemoReport | None
    refused: str = ""


@dataclass(frozen=True)
class MultiplyReport:
    """Outcome of a multiplication.

    Attributes:
        n: demonstrations kept; each held its goal and replays bit-exactly.
        attempts: scenes tried for them.
        acceptance: n / attempts, with Wilson's 95 % interval.
        instances: variations that gave demonstrations.
    """

    n: int
    attempts: int
    acceptance: float
    ci_low: float
    ci_high: float
    instances: int
    harvests: tuple[Harvest, ...]


def multiply(
    spec: TaskSpec,
    out_dir: Path | str,
    *,
    n: int,
    instances: int = 4,
    size_jitter: float = 0.1,
    recolor: bool = True,
    seed: int = 1,
    workers: int = 1,
    progress: bool = False,
) -> MultiplyReport:
    """Collect ``n`` demonstrations, spread evenly over the instances; the first instance is the task itself.

    What an instance cannot give, since the expert fails on it, the following ones give instead. Each instance has a
    folder of its own with ``task.json`` and ``demos/``, and goes on where an interrupted call stopped.

    Args:
        spec: the task.
        out_dir: parent of the instances' folders, which are named by their tasks' ids.
        n: demonstrations.
        instances: variations, the task itself included.
        size_jitter: objects are larger or smaller by up to this fraction.
        recolor: whether colours are exchanged.
        seed: picks variations and scenes; another one than that of the certificate's scenes.
        workers: processes.
        progress: whether to show progress bars.

    Raises:
        ConfigError: n or instances below 1, or a jitter outside [0, 0.5].
        ExpertError: no instance gave as much as was asked of it.
    """
    if n < 1 or instances < 1 or not 0.0 <= size_jitter <= 0.5:
        raise ConfigError(
            f"multiplication needs n >= 1, instances >= 1 and size_jitter in 0 to 0.5, not n={n}, "
            f"instances={instances}, size_jitter={size_jitter:g}"
        )
    out_dir, chosen = Path(out_dir), vary(spec, instances, size_jitter=size_jitter, recolor=recolor, seed=seed)
    harvests: list[Harvest] = []
    missing = n
    for index, instance in enumerate(chosen):
        share = -(-missing // (len(chosen) - index))
        if not share:
            break
        harvest = _harvest(instance, out_dir, share, seed=seed, workers=workers, progress=progress)
        missing -= harvest.report.n if harvest.report else 0
        harvests.append(harvest)
    if missing == n:
        raise ExpertError(f"no instance of '{spec.name}' gave demonstrations: {harvests[-1].refused}")
    report = _report(n - missing, harvests)
    write_json(out_dir / "instances.json", {"instances": [_values(harvest) for harvest in harvests]})
    return report


def vary(spec: TaskSpec, count: int, *, size_jitter: float, recolor: bool, seed: int) -> list[Instance]:
    """The task and up to ``count - 1`` different variations of it, the same for the same seed.

    There are fewer when nothing can be varied: no jitter and no second colour to exchange.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    found = {spec.id: Instance(spec, 1.0, {})}
    for _ in range(20 * count):
        if len(found) >= count:
            break
        scale = round(1.0 + float(rng.uniform(-size_jitter, size_jitter)), _DECIMALS)
        colors = _exchange([entity.color for entity in spec.entities], rng) if recolor else {}
        variant = resize(recolored(spec, colors), scale)
        check(variant)
        found.setdefault(variant.id, Instance(variant, scale, colors))
    return list(found.values())


def resize(spec: TaskSpec, scale: float) -> TaskSpec:
    """Every object but painted zones larger by a factor: one for all, so that what fits still fits."""
    if scale == 1.0:
        return spec
    return spec.model_copy(update={"entities": tuple(_resized(entity, scale) for entity in spec.entities)})


def _resized(entity: Entity, scale: float) -> Entity:
    if entity.role == "zone":
        return entity
    size = entity.size or load_asset(entity.card).size
    return entity.model_copy(update={"size": tuple(round(length * scale, 6) for length in size)})


def recolored(spec: TaskSpec, colors: Mapping[str, str]) -> TaskSpec:
    """The task with colours replaced everywhere: objects, their ids, the goal, and the words.

    Raises:
        ConfigError: two colours would become one.
    """
    moved = {old: new for old, new in colors.items() if old != new}
    if not moved:
        return spec
    kept = {entity.color for entity in spec.entities} - set(moved)
    if len(set(moved.values())) < len(moved) or kept & set(moved.values()):
        raise ConfigError(f"colours {dict(colors)} would make two colours of '{spec.name}' one")
    pattern = re.compile(rf"(?<![a-z])({'|'.join(map(re.escape, sorted(moved)))})(?![a-z])")
    text = json.dumps(spec.model_dump(mode="json", by_alias=True))
    return TaskSpec.from_json(pattern.sub(lambda match: moved[match.group(1)], text), f"an instance of {spec.name}")


def _exchange(colors: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    used = sorted(set(colors))
    new = [used[i] for i in rng.permutation(len(used))]
    return {old: color for old, color in zip(used, new, strict=True) if old != color}


def _harvest(instance: Instance, out_dir: Path, n: int, *, seed: int, workers: int, progress: bool) -> Harvest:
    folder = out_dir / instance.spec.id
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "task.json", f"{instance.spec.to_json()}\n".encode())
    try:
        report = collect(instance.spec, folder / "demos", n=n, seed=seed, workers=workers, progress=progress)
    except (ExpertError, SceneError) as error:
        return Harvest(instance, folder, None, str(error))
    return Harvest(instance, folder, report)


def _report(n: int, harvests: Sequence[Harvest]) -> MultiplyReport:
    good = [harvest.report for harvest in harvests if harvest.report is not None]
    attempts = sum(report.attempts for report in good)
    interval = wilson(n, attempts)
    return MultiplyReport(n, attempts, n / attempts, interval.low, interval.high, len(good), tuple(harvests))


def _values(harvest: Harvest) -> dict[str, object]:
    report = harvest.report
    counts = {"demos": report.n, "attempts": report.attempts} if report else {"refused": harvest.refused}
    varied = {"scale": harvest.instance.scale, "colors": dict(harvest.instance.colors)}
    return {"task_id": harvest.instance.spec.id, **varied, **counts}
