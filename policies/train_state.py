"""What a killed training continues from: one safetensors file, replaced atomically.

Tensors: live weights, averaged weights, optimiser moments. The header's metadata holds the rest as JSON, so that
numbers and tensors can never be of different steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from policies.ema import Ema
from robostack.data.atomic import write_atomic
from robostack.errors import CheckpointError, ConfigError

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class LossPoint:
    """Mean training loss since the previous point; validation loss of the averaged weights, NaN where not taken."""

    step: int
    train: float
    val: float


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    step: int
    losses: tuple[LossPoint, ...]
    wall_s: float


def save_state(
    path: Path,
    identity: Mapping[str, Any],
    progress: Progress,
    live: nn.Module,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the training state. Raises StorageError; the previous state then stays."""
    tensors: dict[str, Tensor] = {}
    for i, (p, mean) in enumerate(zip(live.parameters(), ema.model.parameters(), strict=True)):
        tensors[f"live.{i}"], tensors[f"ema.{i}"] = p.detach().cpu(), mean.cpu()
    for i, p in enumerate(_learning(optimizer)):
        moments = optimizer.state[p]  # Empty where a parameter never got a gradient.
        tensors.update({f"{name}.{i}": moments.get(name, torch.zeros_like(p)).cpu() for name in _MOMENTS})
    losses = [[p.step, p.train, None if math.isnan(p.val) else p.val] for p in progress.losses]
    header = {"identity": identity, "step": progress.step, "updates": ema.updates, "losses": losses}
    header["wall_s"] = progress.wall_s
    write_atomic(path, dump_tensors(tensors, metadata={"robostack": json.dumps(header)}))


def load_state(
    path: Path,
    identity: Mapping[str, Any],
    live: nn.Module,
    ema: Ema,
    optimizer_of: Callable[[int], torch.optim.Optimizer],
) -> Progress:
    """Restore models and optimiser in place; ``optimizer_of`` gives the one that took the step of that number.

    Raises:
        ConfigError: the state is of another configuration or dataset; names the differences.
        CheckpointError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["robostack"])
            require_identity(header["identity"], identity, path)
            _restore(file.get_tensor, header["updates"], live, ema, optimizer_of(header["step"] - 1))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"training state {path} is damaged: delete it to start over") from error
    losses = tuple(LossPoint(s, t, math.nan if v is None else v) for s, t, v in header["losses"])
    return Progress(header["step"], losses, header["wall_s"])


@torch.no_grad()
def _restore(tensor: Any, updates: int, live: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> None:
    for i, (p, mean) in enumerate(zip(live.parameters(), ema.model.parameters(), strict=True)):
        p.copy_(tensor(f"live.{i}"))
        mean.copy_(tensor(f"ema.{i}"))
    ema.updates = updates
    state = {
        i: {name: tensor(f"{name}.{i}") for name in _MOMENTS} | {"step": torch.tensor(float(updates))}
        for i in range(len(_learning(optimizer)))
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _learning(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return optimizer.param_groups[0]["params"]


def require_identity(saved: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError, naming the differing values, unless both trainings are the same one."""
    a, b = _flat(saved), _flat(wanted)
    differing = [f"{k}: {a.get(k)} there, {b.get(k)} here" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    if differing:
        raise ConfigError(
            f"{path.parent} holds another training ({'; '.join(differing)}): "
            "use the same configuration to continue it, or another directory"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat
