"""Small working parts behind the same ``_target_`` mechanism as the real ones; they leave files behind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from robostack.errors import DataError, DeviceUnavailable, SceneError, SentenceError, UnknownName
from robostack.evaluation.schema import (
    DemoMetrics,
    EnvMetrics,
    ExpertMetrics,
    LatencyMetrics,
    PolicyMetrics,
    RunMetrics,
)
from robostack.task.predicate import atom
from robostack.task.spec import Entity, Instruction, Placement, RobotRef, TaskSpec

CALLS: list[str] = []
FAIL: dict[str, BaseException] = {}


def _called(name: str) -> None:
    CALLS.append(name)
    if name in FAIL:
        raise FAIL.pop(name)


def propose(sentence: str, robot: str) -> TaskSpec:
    _called("propose")
    if robot not in ("panda", "ur5e"):
        raise UnknownName("robot", robot, ("panda", "ur5e"))
    if "cube" not in sentence:
        raise SentenceError(f"cannot read '{sentence}':\n  name a cube")
    where = Placement(box=(0.4, -0.1, 0.6, 0.1))
    entities = (
        Entity(id="cube", card="cube", color="red", role="manipuland", placement=where),
        Entity(id="bowl", card="bowl", color="blue", role="receptacle", placement=where),
    )
    return TaskSpec(
        name="cube_in_bowl",
        family="put_in",
        instruction=Instruction(text=sentence),
        robot=RobotRef(name=robot),
        entities=entities,
        goal=atom("inside", "cube", "bowl"),
    )


def check_scene(spec: TaskSpec, *, seed: int) -> dict[str, float]:
    _called("check_scene")
    if "heavy" in spec.instruction.text:
        raise SceneError("UNSTABLE", "the cube falls")
    return {"settle_s": 0.25, "seed": seed}


@dataclass(frozen=True)
class DemoReport:
    n: int
    attempts: int
    expert_success_rate: float
    replayed_exact: int
    per_minute: float
    store_dir: Path
    wall_s: float
    seeds: tuple[int, ...]


def collect(
    spec: TaskSpec, out_dir: Path, *, n: int, seed: int, workers: int, progress: bool, folder: Path | None = None
) -> DemoReport:
    _called("collect")
    assert workers >= 1
    assert not progress
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "episodes.json").write_text(json.dumps({"task": spec.id, "n": n, "seed": seed}))
    return DemoReport(n, n + 2, n / (n + 2), n, 600.0, out_dir, 0.5, tuple(range(n)))


def open_store(directory: Path) -> dict:
    return json.loads((directory / "episodes.json").read_text())


def export(store: dict, out_dir: Path, *, repo_id: str, fps: int, frames, cameras, seeds, progress) -> Path:
    _called("export")
    assert fps == 20
    assert (frames is None) == (not cameras)
    assert len(seeds) == store["n"]
    assert repo_id == "robostack/cube_in_bowl"
    (out_dir / "meta").mkdir(parents=True, exist_ok=True)
    (out_dir / "meta" / "info.json").write_text(json.dumps({**store, "rows": list(progress(range(3)))}))
    return out_dir


def render(spec: TaskSpec, cameras) -> object:
    return object()


def load_arrays(path: Path) -> dict:
    if not (path / "meta" / "info.json").is_file():
        raise DataError(f"no dataset at {path}")
    return json.loads((path / "meta" / "info.json").read_text())


@dataclass(frozen=True)
class TrainCfg:
    steps: int = 1
    batch_size: int = 1
    lr: float = 1.0
    warmup_steps: int = 0
    weight_decay: float = 0.0
    grad_clip: float = 0.0
    val_fraction: float = 0.0
    val_every: int = 1
    amp: str = "auto"
    idle: float = 0.0
    threads: int = 1
    seed: int = 0
    device: str = "auto"
    progress: bool = True
    logger: str = "none"


@dataclass(frozen=True)
class NetworkCfg:
    down_dims: tuple[int, ...] = (1,)
    kernel: int = 3
    groups: int = 1
    step_dim: int = 4


@dataclass(frozen=True)
class PolicyCfg:
    To: int = 1
    Tp: int = 1
    Ta: int = 1
    diffusion_steps: int = 1
    prediction: str = "epsilon"
    frame: str = "world"
    per_step: bool = True
    encoder: tuple[int, ...] = ()
    state_noise: float = 0.0
    text: dict | None = None
    goal: dict | None = None
    network: NetworkCfg = field(default_factory=NetworkCfg)


def resolve_device(name: str) -> str:
    if name.startswith("cuda"):
        raise DeviceUnavailable(f"device={name} is not on this machine: pass device=cpu")
    return name


def require_sampler(policy: str, cfg: PolicyCfg, sampler: str) -> None:
    assert isinstance(cfg, PolicyCfg)


@dataclass(frozen=True)
class LossPoint:
    step: int
    train: float
    val: float


@dataclass(frozen=True)
class TrainResult:
    checkpoint: Path
    losses: tuple[LossPoint, ...]
    wall_s: float
    steps_per_s: float


def fit(cfg: TrainCfg, policy_name: str, policy_cfg: PolicyCfg, arrays: dict, out_dir: Path) -> TrainResult:
    _called("fit")
    assert isinstance(policy_cfg.network.down_dims, tuple)
    checkpoint = out_dir / "checkpoint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    seen = {"policy": policy_name, "steps": cfg.steps, "lr": cfg.lr, "To": policy_cfg.To, "logger": cfg.logger}
    (checkpoint / "weights.json").write_text(json.dumps({**seen, "rows": arrays["rows"]}))
    return TrainResult(checkpoint, (LossPoint(cfg.steps, 0.125, float("nan")),), 1.0, float(cfg.steps))


def load_policy(path: Path, device: str, sampler: str) -> tuple:
    return path, device, sampler


@dataclass(frozen=True)
class EvalReport:
    n: int
    successes: int
    success_rate: float
    ci_low: float
    ci_high: float
    checkpoint: Path
    failures: dict[str, int] = field(default_factory=dict)


def evaluate(
    spec: TaskSpec,
    checkpoint: Path,
    *,
    load_policy_target: str,
    n: int,
    seed: int,
    workers: int,
    sampler: str,
    execution: str,
    latency: str,
    accelerate: str,
    any_task: bool,
    out_dir: Path,
    progress: bool,
) -> EvalReport:
    _called("evaluate")
    assert (checkpoint / "weights.json").is_file()
    assert not any_task
    assert load_policy_target == "fake_targets.load_policy"
    out_dir.mkdir(parents=True, exist_ok=True)
    seen = {"sampler": sampler, "task": spec.id, "seed": seed, "workers": workers, "progress": progress}
    seen |= {"execution": execution, "latency": latency, "accelerate": accelerate}
    (out_dir / "episodes.json").write_text(json.dumps(seen))
    return EvalReport(n, n - 1, (n - 1) / n, 0.5, 1.0, checkpoint, {"NOT_REACHED": 1})


def write_report(path: Path, *, spec, demos, training, evaluation, seconds, peak_rss_gib) -> RunMetrics:
    _called("write_report")
    rows = [spec.name, demos.n, training.losses[-1].train, evaluation.successes, sorted(seconds)]
    path.write_text(f"<html>{rows}</html>")
    n, rate = evaluation.n, evaluation.success_rate
    return RunMetrics(
        task_id=spec.id,
        robot=spec.robot.name,
        expert=ExpertMetrics(success=1.0, n=demos.attempts),
        demos=DemoMetrics(n=demos.n, replayed_exact=demos.n, per_minute=demos.per_minute),
        policy=PolicyMetrics(success=rate, n=n, wilson_low=0.5, wilson_high=1.0, first_time_success=rate),
        latency_ms=LatencyMetrics(p50=1.0, p99=2.0),
        env=EnvMetrics(control_steps_per_s=1.0),
        wall_s=sum(seconds.values()),
        sentence=spec.instruction.text,
        stages=dict(seconds),
        peak_rss_gib=peak_rss_gib,
    )
