"""What a setting may be. The composed defaults are the schema; this module adds ranges and fixed choices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from robostack.errors import ConfigError, UnknownName
from robostack.runtime.execution import ACCELERATIONS, EXECUTORS
from robostack.runtime.latency import LatencyModel

AUTO = "auto"

CHOICES: dict[str, tuple[object, ...]] = {
    "control_mode": ("ee_pose", "joint_pos"),
    "progress": (AUTO, True, False),
    "depth": ("full", "replay"),
    "methods": ("keyframe", "expert"),
    "engine": ("pybullet", "mujoco"),
    "up": ("auto", "y", "z"),
    "rule": ("frontier", "uniform"),
    "execution": tuple(EXECUTORS),
    "accelerate": ACCELERATIONS,
}
"""Settings with fixed choices."""

MAY_BE_ZERO = frozenset(
    {
        *("seed", "threads", "weight_decay", "warmup_steps", "grad_clip", "val_fraction", "size_jitter", "trained_on"),
        *("state_noise", "drop", "goal_drop", "p_drop_emb", "p_drop_attn", "dropout", "drop_n_last_frames"),
        *("idle", "ema_power", "kl_weight", "commitment", "spread", "condition"),
    }
)
"""Numbers (by last part of their key) for which zero has a meaning; all others must be positive."""

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_types(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse a value whose type differs from its default's; an int may stand for a float, null for nothing."""
    for key, value in settings.items():
        default = defaults[key]
        unchanged = type(value) is type(default) and value == default
        if unchanged or key in CHOICES or default in (None, "???"):
            continue
        if default == AUTO and key.rpartition(".")[2] == "workers":
            _require(_is_int(value), key, "an integer >= 1 or auto", value)
        elif isinstance(default, list):
            _check_list(key, default, value)
        else:
            _require(_matches(default, value), key, _kind(default), value)


def check_choices(settings: Mapping[str, Any]) -> None:
    """Refuse an unknown option of a setting with fixed choices, and an unknown device name or latency."""
    for key, choices in CHOICES.items():
        if key in settings and settings[key] not in choices:
            raise UnknownName(key, _shown(settings[key]), [_shown(choice) for choice in choices])
    LatencyModel.parse(str(settings.get("latency", "none")))
    device = settings.get("device", AUTO)
    if not _DEVICE.fullmatch(str(device)):
        raise UnknownName("device", str(device), (AUTO, "cpu", "cuda", "cuda:0", "mps"))


def check_numbers(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse numbers that are not finite, negative, or zero where zero means nothing; check the horizons."""
    for key, value in settings.items():
        for number in value if isinstance(value, list) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                _check_number(key, number, may_be_zero=key.rpartition(".")[2] in MAY_BE_ZERO or defaults[key] == 0)
    if {"policy.To", "policy.Tp", "policy.Ta"} <= settings.keys():
        To, Tp, Ta = (settings[f"policy.{name}"] for name in ("To", "Tp", "Ta"))
        if Ta > Tp - To + 1:
            raise ConfigError(
                f"policy.Ta={Ta} is too long: of policy.Tp={Tp} predicted steps, policy.Tp - policy.To + 1 = "
                f"{Tp - To + 1} lie in the future; lower policy.Ta or raise policy.Tp"
            )


def _check_number(key: str, number: int | float, *, may_be_zero: bool) -> None:
    if not math.isfinite(number):
        raise ConfigError(f"{key}={number} is not a finite number")
    if number < 0 or (number == 0 and not may_be_zero):
        least = ">= 0" if may_be_zero else (">= 1" if isinstance(number, int) else "> 0")
        raise ConfigError(f"{key}={number} is too small: it must be {least}")


def _check_list(key: str, default: list, value: Any) -> None:
    kind = f"a list such as {_shown(default)}"
    _require(isinstance(value, list) and bool(value), key, kind, value)
    for item in value:
        _require(not default or _matches(default[0], item), key, kind, value)


def _matches(default: Any, value: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return _is_int(value)
    if isinstance(default, float):
        return _is_int(value) or isinstance(value, float)
    return isinstance(value, type(default))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    return names.get(type(default), type(default).__name__)


def _require(condition: bool, key: str, kind: str, value: Any) -> None:
    if not condition:
        raise ConfigError(f"{key} must be {kind}, not {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) and not value else str(value)
