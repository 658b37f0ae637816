"""``robostack doctor``: what is installed, missing or broken, and the command that fixes it.

Reads its own arguments and imports nothing outside the standard library at the top: it must run where little else does.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence

from robostack.cli.probes import Check, all_checks
from robostack.errors import ConfigError

_SIGN = {"ok": "ok", "missing": "MISSING", "broken": "BROKEN", "note": "note"}


def execute(args: Sequence[str]) -> int:
    """Print the table, or one JSON object; 0 when the main job can run, 2 when something necessary is wrong."""
    as_json = _wants_json(args)
    checks = all_checks()
    ready = not any(check.blocks for check in checks)
    if as_json:
        print(json.dumps({"ready": ready, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        print(table(checks))
    return 0 if ready else 2


def table(checks: Sequence[Check]) -> str:
    """One line per check, grouped; the fixes of what is wrong at the end."""
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    for group, members in itertools.groupby(checks, key=lambda check: check.group):
        lines += ["", group] if lines else [group]
        lines += [f"  {_SIGN[check.status]:<8} {check.name:<{width}}  {check.detail}" for check in members]
    fixes = list(dict.fromkeys(check.fix for check in checks if check.status in ("missing", "broken") and check.fix))
    if fixes:
        lines += ["", "Fix", *(f"  {fix}" for fix in fixes)]
    blocked = [check.name for check in checks if check.blocks]
    verdict = f"robostack run cannot work yet: {', '.join(blocked)}" if blocked else "robostack run can work here."
    return "\n".join([*lines, "", verdict])


def _wants_json(args: Sequence[str]) -> bool:
    wanted = False
    for arg in args:
        if arg not in ("json=true", "json=false"):
            raise ConfigError(f"doctor does not understand '{arg}': it takes json=true or json=false")
        wanted = arg == "json=true"
    return wanted
