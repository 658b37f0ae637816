"""``robostack gen asset``: a mesh or URDF becomes an asset card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from robostack.cli import stages
from robostack.cli.console import make_console
from robostack.cli.metrics import write_metrics
from robostack.cli.settings import load_settings
from robostack.cli.targets import target
from robostack.cli.workspace import open_workspace

STAGES = 1
_PASSED = ("file", "name", "licence", "scale", "up", "mass", "density", "max_hulls", "graspable", "copy")


def execute(args: Sequence[str]) -> int:
    """Take the object in; the reason when a gate says no is an error of the user."""
    settings = load_settings("gen_asset", args)
    console = make_console(settings, STAGES)
    with open_workspace("gen_asset", settings, note=console.note) as paths:
        data = settings["data"] or os.environ.get("ROBOSTACK_DATA") or str(paths.root / "data")
        lists = {key: tuple(settings[key]) for key in ("nouns", "claims")}
        wanted = target(settings, "asset_settings")(**{k: settings[k] for k in _PASSED}, **lists, out=data)
        with console.stage("asset") as stage:
            result = target(settings, "import_asset")(wanted, partial(_say, console))
            stage.result = f"{settings['name']}, {len(result.lines)} gates"
        for line in result.lines:
            console.note(line)
        if os.environ.get("ROBOSTACK_DATA") != data:
            console.note(f"tasks find it with  export ROBOSTACK_DATA={os.path.abspath(data)}")
        figures = {"asset": stages.summary({"name": settings["name"], "card": result.card, "gates": len(result.lines)})}
        write_metrics(paths, "gen_asset", seconds=console.seconds, stages=figures)
        console.final(f"card: {result.card.resolve()}")
    return 0


def _say(console, text: str) -> None:
    console.note(f"      {text}")
