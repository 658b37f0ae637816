"""Where training curves go besides ``losses.csv``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from robostack.errors import MissingExtra
from robostack.registry import Registry


@runtime_checkable
class CurveLogger(Protocol):
    """Receives scalars during training."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record named scalars of one step."""
        ...

    def close(self) -> None:
        """Flush."""
        ...


def _require(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(package, "train") from error


class NoLogger:
    """Drops everything."""

    def __init__(self, out_dir: Path):
        del out_dir  # Unused.

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Drop."""

    def close(self) -> None:
        """Nothing to flush."""


class TensorBoardLogger:
    """Event files under ``<out_dir>/tensorboard``."""

    def __init__(self, out_dir: Path):
        module = _require("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(out_dir / "tensorboard"))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class WandbLogger:
    """An offline Weights & Biases run under ``<out_dir>/wandb``; ``wandb sync`` uploads it when the user wants to."""

    def __init__(self, out_dir: Path):
        self._run = _require("wandb", "wandb").init(project="robostack", dir=str(out_dir), mode="offline")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


LOGGERS: Registry[type] = Registry("logger")
LOGGERS.add("none", NoLogger)
LOGGERS.add("tensorboard", TensorBoardLogger)
LOGGERS.add("wandb", WandbLogger)
