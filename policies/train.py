"""The one trainer of all policies: steps of AdamW on windows of an in-memory dataset.

Everything random in step i comes from a generator seeded by (seed, i), so that a training that was killed and
continued ends with the same bits as one that was not (same device, same number of threads).
"""

from __future__ import annotations

import bisect
import itertools
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from policies.accel.calibrate import save_block_plans
from policies.accel.rti_auto import calibrate, save_plan
from policies.base import Batch, Stage, TrainablePolicy, cfg_to_dict, resolve_device
from policies.checkpoint import load_policy, save_checkpoint
from policies.diffusion import DiffusionPolicy
from policies.ema import Ema
from policies.loggers import LOGGERS
from policies.observed import Recorded
from policies.samplers.noise import seeded
from policies.train_state import LossPoint, Progress, load_state, require_identity, save_state
from policies.zoo import POLICIES
from robostack.data.arrays import EpisodeArrays
from robostack.data.atomic import storage_errors, write_atomic
from robostack.data.idle import WAITING, idle_rows
from robostack.data.sequence import SequenceSampler
from robostack.errors import CheckpointError, ConfigError, DataError

log = logging.getLogger(__name__)

STATE, RESULT, CHECKPOINT = "train_state.safetensors", "result.json", "checkpoint"
_VAL_WINDOWS = 512
_VAL_STREAM = 2**40  # Beyond every step number: validation noise is never training noise.
_AMP = ("auto", "bf16", "off")


@dataclass(frozen=True)
class TrainCfg:
    """How to train.

    Attributes:
        steps, batch_size: length of the training.
        lr: peak learning rate; warms up linearly for ``warmup_steps``, then falls to 0 along a cosine, in every stage.
        weight_decay, betas: of AdamW.
        grad_clip: largest norm of the gradient; 0 disables.
        ema_power: of the averaging warm-up, see ``policies.ema``.
        val_fraction: share of the episodes that is held out; 0 disables.
        val_every, log_every: in steps.
        save_every_s: seconds between training states.
        seed: of weights, batches and noise.
        device: ``cpu``, ``cuda`` or ``auto``.
        amp: ``bf16``, ``off``, or ``auto``: bf16 on cuda only.
        threads: CPU threads; 0 uses all cores.
        progress: show a progress bar.
        logger: ``none``, ``tensorboard`` or ``wandb``.
        calibrate: measure the plan of ``sampler=rti`` at the end, for policies that can use one.
        idle: share of a column's range below which a change counts as none; actions that wait are left out of chunks,
            see ``robostack.data.idle``. 0 keeps them.
    """

    steps: int = 3000
    batch_size: int = 64
    lr: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-6
    betas: Sequence[float] = (0.95, 0.999)
    grad_clip: float = 1.0
    ema_power: float = 0.75
    val_fraction: float = 0.02
    val_every: int = 500
    log_every: int = 50
    save_every_s: float = 30.0
    seed: int = 0
    device: str = "auto"
    amp: str = "auto"
    threads: int = 0
    progress: bool = True
    logger: str = "none"
    calibrate: bool = True
    idle: float = WAITING

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise ConfigError(f"train.betas={self.betas} must be two numbers in [0, 1)")
        for name in ("steps", "batch_size", "log_every", "val_every", "lr"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"train.{name}={getattr(self, name)} must be positive")
        for name in ("val_fraction", "idle"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"train.{name}={getattr(self, name)} must be in [0, 1)")
        if self.amp not in _AMP:
            raise ConfigError(f"unknown train.amp '{self.amp}': use one of {', '.join(_AMP)}")
        LOGGERS[self.logger]


_IRRELEVANT = ("log_every", "val_every", "save_every_s", "device", "threads", "progress", "logger", "calibrate")


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind."""

    checkpoint: Path
    losses: tuple[LossPoint, ...]
    wall_s: float
    steps_per_s: float


def lr_factor(step: int, steps: int, warmup_steps: int) -> float:
    """Learning rate of a step out of ``steps`` as a fraction of its peak."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def stage_starts(stages: Sequence[Stage], steps: int) -> list[int]:
    """First step of each stage, and ``steps``; raises ConfigError where a stage would get no step."""
    starts = [0, *(round(sum(s.share for s in stages[: i + 1]) * steps) for i in range(len(stages)))]
    assert starts[-1] == steps, stages
    if any(a >= b for a, b in itertools.pairwise(starts)):
        raise ConfigError(f"train.steps={steps} is too few for the {len(stages)} stages of this policy: use more")
    return starts


def fit(cfg: TrainCfg, policy_name: str, policy_cfg: Any, arrays: EpisodeArrays, out_dir: Path | str) -> TrainResult:
    """Train a policy, or continue where an interrupted training of the same configuration stopped.

    ``out_dir`` receives ``checkpoint/``, ``losses.csv`` and ``result.json``, and ``train_state.safetensors`` while it
    runs. A finished training of the same configuration and dataset is returned at once.

    Raises:
        ConfigError: unusable values, a training of another configuration in ``out_dir``, or a loss that is not finite.
        DataError: a dataset that cannot be trained on.
        StorageError: the disk is full; the last state that was saved is kept.
        KeyboardInterrupt: after the state was saved.
    """
    out_dir, record = Path(out_dir), POLICIES[policy_name]
    if not isinstance(policy_cfg, record.cfg):
        raise ConfigError(f"policy '{policy_name}' takes a {record.cfg.__name__}, got {type(policy_cfg).__name__}")
    arrays.check()
    train_values = {k: v for k, v in cfg_to_dict(cfg).items() if k not in _IRRELEVANT}
    identity = {
        "policy": policy_name, "cfg": cfg_to_dict(policy_cfg), "train": train_values,
        "features": arrays.features.to_dict(), "dataset": arrays.fingerprint(),
    }  # fmt: skip
    finished = _finished(out_dir, identity)
    if finished is not None:
        return finished
    device = resolve_device(cfg.device)
    with storage_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    with _threads(cfg.threads), _deferred_interrupt() as interrupted:
        torch.manual_seed(cfg.seed)
        policy = record.build(policy_cfg, arrays.features)
        policy.task_id, policy.language = arrays.task_id, arrays.language
        training = _Training(cfg, policy, arrays, device)
        progress = training.run(out_dir, identity, interrupted)
        return _finish(out_dir, identity, policy_name, training, progress)


class _Training:
    """One run: data on the device, models, optimiser and the loop over them."""

    def __init__(self, cfg: TrainCfg, policy: TrainablePolicy, arrays: EpisodeArrays, device: torch.device):
        self.cfg, self.device, self.arrays = cfg, device, arrays
        train, val = _split_episodes(len(arrays.ends), cfg)
        self.held_out = val
        To, Tp = policy.horizon.To, policy.horizon.Tp
        after = policy.pad_after
        skip = idle_rows(arrays, cfg.idle)
        self.windows = SequenceSampler(arrays.ends, To, Tp, pad_after=after, episodes=train, skip=skip)
        self.val_windows = SequenceSampler(arrays.ends, To, Tp, pad_after=after, episodes=val, skip=skip)
        if not len(self.windows):
            raise DataError("every episode is shorter than what this policy leaves out at its end: record longer ones")
        policy.fit_statistics(arrays, SequenceSampler(arrays.ends, To, Tp, pad_after=after, skip=skip))
        self.policy = policy.to(device).train()
        self.ema = Ema(self.policy, power=cfg.ema_power)
        self.recorded = Recorded(arrays, policy.features, device)
        self.stages, self.stage = policy.stages(), 0
        self.starts = stage_starts(self.stages, cfg.steps)
        self.optimizer = self._enter(0)
        self.amp = cfg.amp == "bf16" or (cfg.amp == "auto" and device.type == "cuda")

    def _enter(self, stage: int) -> torch.optim.Optimizer:
        """Let the modules of a stage learn, and only them."""
        cfg, self.stage = self.cfg, stage
        self.policy.requires_grad_(False)
        modules = [self.policy.get_submodule(name) for name in self.stages[stage].modules or [""]]
        self.params = [p.requires_grad_() for module in modules for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(
            _decay_groups(self.policy, cfg.weight_decay), lr=cfg.lr, betas=(cfg.betas[0], cfg.betas[1]), fused=True
        )
        return self.optimizer

    def _stage_of(self, step: int) -> int:
        return bisect.bisect_right(self.starts, step) - 1

    def run(self, out_dir: Path, identity: dict, interrupted: threading.Event) -> Progress:
        """Loop to the end; saves the state on time and on Ctrl-C, and never after a loss that is not finite."""
        cfg, path, begin = self.cfg, out_dir / STATE, Progress(0, (), 0.0)
        if path.is_file():
            begin = load_state(path, identity, self.policy, self.ema, lambda step: self._enter(self._stage_of(step)))
            log.info("continuing %s at step %d", out_dir, begin.step)
        progress, losses, recent = begin, list(begin.losses), []
        start_s = saved_s = time.monotonic()
        with (
            closing(LOGGERS[cfg.logger](out_dir)) as curves,
            tqdm(total=cfg.steps, initial=begin.step, disable=not cfg.progress, unit="step", desc="train") as bar,
        ):
            for done in range(begin.step + 1, cfg.steps + 1):
                recent.append(self._step(done - 1))
                bar.update()
                stop = interrupted.is_set()
                if not (stop or done % cfg.log_every == 0 or done in self.starts):
                    continue
                losses.append(self._point(recent, done))
                recent = []
                curves.log(done, _scalars(losses[-1]))
                bar.set_postfix(loss=f"{losses[-1].train:.4f}", refresh=False)
                progress = Progress(done, tuple(losses), begin.wall_s + time.monotonic() - start_s)
                if stop or time.monotonic() - saved_s > cfg.save_every_s:
                    save_state(path, identity, progress, self.policy, self.ema, self.optimizer)
                    saved_s = time.monotonic()
                if stop:
                    raise KeyboardInterrupt
        return progress

    def _step(self, step: int) -> Tensor:
        cfg, generator = self.cfg, seeded(self.cfg.seed, step)
        if self._stage_of(step) != self.stage:
            self.ema.adopt()
            self._enter(self._stage_of(step))
        start, end = self.starts[self.stage : self.stage + 2]
        indices = torch.randint(len(self.windows), (cfg.batch_size,), generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = cfg.lr * lr_factor(step - start, end - start, cfg.warmup_steps)
        loss = self._loss(self.policy, self.windows, indices.numpy(), generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if cfg.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.params, cfg.grad_clip, foreach=True)
        self.optimizer.step()
        self.ema.update()
        return loss.detach()

    def _loss(
        self, policy: TrainablePolicy, windows: SequenceSampler, indices: np.ndarray, generator: torch.Generator
    ) -> Tensor:
        seen, acted = windows.gather(indices)
        action = self.recorded.action[torch.from_numpy(acted).to(self.device)]
        padded = torch.from_numpy(windows.padded(indices)).to(self.device)
        batch = Batch(self.recorded.at(seen), action, stage=self.stage, action_is_pad=padded)
        share = policy.goal_share(len(indices), generator)
        if share is not None:
            rows = torch.from_numpy(windows.later(indices, share.numpy())).to(self.device)
            batch = replace(
                batch, goal_state=self.recorded.state[rows], goal_environment_state=self.recorded.objects[rows]
            )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            return policy.loss(batch, generator)

    def _point(self, recent: list[Tensor], done: int) -> LossPoint:
        train = float(torch.stack(recent).mean())
        weights = torch.nn.utils.get_total_norm([p.detach() for p in self.params])
        if not (math.isfinite(train) and bool(weights.isfinite())):
            raise ConfigError(
                f"training diverged before step {done}: the loss is {train}; lower train.lr={self.cfg.lr} "
                "or train.grad_clip, and use another directory (the last good state is kept)"
            )
        due = done in self.starts or done % self.cfg.val_every == 0
        return LossPoint(done, train, self._val_loss() if due else math.nan)

    @torch.inference_mode()
    def _val_loss(self) -> float:
        """Loss of the averaged weights on the same held-out windows and noise every time."""
        count = len(self.val_windows)
        if not count:
            return math.nan
        indices = np.unique(np.linspace(0, count - 1, min(count, _VAL_WINDOWS)).astype(np.int64))
        return float(self._loss(self.ema.model, self.val_windows, indices, seeded(self.cfg.seed, _VAL_STREAM)))


def _decay_groups(policy: TrainablePolicy, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters that learn, with and without weight decay, where there are both."""
    named = [(name, p) for name, p in policy.named_parameters() if p.requires_grad]
    decayed, kept = ([p for name, p in named if policy.decays(name) is yes] for yes in (True, False))
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _scalars(point: LossPoint) -> dict[str, float]:
    val = {} if math.isnan(point.val) else {"loss/val": point.val}
    return {"loss/train": point.train} | val


def _split_episodes(count: int, cfg: TrainCfg) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out episodes; at least one episode trains, and none is held out of a single one."""
    held = min(math.ceil(cfg.val_fraction * count), count - 1)
    order = np.random.default_rng(cfg.seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def _finish(out_dir: Path, identity: dict, policy_name: str, training: _Training, progress: Progress) -> TrainResult:
    """Write the checkpoint, then the result that marks the training as finished, then drop the state."""
    last = progress.losses[-1]
    metrics = {"train_loss": last.train} | ({} if math.isnan(last.val) else {"val_loss": last.val})
    policy = training.ema.model
    checkpoint = save_checkpoint(out_dir / CHECKPOINT, policy, policy_name, step=progress.step, metrics=metrics)
    if training.cfg.calibrate and isinstance(policy, DiffusionPolicy):
        plan = calibrate(policy, training.arrays, episodes=training.held_out)
        save_plan(checkpoint, plan)
        save_block_plans(checkpoint, policy, training.arrays, plan.sampler())
    rows = [f"{p.step},{p.train:.6g},{'' if math.isnan(p.val) else f'{p.val:.6g}'}" for p in progress.losses]
    write_atomic(out_dir / "losses.csv", "\n".join(["step,train,val", *rows, ""]).encode())
    losses = [[p.step, p.train, None if math.isnan(p.val) else p.val] for p in progress.losses]
    result = {"identity": identity, "wall_s": progress.wall_s, "losses": losses}
    write_atomic(out_dir / RESULT, json.dumps(result).encode())
    (out_dir / STATE).unlink(missing_ok=True)
    return _result(checkpoint, progress)


def _finished(out_dir: Path, identity: dict) -> TrainResult | None:
    """The result of an earlier, complete training of the same configuration, if ``out_dir`` holds one."""
    path = out_dir / RESULT
    if not path.is_file():
        return None
    try:
        saved = json.loads(path.read_text())
        require_identity(saved["identity"], identity, path)
        load_policy(out_dir / CHECKPOINT)
    except (CheckpointError, ValueError, KeyError, TypeError) as error:
        log.warning("training again, the finished one in %s cannot be used: %s", out_dir, error)
        return None
    losses = tuple(LossPoint(s, t, math.nan if v is None else v) for s, t, v in saved["losses"])
    return _result(out_dir / CHECKPOINT, Progress(losses[-1].step, losses, saved["wall_s"]))


def _result(checkpoint: Path, progress: Progress) -> TrainResult:
    return TrainResult(checkpoint, progress.losses, progress.wall_s, progress.step / max(progress.wall_s, 1e-9))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event, so that it cannot tear a step in two. Signals reach the main thread only."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
