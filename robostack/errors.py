"""Every error that robostack raises on purpose.

    RobostackError                 the CLI prints its message on one line and exits with code 2
    |- UnknownName                 a robot, object, family, config key ... that does not exist; lists what does
    |- SentenceError               a sentence that the grammar cannot read
    |- SpecError                   a TaskSpec that contradicts itself
    |- SceneError                  a scene that cannot be built: placement, penetration, instability, reach
    |- AssetError                  a mesh or URDF that cannot be imported, or an imported one that is no longer intact
    |- InvalidAction               an action with NaN, or of the wrong width
    |- ExpertError                 the scripted expert cannot solve enough seeds
    |- DataError                   a dataset that is corrupt, half-written or of other features
    |- CheckpointError             a checkpoint that is corrupt, foreign or of another version
    |- ConfigError                 a value in the configuration that cannot be used
    |- DeviceUnavailable           a compute device that this machine lacks
    |- MissingExtra                an optional package that is not installed
    `- StorageError                the disk is full or not writable

A message names the culprit, lists the alternatives and tells the fix, on one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobostackError(Exception):
    """Base of all errors that a user can fix; the message is one line."""


class UnknownName(RobostackError):
    """A name that is not registered."""

    def __init__(self, kind: str, name: str, available: Iterable[str], fix: str = ""):
        """Build ``unknown robot 'pnada': did you mean 'panda'? Available: panda, so101, ur5e.``."""
        self.kind, self.name, self.available = kind, name, tuple(sorted(available))
        close = difflib.get_close_matches(name, self.available, n=1, cutoff=0.5)
        guess = f" did you mean '{close[0]}'?" if close else ""
        tail = f" {fix}" if fix else ""
        super().__init__(f"unknown {kind} '{name}':{guess} Available: {', '.join(self.available) or 'none'}.{tail}")


class SentenceError(RobostackError):
    """A sentence that no production of the grammar can read."""


class SpecError(RobostackError):
    """A TaskSpec that contradicts itself or refers to what it does not define."""


class SceneError(RobostackError):
    """A scene that cannot be built from a spec and a seed.

    Attributes:
        code: PLACEMENT_INFEASIBLE, PENETRATION, UNSTABLE, INIT_FALSE, TRIVIAL or UNREACHABLE.
    """

    def __init__(self, code: str, message: str):
        self.code = code
        super().__init__(f"{code}: {message}")


class AssetError(RobostackError):
    """A mesh or URDF that cannot be imported, or an imported one whose files are missing or changed."""


class InvalidAction(RobostackError):
    """An action that must not reach the actuators."""


class ExpertError(RobostackError):
    """The expert failed on too many seeds to collect demonstrations."""


class DataError(RobostackError):
    """A dataset that cannot be used."""


class CheckpointError(RobostackError):
    """A checkpoint directory that cannot be used."""


class ConfigError(RobostackError):
    """A configuration value that cannot be used."""


class DeviceUnavailable(RobostackError):
    """A compute device that this machine does not have."""


class MissingExtra(RobostackError):
    """An optional dependency that is not installed; of no extra of ours where ``extra`` is None."""

    def __init__(self, package: str, extra: str | None):
        wanted = package if extra is None else f"'robostack[{extra}]'"
        super().__init__(f"'{package}' is not installed: run  pip install {wanted}")


class StorageError(RobostackError):
    """The disk is full, or a directory cannot be written."""
