"""How a skill or a method ended: a code that can be counted, and a sentence for the log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """How a skill ended."""

    OK = "OK"
    NO_IK = "NO_IK"
    NO_PATH = "NO_PATH"
    COLLISION = "COLLISION"
    UNREACHABLE = "UNREACHABLE"
    GRASP_MISS = "GRASP_MISS"
    SLIP = "SLIP"
    DROPPED = "DROPPED"
    TIMEOUT = "TIMEOUT"
    PRECOND_FALSE = "PRECOND_FALSE"
    POST_FALSE = "POST_FALSE"


PLANNING = frozenset((Code.NO_IK, Code.NO_PATH, Code.COLLISION, Code.UNREACHABLE))  # nothing has been moved


@dataclass(frozen=True)
class Result:
    """Outcome of a skill, with a sentence for the log."""

    code: Code
    info: str = ""

    @property
    def ok(self) -> bool:
        """Whether the skill did what it promises."""
        return self.code is Code.OK


class EpisodeOver(Exception):
    """The episode ended in the middle of a skill: its horizon, its success, or a violation."""
