"""``robostack bench``: only its sub-verbs do something."""

from __future__ import annotations

from collections.abc import Sequence

from robostack.errors import ConfigError


def execute(args: Sequence[str]) -> int:
    """Refuse, and say what there is."""
    raise ConfigError(
        f"bench {' '.join(args)}".strip() + " compares nothing: write  robostack bench policies  or  bench join"
    )
