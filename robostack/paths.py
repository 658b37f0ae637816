"""Where the configs and the small data live: in the wheel, or in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent


def config_dir() -> Path:
    """Hydra's config tree."""
    packaged = _PACKAGE / "_configs"
    return packaged if packaged.is_dir() else _CHECKOUT / "configs"


def data_dirs() -> tuple[Path, ...]:
    """Directories searched for robots/, assets/, presets/ and tasks/; a user's ``$ROBOSTACK_DATA`` comes first."""
    packaged = _PACKAGE / "_data"
    own = packaged if packaged.is_dir() else _CHECKOUT / "data"
    user = os.environ.get("ROBOSTACK_DATA")
    return (Path(user), own) if user else (own,)


def find_cards(group: str, suffix: str = ".yaml") -> dict[str, Path]:
    """Card files of a group (``robots``, ``assets``, ``presets/<task>``) by stem; earlier directories win."""
    cards: dict[str, Path] = {}
    for root in reversed(data_dirs()):
        cards.update({path.stem: path for path in sorted((root / group).glob(f"*{suffix}"))})
    return cards
