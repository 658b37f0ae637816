"""From the results of a run to its figures and its page: what to show, and the pictures of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import robostack
from robostack.data.atomic import read_json, write_atomic
from robostack.data.raw import RawStore
from robostack.errors import DeviceUnavailable
from robostack.evaluation.report import Clip, ReportData, write_report
from robostack.evaluation.rollouts import EvalReport, Rollout
from robostack.evaluation.schema import (
    DemoMetrics,
    EffortMetrics,
    EnvMetrics,
    ExpertMetrics,
    LatencyMetrics,
    PolicyMetrics,
    RunMetrics,
)
from robostack.evaluation.video import encode_image
from robostack.sim.checks import control_steps_per_s, frame_ms
from robostack.sim.render import SceneRenderer
from robostack.sim.replay import episode_frames
from robostack.sim.scene import Scene, versions
from robostack.task.spec import TaskSpec

_CLIP_SIZE, _PICTURE_SIZE = (360, 480), (720, 1080)  # height, width
_CLIP_HZ = 10.0


def write_run_report(
    path: Path | str,
    *,
    spec: TaskSpec,
    demos: Any,
    training: Any,
    evaluation: EvalReport,
    seconds: Mapping[str, float],
    peak_rss_gib: float | None,
) -> RunMetrics:
    """Measure the environment, render, write ``report.html`` at ``path``; returns the figures of the run.

    Args:
        path: of the report; the folder is that of the run.
        spec: the task.
        demos: DemoReport of ``simgen.demos``.
        training: TrainResult of ``policies.train``.
        evaluation: of the policy.
        seconds: duration of each stage so far [s].
        peak_rss_gib: peak memory so far; None when unknown.
    """
    path = Path(path)
    metrics = run_metrics(spec, demos, evaluation, seconds, peak_rss_gib)
    scene_picture, expert, rollouts = _pictures(spec, demos, evaluation)
    points = [(float(p.step), float(p.train), float(p.val)) for p in training.losses]
    data = ReportData(
        spec=spec,
        metrics=metrics,
        scene=scene_picture,
        expert=expert,
        rollouts=rollouts,
        train_loss=_curve([(s, t) for s, t, _ in points]),
        validation_loss=_curve([(s, v) for s, _, v in points]),
        latencies_ms=1e3 * np.concatenate([r.latencies_s for r in evaluation.rollouts]),
        files=_files(path.parent),
        commands=_commands(spec, path.parent),
        versions={"robostack": robostack.__version__, **versions(), "python": sys.version.split()[0]},
        hashes={"task": spec.id, **_checkpoint_hashes(Path(training.checkpoint))},
    )
    write_report(data, path)
    if rollouts:
        write_atomic(path.with_name("rollout.png"), film_strip(rollouts[0]))
    return metrics


def film_strip(clip: Clip, moments: int = 5) -> bytes:
    """Evenly spread frames of a clip side by side, as PNG."""
    frames = np.asarray(clip.mp4_or_frames)
    chosen = frames[np.linspace(0, len(frames) - 1, moments).round().astype(int)]
    return encode_image(np.concatenate(list(chosen), axis=1)).data


def run_metrics(
    spec: TaskSpec, demos: Any, evaluation: EvalReport, seconds: Mapping[str, float], peak_rss_gib: float | None
) -> RunMetrics:
    """The figures of a run, as ``metrics.json`` holds them."""
    return RunMetrics(
        task_id=spec.id,
        robot=spec.robot.name,
        expert=ExpertMetrics(success=demos.expert_success_rate, n=demos.attempts),
        demos=DemoMetrics(n=demos.n, replayed_exact=demos.replayed_exact, per_minute=demos.per_minute),
        policy=PolicyMetrics(
            success=evaluation.success_rate,
            n=evaluation.n,
            wilson_low=evaluation.ci_low,
            wilson_high=evaluation.ci_high,
            first_time_success=evaluation.first_time_success,
        ),
        latency_ms=LatencyMetrics(p50=evaluation.latency_p50_ms, p99=evaluation.latency_p99_ms),
        env=EnvMetrics(control_steps_per_s=control_steps_per_s(spec, seconds=1.5), frame_96x96_ms=frame_ms(spec)),
        wall_s=sum(seconds.values()),
        effort=EffortMetrics(
            decisions=evaluation.decisions,
            held_steps=evaluation.held_steps,
            nfe_per_decision=_finite(evaluation.nfe_per_decision),
            nfe_per_action=_finite(evaluation.nfe_per_action),
        ),
        sentence=spec.instruction.text,
        stages=dict(seconds),
        peak_rss_gib=peak_rss_gib,
        failure_codes=evaluation.failures,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def choose_rollouts(rollouts: tuple[Rollout, ...]) -> list[Rollout]:
    """Three episodes to show: the first failure if there is one, and the first successes."""
    shown = [r for r in rollouts if len(r.qpos)]
    good, bad = [r for r in shown if r.success], [r for r in shown if not r.success]
    return (good[: 3 - min(1, len(bad))] + bad)[:3]


def _pictures(
    spec: TaskSpec, demos: Any, evaluation: EvalReport
) -> tuple[np.ndarray | None, Clip | None, tuple[Clip, ...]]:
    scene, rate = Scene(spec), spec.robot.control_hz
    every = max(1, round(rate / _CLIP_HZ))
    try:
        picture = SceneRenderer(scene.model, *_PICTURE_SIZE, quality="high")
        clips = SceneRenderer(scene.model, *_CLIP_SIZE, quality="high")
    except DeviceUnavailable:
        return None, None, ()  # the report says so
    demo = RawStore(demos.store_dir).load(demos.seeds[0])
    still = episode_frames(scene, demo.seed, demo.qpos[:1], picture)[0]
    frames = episode_frames(scene, demo.seed, demo.qpos, clips, every=every)
    expert = Clip(f"seed {demo.seed}", f"success after {len(demo) / rate:.1f} s", frames, True, fps=rate / every)
    shown = []
    for rollout in choose_rollouts(evaluation.rollouts):
        frames = episode_frames(scene, rollout.seed, rollout.qpos, clips, every=every)
        outcome = "success" if rollout.success else rollout.failure
        caption = f"{outcome} after {rollout.steps / rate:.1f} s"
        shown.append(Clip(f"seed {rollout.seed}", caption, frames, rollout.success, fps=rate / every))
    picture.close()
    clips.close()
    return still, expert, tuple(shown)


def _checkpoint_hashes(checkpoint: Path) -> dict[str, str]:
    manifest = read_json(checkpoint / "manifest.json", "train again")
    hashes = {"weights": str(manifest["sha256"]["model.safetensors"])[:16]}
    return hashes | ({"git": str(manifest["git_hash"])} if manifest.get("git_hash") else {})


def _curve(points: list[tuple[float, float]]) -> np.ndarray | None:
    finite = [p for p in points if math.isfinite(p[1])]
    return np.array(finite, dtype=float) if finite else None


def _files(root: Path) -> tuple[tuple[str, str], ...]:
    files = (
        ("task specification", "task.json"),
        ("demonstrations, raw and replayable", "demos"),
        ("LeRobot dataset", "dataset"),
        ("training log", "policy/losses.csv"),
        ("policy checkpoint", "policy/checkpoint"),
        ("evaluation episodes", "eval"),
        ("five moments of a rollout", "rollout.png"),
        ("figures", "metrics.json"),
        ("settings", "config.yaml"),
    )
    return tuple(
        (what, name) for what, name in files if name in ("metrics.json", "rollout.png") or (root / name).exists()
    )


def _commands(spec: TaskSpec, root: Path) -> tuple[tuple[str, str], ...]:
    sentence = spec.instruction.text.replace('"', '\\"')
    return (
        ("the whole run", f'robostack run "{sentence}" robot={spec.robot.name}'),
        ("the task", f'robostack gen "{sentence}" robot={spec.robot.name}'),
        ("demonstrations", f"robostack demos task={root}"),
        ("training", f"robostack train dataset={root}"),
        ("evaluation", f"robostack eval checkpoint={root}"),
    )
