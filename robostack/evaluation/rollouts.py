"""Honest evaluation: seeded rollouts on scenes that no demonstration has seen, in parallel, resumable.

Each worker process runs whole episodes with its own policy on one thread, so that latencies are those of single
decisions and results do not depend on the number of workers: the noise of an episode comes from its seed alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import Executor as Pool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from robostack.data.atomic import read_json, remove_leftovers, storage_errors, write_atomic, write_json
from robostack.errors import CheckpointError, ConfigError, DataError, InvalidAction, SceneError
from robostack.evaluation.environment import Cameras, EvaluationEnv, make_env, task_features
from robostack.evaluation.stats import wilson
from robostack.runtime.execution import Executor
from robostack.runtime.latency import LatencyModel
from robostack.runtime.pool import worker_pool
from robostack.sim.scene import eval_seed
from robostack.task.benchmark import Task, task_from_json

_SEEDS_PER_RUN = 1_000_000
_WARM_UP = 3
_HEADER = "evaluation.json"


@dataclass(frozen=True)
class Rollout:
    """One evaluation episode.

    Attributes:
        seed: scene seed.
        success: goal held at the end of the episode, nothing violated.
        first_success_s: when the goal was first held [s]; NaN if never.
        failure: code computed from predicates; empty on success.
        steps: control steps executed.
        held: of these, steps in which the robot had nothing to do but hold still, because a decision took too long.
        evaluations: of the policy's network; None when it does not count them.
        latencies_s: wall time of each decision [s].
        qpos: configuration of the environment before each control step, for pictures.
        score: the environment's own measure of how good the episode was; None where it has none.
    """

    seed: int
    success: bool
    first_success_s: float
    failure: str
    steps: int
    held: int
    evaluations: int | None
    latencies_s: np.ndarray
    qpos: np.ndarray
    score: float | None = None

    @property
    def decisions(self) -> int:
        """How often the policy was asked."""
        return len(self.latencies_s)


@dataclass(frozen=True)
class EvalReport:
    """Aggregate of an evaluation. Rates are shares of n; the interval is Wilson's at 95 %.

    Attributes:
        decisions: of all episodes.
        held_steps: control steps of all episodes in which the robot waited for a decision.
        nfe_per_decision: network evaluations per decision; NaN when the policy does not count them.
        nfe_per_action: network evaluations per command that a decision gave.
        mean_score: of the episodes that have one; NaN when none has.
    """

    n: int
    successes: int
    success_rate: float
    ci_low: float
    ci_high: float
    first_time_success: float
    latency_p50_ms: float
    latency_p99_ms: float
    decisions: int
    held_steps: int
    nfe_per_decision: float
    nfe_per_action: float
    failures: dict[str, int]
    rollouts: tuple[Rollout, ...]
    mean_score: float = math.nan


def evaluate(
    spec: Task,
    checkpoint: Path | str,
    *,
    load_policy_target: str,
    n: int,
    seed: int,
    workers: int,
    sampler: str,
    execution: str,
    latency: str,
    accelerate: str = "none",
    any_task: bool = False,
    out_dir: Path | str,
    progress: bool,
    pool: Pool | None = None,
) -> EvalReport:
    """Roll the policy out on ``n`` evaluation seeds; what ``out_dir`` already holds of this evaluation is kept.

    Args:
        spec: the task; its robot and features must be those of the checkpoint.
        checkpoint: directory of the policy.
        load_policy_target: dotted name of ``load(path, device, sampler, accelerate) -> Policy``.
        n: episodes.
        seed: selects the evaluation scenes; disjoint from every training scene.
        workers: processes.
        sampler: name of the policy's sampler.
        execution: name in ``EXECUTORS``.
        latency: how long decisions take while the world goes on; see ``LatencyModel.parse``.
        accelerate: what runs the policy's network, one of ``ACCELERATIONS``.
        any_task: accept a checkpoint of another task, if its features are the same.
        out_dir: where episodes are logged.
        progress: whether to show a progress bar.
        pool: a ``worker_pool(workers, idle, ())`` that many evaluations share, which saves its start-up.

    Raises:
        UnknownName: no such sampler or execution.
        ConfigError: n or workers below 1, a latency that cannot be read, or a policy that cannot be executed so.
        CheckpointError: unusable, or trained on another task.
        DataError: ``out_dir`` holds another evaluation.
    """
    if n < 1 or workers < 1:
        raise ConfigError(f"an evaluation needs n >= 1 and workers >= 1, not n={n}, workers={workers}")
    out_dir, checkpoint = Path(out_dir), Path(checkpoint)
    model, weights = LatencyModel.parse(latency), _fingerprint(checkpoint)
    setting = _Setting(load_policy_target, checkpoint, weights, sampler, execution, model, accelerate, any_task)
    _executor(spec, setting)  # refuse what cannot work before any process starts
    _open(out_dir, {"task_id": spec.id, **setting.header})
    seeds = choose_seeds(seed, n)
    missing = [s for s in seeds if not _path(out_dir, s).is_file()]
    if missing:
        workers = min(workers, len(missing))
        with (
            tqdm(total=n, initial=n - len(missing), disable=not progress, desc="evaluate") as bar,
            nullcontext(pool) if pool else worker_pool(workers, idle, ()) as shared,
        ):
            _run(missing, shared, 2 * workers, (spec.to_json(), setting, out_dir), bar)
    return _report([_load_rollout(_path(out_dir, s)) for s in seeds])


def choose_seeds(seed: int, n: int) -> list[int]:
    """Scene seeds of an evaluation: odd, while those of training are even."""
    return [eval_seed(seed * _SEEDS_PER_RUN + i) for i in range(n)]


def run_episode(env: EvaluationEnv, executor: Executor, scene_seed: int) -> Rollout:
    """One episode of a policy. A scene that cannot be built and an invalid action are failures, not crashes."""
    try:
        env.reset_scene(scene_seed)
    except SceneError as error:
        nothing = np.empty((0, len(env.configuration)), np.float32)
        return Rollout(scene_seed, False, math.nan, error.code, 0, 0, 0, np.empty(0), nothing)
    executor.reset(scene_seed)
    qpos, failure, steps = [], "", 0
    while not env.over:
        qpos.append(env.configuration.astype(np.float32))
        try:
            env.apply(executor.act(env.observe()))
        except InvalidAction:
            failure = "INVALID_ACTION"
            break
        steps += 1
    success = env.success and not failure
    if not success:
        failure = failure or env.failure()
    return Rollout(
        seed=scene_seed,
        success=success,
        first_success_s=env.first_success_s,
        failure=failure,
        steps=steps,
        held=executor.counters.starved,
        evaluations=executor.evaluations,
        latencies_s=np.array(executor.latency.samples_s),
        qpos=np.array(qpos, np.float32),
        score=env.score,
    )


def _run(seeds: list[int], pool: Pool, ahead: int, job: tuple[str, _Setting, Path], bar: tqdm) -> None:
    running: set[Future] = set()
    for seed in seeds:
        running.add(pool.submit(_rollout, *job, seed))
        if len(running) >= ahead:
            running = _collect(running, bar)
    while running:
        running = _collect(running, bar)


def _collect(running: set[Future], bar: tqdm) -> set[Future]:
    done, rest = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
        bar.update(1)
    return rest


# Worker.


@dataclass(frozen=True)
class _Setting:
    """How a worker makes its policy, and how it lets it act; ``weights`` is the checkpoint's fingerprint."""

    load_policy_target: str
    checkpoint: Path
    weights: str
    sampler: str
    execution: str
    latency: LatencyModel
    accelerate: str
    any_task: bool

    @property
    def header(self) -> dict[str, str]:
        named = {"checkpoint": self.weights, "sampler": self.sampler, "execution": self.execution}
        return {**named, "latency": str(self.latency), "accelerate": self.accelerate}


def idle() -> None:
    """Workers need no preparation: they keep what they made for the last episode."""


def _rollout(spec_json: str, setting: _Setting, out_dir: Path, seed: int) -> None:
    env, executor = _ready(spec_json, setting)
    with _single_thread():
        _save_rollout(_path(out_dir, seed), run_episode(env, executor, seed))


@lru_cache(maxsize=1)
def _ready(spec_json: str, setting: _Setting) -> tuple[EvaluationEnv, Executor]:
    """Environment and policy, which has decided before."""
    executor = _executor(task_from_json(spec_json), setting)
    seen = executor.policy.features
    env = _environment(spec_json, seen.cameras, seen.points)
    env.reset_scene(0)
    executor.reset(0)
    obs = env.observe()
    while len(executor.latency.samples_s) < _WARM_UP:  # the first calls allocate and are not what a decision costs
        with suppress(InvalidAction):  # each episode says so itself
            executor.act(obs)
        obs = dataclasses.replace(obs, t_s=obs.t_s + env.dt_s)
    return env, executor


@lru_cache(maxsize=1)
def _environment(spec_json: str, cameras: Cameras, points: int) -> EvaluationEnv:
    return make_env(task_from_json(spec_json), cameras, points)


@contextmanager
def _single_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _executor(spec: Task, setting: _Setting) -> Executor:
    module, _, name = setting.load_policy_target.rpartition(".")
    load = getattr(importlib.import_module(module), name)
    policy = load(setting.checkpoint, device="cpu", sampler=setting.sampler, accelerate=setting.accelerate)
    differences = policy.features.unmet(task_features(spec, policy.features.cameras, policy.features.points))
    if differences:
        raise CheckpointError(
            f"{setting.checkpoint} was trained for another setting ({'; '.join(differences)[:300]}): "
            "use a checkpoint of this task, robot and control mode, or train one"
        )
    trained_on = getattr(policy, "task_id", "")
    if trained_on not in ("", spec.id) and not setting.any_task:
        raise CheckpointError(
            f"{setting.checkpoint} was trained on another task, {trained_on} instead of {spec.id} "
            f"('{spec.instruction.text}'): use a checkpoint of this task, or pass any_task=true to see how it does here"
        )
    return Executor(policy, setting.execution, setting.latency)


# Disk.


def _path(out_dir: Path, seed: int) -> Path:
    return out_dir / "episodes" / f"seed_{seed}.npz"


def _open(out_dir: Path, header: dict[str, str]) -> None:
    path = out_dir / _HEADER
    if path.is_file():
        found = read_json(path, "delete the folder and evaluate again")
        changed = [key for key in header if found.get(key) != header[key]]
        if changed:
            raise DataError(
                f"{out_dir} holds an evaluation with another {', '.join(changed)}: choose another out folder"
            )
        remove_leftovers(out_dir / "episodes")
        return
    with storage_errors(out_dir):
        (out_dir / "episodes").mkdir(parents=True, exist_ok=True)
    write_json(path, header)


def _fingerprint(checkpoint: Path) -> str:
    """Of the manifest, which hashes the weights, and of the plans that samplers act by."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob("*.json")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _save_rollout(path: Path, rollout: Rollout) -> None:
    meta = {k: v for k, v in asdict(rollout).items() if k not in ("latencies_s", "qpos")}
    if math.isnan(rollout.first_success_s):
        meta["first_success_s"] = None
    buffer = io.BytesIO()
    packed = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(buffer, meta=packed, latencies_s=rollout.latencies_s, qpos=rollout.qpos)
    write_atomic(path, buffer.getvalue())


def _load_rollout(path: Path) -> Rollout:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            meta = json.loads(archive["meta"].tobytes())
            if meta["first_success_s"] is None:
                meta["first_success_s"] = math.nan
            return Rollout(**meta, latencies_s=archive["latencies_s"], qpos=archive["qpos"])
    except Exception as error:  # zip, json and numpy raise several types; all mean the same here
        raise DataError(
            f"{path} is damaged ({type(error).__name__}): delete it and run the same command again"
        ) from error


def _report(rollouts: list[Rollout]) -> EvalReport:
    n, successes = len(rollouts), sum(r.success for r in rollouts)
    interval = wilson(successes, n)
    latencies = np.concatenate([r.latencies_s for r in rollouts])
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3 if len(latencies) else (math.nan, math.nan)
    decisions, held, steps = len(latencies), sum(r.held for r in rollouts), sum(r.steps for r in rollouts)
    scores = [r.score for r in rollouts if r.score is not None]
    evaluations = (
        math.nan if any(r.evaluations is None for r in rollouts) else sum(r.evaluations or 0 for r in rollouts)
    )
    return EvalReport(
        n=n,
        successes=successes,
        success_rate=successes / n,
        ci_low=interval.low,
        ci_high=interval.high,
        first_time_success=sum(not math.isnan(r.first_success_s) for r in rollouts) / n,
        latency_p50_ms=float(p50),
        latency_p99_ms=float(p99),
        decisions=decisions,
        held_steps=held,
        nfe_per_decision=evaluations / decisions if decisions else math.nan,
        nfe_per_action=evaluations / (steps - held) if steps > held else math.nan,
        failures=dict(Counter(r.failure for r in rollouts if not r.success)),
        rollouts=tuple(rollouts),
        mean_score=float(np.mean(scores)) if scores else math.nan,
    )
