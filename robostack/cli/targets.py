"""Reaches the siblings and the kernel's working parts by the ``_target_`` strings of ``configs/targets``.

``hydra.utils.instantiate`` would wrap a target's own errors; here a RobostackError stays what it is.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping
from functools import partial
from typing import Any

from robostack.errors import ConfigError, MissingExtra

_EXTRAS = {
    "sim": ("mujoco", "gymnasium", "PIL", "example_robot_data"),
    "train": ("torch", "lerobot", "safetensors", "tensorboard", "wandb"),
    "report": ("av", "matplotlib"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "bench": ("gym_pusht", "pymunk", "pygame", "cv2", "shapely"),
}


def target(settings: Mapping[str, Any], name: str) -> Any:
    """The callable behind ``targets.<name>``, with the other values of that block bound as keywords."""
    block = dict(settings["targets"][name])
    function = locate(str(block.pop("_target_")), f"targets.{name}._target_")
    return partial(function, **block) if block else function


def locate(path: str, key: str = "_target_") -> Any:
    """Import ``package.module.attribute``.

    Raises:
        ConfigError: when there is no such module or attribute.
        MissingExtra: when the module needs a package that is not installed.
    """
    module_name, _, attribute = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or module_name).partition(".")[0]
        extra = next((extra for extra, names in _EXTRAS.items() if missing in names), None)
        if extra is not None:
            raise MissingExtra(missing, extra) from error
        raise ConfigError(f"{key}={path} cannot be imported: {error}; check the dotted path") from error
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"{key}={path} does not exist: {error}; check the dotted path") from error


def build_cfg(cls: type, values: Mapping[str, Any], section: str) -> Any:
    """A frozen Cfg dataclass from plain values: nested Cfgs are built, lists become tuples.

    Raises:
        ConfigError: when a value is missing, is unknown to ``cls``, or is refused by its ``__post_init__``.
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"{section}.{unknown[0]} is unknown to {cls.__name__}: it has {', '.join(fields)}")
    missing = [name for name, field in fields.items() if name not in values and _is_required(field)]
    if missing:
        raise ConfigError(f"{section} lacks {', '.join(missing)}, which {cls.__name__} needs")
    return cls(**{name: _convert(hints[name], value, f"{section}.{name}") for name, value in values.items()})


def cfg_fields(cls: type) -> frozenset[str]:
    """Names that the constructor of a Cfg dataclass takes."""
    return frozenset(field.name for field in dataclasses.fields(cls) if field.init)


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return value if value is None or len(options) != 1 else _convert(options[0], value, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return build_cfg(hint, value, key)
    if (origin or hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
