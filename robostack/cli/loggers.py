"""Where the training curve goes besides ``train.json``. Each is the ``_target_`` of an option of ``configs/logger``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robostack.errors import MissingExtra


def none(losses: Sequence[float], *, config: Mapping[str, Any], out_dir: Path) -> None:
    """Nowhere."""
    del losses, config, out_dir  # Unused.


def tensorboard(losses: Sequence[float], *, config: Mapping[str, Any], out_dir: Path) -> None:
    """Event files in ``<out_dir>/tensorboard``."""
    del config  # Unused.
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "train") from error
    with SummaryWriter(str(out_dir / "tensorboard")) as writer:
        for step, loss in enumerate(losses):
            writer.add_scalar("train/loss", loss, step)


def wandb(losses: Sequence[float], *, config: Mapping[str, Any], out_dir: Path, project: str, mode: str) -> None:
    """A Weights & Biases run; ``mode=offline`` writes it to ``out_dir`` and talks to nobody."""
    try:
        import wandb as client
    except ImportError as error:
        raise MissingExtra("wandb", "train") from error
    with client.init(project=project, mode=mode, dir=str(out_dir), config=dict(config)) as run:  # type: ignore[arg-type]
        for step, loss in enumerate(losses):
            run.log({"train/loss": loss}, step=step)
