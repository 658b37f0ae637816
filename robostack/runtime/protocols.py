"""The seams of the stack. Implementations live in ``policies`` and ``hardware``; nothing here is heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from robostack.types import ActionChunk, Features, Observation


@dataclass(frozen=True)
class Horizon:
    """How many steps a policy looks back, predicts and executes.

    ::

        |o|o|                            To observation steps
          |a|a|a|a|a|a|a|a|              Ta executed actions, the first due at the last observation
        |p|p|p|p|p|p|p|p|p|p|p|p|p|p|p|  Tp predicted actions
    """

    To: int
    Tp: int
    Ta: int

    def __post_init__(self):
        assert self.To >= 1, self
        assert 1 <= self.Ta <= self.Tp - self.To + 1, self


@dataclass(frozen=True)
class ActivePlan:
    """What is executed while the next chunk is being computed.

    Attributes:
        actions: the rest of the last chunk; the first is due at the newest observation.
        frozen: how many of them will be executed whatever is decided, because the decision takes that long.
        jacobian: ``identity`` or ``vjp``: what a policy that is guided towards the plan takes for the derivative of its
            network; the second costs a backward pass per evaluation.
    """

    actions: Float[np.ndarray, "B n Da"]
    frozen: int
    jacobian: str = "identity"


@runtime_checkable
class Policy(Protocol):
    """Maps a window of observations to a chunk of actions."""

    features: Features
    horizon: Horizon

    def reset(self, mask: Bool[np.ndarray, " B"], seeds: Int[np.ndarray, " B"]) -> None:
        """Start new episodes in the lanes of ``mask``; each lane draws its noise from its own seed."""
        ...

    def infer(self, obs: Observation, plan: ActivePlan | None = None) -> ActionChunk:
        """Predict from an observation with leading axes (B, To); the chunk has shape (B, n, Da), n >= Ta.

        A policy that can continue a plan says so with an attribute ``continues_plans = True``, and agrees with ``plan``
        where it is frozen; others ignore it. One that counts its network evaluations has a method ``evaluations()``,
        those of the last decision of each lane.
        """
        ...


@runtime_checkable
class Critic(Protocol):
    """Scores candidate chunks, higher is better."""

    def score(self, obs: Observation, actions: Float[np.ndarray, "N Ta Da"]) -> Float[np.ndarray, " N"]:
        """Score N candidates for one observation window (To, ...)."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A machine, real or simulated: the only place where actions leave the stack."""

    features: Features

    def connect(self) -> None:
        """Acquire the machine. Idempotent."""
        ...

    def observe(self) -> Observation:
        """The newest observation, without leading axes."""
        ...

    def act(self, action: Float[np.ndarray, " Da"]) -> Float[np.ndarray, " Da"]:
        """Command one action; returns what was actually sent."""
        ...

    def stop(self) -> None:
        """Hold still now. Latched until the next ``connect``."""
        ...

    def close(self) -> None:
        """Release the machine. Idempotent."""
        ...
