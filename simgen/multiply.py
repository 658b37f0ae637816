"""Multiplication: one certified task becomes demonstrations on new scenes, with objects of other sizes and colours.

An instance is the same task with every object larger or smaller by one factor, and with its colours exchanged
consistently, in the objects as in the words. The keyframes of a few certified demonstrations are carried into each new
scene (MimicGen, Mandlekar et al. 2023); what is kept held the goal to the end and replays bit-exactly. The acceptance
says how far the certificate carries; where nothing was kept, the expert may solve the scene anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from robostack.data.atomic import storage_errors, write_atomic, write_json
from robostack.data.raw import RawStore
from robostack.errors import ConfigError, ExpertError, SceneError, UnknownName
from robostack.evaluation.stats import wilson
from robostack.sim.cards import load_asset
from robostack.task.check import check
from robostack.task.spec import Entity, TaskSpec
from simgen.demos import DemoReport, TooFewSolved, collect
from simgen.experts.keyframe import FILE
from simgen.experts.method import ORDER, weights_path
from simgen.teach import Shown, scaled, teach, write_keyframes

Methods = Literal["keyframe", "expert"]
METHODS: tuple[Methods, ...] = ("keyframe", "expert")

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
    """What came of one instance.

    Attributes:
        report: of its demonstrations; None where it was refused.
        attempts: scenes tried.
        accepted: scenes that the method asked for solved alone.
        by_expert: scenes in which the expert had to help, subgoal by subgoal, after the method asked for.
        failures: code -> scenes that failed so.
        refused: why there are no demonstrations: too few scenes were solved, or there is no scene.
    """

    instance: Instance
    folder: Path
    report: DemoReport | None = None
    attempts: int = 0
    accepted: int = 0
    by_expert: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True)
class MultiplyReport:
    """Outcome of a multiplication.

    Attributes:
        n: demonstrations kept; each held its goal and replays bit-exactly.
        attempts: scenes tried, those of refused instances included.
        accepted: scenes that the method asked for solved alone, those of refused instances included.
        acceptance: accepted / attempts, with Wilson's 95 % interval.
        instances: variations that gave demonstrations.
        refused: variations that were given up, since too few of their scenes were solved or there is none.
    """

    n: int
    attempts: int
    accepted: int
    acceptance: float
    ci_low: float
    ci_high: float
    instances: int
    refused: int
    harvests: tuple[Harvest, ...]


def multiply(
    spec: TaskSpec,
    out_dir: Path | str,
    *,
    n: int,
    instances: int = 4,
    size_jitter: float = 0.1,
    recolor: bool = True,
    methods: Methods = "keyframe",
    fallback: bool = False,
    keyframes: Path | None = None,
    folder: Path | None = None,
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
        methods: ``keyframe`` carries demonstrations over; ``expert`` solves every scene anew.
        fallback: whether the expert may help where keyframes fail; the acceptance counts these as refused.
        keyframes: the file of the task's certificate; the expert demonstrates the task where it is not enough.
        folder: of the task, with the actors that were learned for its subgoals; they serve every instance.
        seed: picks variations and scenes; another one than that of the certificate's scenes.
        workers: processes.
        progress: whether to show progress bars.

    Raises:
        ConfigError: n or instances below 1, or a jitter outside [0, 0.5].
        UnknownName: no such way.
        ExpertError: no instance gave as much as was asked of it.
    """
    _check(methods, n, instances, size_jitter)
    out_dir, chosen = Path(out_dir), vary(spec, instances, size_jitter=size_jitter, recolor=recolor, seed=seed)
    shown: Shown = teach(spec, out_dir / FILE, keyframes, folder) if methods == "keyframe" else {}
    allowed = None if methods == "expert" else ("keyframe", *ORDER) if fallback else ("keyframe",)
    options = {"seed": seed, "workers": workers, "progress": progress, "methods": allowed}
    harvests = _gather(chosen, out_dir, n, shown, folder, options)
    write_json(out_dir / "instances.json", {"instances": [_values(harvest) for harvest in harvests]})
    if not any(harvest.report for harvest in harvests):
        raise ExpertError(f"no instance of '{spec.name}' gave demonstrations: {harvests[-1].refused}")
    return _report(harvests)


def _check(methods: str, n: int, instances: int, size_jitter: float) -> None:
    if methods not in METHODS:
        raise UnknownName("methods", methods, METHODS)
    if n < 1 or instances < 1 or not 0.0 <= size_jitter <= 0.5:
        raise ConfigError(
            f"multiplication needs n >= 1, instances >= 1 and size_jitter in 0 to 0.5, not n={n}, "
            f"instances={instances}, size_jitter={size_jitter:g}"
        )


def _gather(
    chosen: Sequence[Instance], out_dir: Path, n: int, shown: Shown, folder: Path | None, options: dict[str, Any]
) -> tuple[Harvest, ...]:
    """Demonstrations of the instances in turn, until there are ``n``."""
    harvests: list[Harvest] = []
    missing = n
    for index, instance in enumerate(chosen):
        share = -(-missing // (len(chosen) - index))
        if not share:
            break
        own = _instance_folder(instance, out_dir, shown, folder)
        harvest = _harvest(instance, own, share, options)
        missing -= harvest.report.n if harvest.report else 0
        harvests.append(harvest)
    return tuple(harvests)


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
    text = json.dumps(spec.model_dump(mode="json", by_alias=True))
    return TaskSpec.from_json(_reworded(text, moved), f"an instance of {spec.name}")


def _reworded(text: str, moved: Mapping[str, str]) -> str:
    """Words exchanged where they stand alone or as part of an id."""
    if not moved:
        return text
    pattern = re.compile(rf"(?<![a-z])({'|'.join(map(re.escape, sorted(moved)))})(?![a-z])")
    return pattern.sub(lambda match: moved[match.group(1)], text)


def _exchange(colors: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    used = sorted(set(colors))
    new = [used[i] for i in rng.permutation(len(used))]
    return {old: color for old, color in zip(used, new, strict=True) if old != color}


def _instance_folder(instance: Instance, out_dir: Path, shown: Shown, origin: Path | None) -> Path:
    """A task's folder for an instance: its spec, the demonstrations as they would be with its objects, the actors."""
    folder = out_dir / instance.spec.id
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "task.json", f"{instance.spec.to_json()}\n".encode())
    for index in range(len(instance.spec.subgoals)):
        if (learned := weights_path(origin, index)) is not None:
            write_atomic(folder / learned.name, learned.read_bytes())
    if shown:
        resized = scaled(shown, instance.scale)
        write_keyframes(json.loads(_reworded(json.dumps(resized), instance.colors)), folder / FILE)
    return folder


def _harvest(instance: Instance, folder: Path, n: int, options: dict[str, Any]) -> Harvest:
    demos = folder / "demos"
    try:
        report = collect(instance.spec, demos, n=n, folder=folder, **options)
    except SceneError as error:
        return Harvest(instance, folder, refused=str(error))
    except TooFewSolved as error:
        report, tried, refused = None, error, str(error)
    else:
        tried, refused = report, ""
    helped = _helped(demos, tried.seeds) if options["methods"] else 0
    accepted = len(tried.seeds) - helped
    return Harvest(instance, folder, report, tried.attempts, accepted, helped, tried.failures, refused)


def _helped(store_dir: Path, seeds: Sequence[int]) -> int:
    """Demonstrations of which not all was done by keyframes."""
    store = RawStore(store_dir)
    return sum(bool(set(store.load(seed).methods) - {"keyframe", ""}) for seed in seeds)


def _report(harvests: tuple[Harvest, ...]) -> MultiplyReport:
    good = [harvest.report for harvest in harvests if harvest.report is not None]
    attempts, accepted = sum(harvest.attempts for harvest in harvests), sum(harvest.accepted for harvest in harvests)
    low, high = wilson(accepted, attempts)
    return MultiplyReport(
        n=sum(report.n for report in good),
        attempts=attempts,
        accepted=accepted,
        acceptance=accepted / attempts,
        ci_low=low,
        ci_high=high,
        instances=len(good),
        refused=len(harvests) - len(good),
        harvests=harvests,
    )


def _values(harvest: Harvest) -> dict[str, object]:
    low, high = wilson(harvest.accepted, harvest.attempts) if harvest.attempts else (0.0, 1.0)
    return {
        "task_id": harvest.instance.spec.id,
        "scale": harvest.instance.scale,
        "colors": dict(harvest.instance.colors),
        "demos": harvest.report.n if harvest.report else 0,
        "attempts": harvest.attempts,
        "accepted": harvest.accepted,
        "by_expert": harvest.by_expert,
        "wilson95": [round(low, 4), round(high, 4)],
        "failures": dict(harvest.failures),
        "refused": harvest.refused,
    }
