"""Denoising as native programs: a whole descent of K steps is one call.

What networks have in common here: programs are made once for a shape and a list of steps, the condition is taken in
once per decision, and what depends on the diffusion step alone is computed once per checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from policies.accel.bac import Code
from policies.accel.bac_plan import Plan, position
from policies.accel.native import Kind, Program, Weights, library
from robostack.errors import ConfigError

Level = int | tuple[int, ...]
"""A diffusion step: of the whole chunk, or one per action."""


WEIGHTS = {"native": torch.float32, "native_bf16": torch.bfloat16}
"""Accelerations, and what weights are kept in."""


def precision(how: str) -> torch.dtype:
    """What an acceleration keeps weights in.

    Raises:
        ConfigError: no such acceleration.
    """
    if how not in WEIGHTS:
        raise ConfigError(f"accelerate={how} is not to be had for this policy: use {', '.join(WEIGHTS)} or none")
    return WEIGHTS[how]


@dataclass(frozen=True)
class HotStep:
    """One step of a descent: estimate at level k, ``x = sum of coefs * (x0 clipped, x, eps, noise) + before * x0'``.

    Attributes:
        k: diffusion step.
        split: x0 and eps from x and the prediction: ``x0 = split[0] x + split[1] pred``, ``eps = split[2] x + ...``.
        coefs: of x0, x, eps, noise.
        before: coefficient of x0', the clipped x0 of the step before.
    """

    k: int
    split: tuple[float, float, float, float]
    coefs: tuple[float, float, float, float]
    before: float = 0.0


class HotNetwork(ABC):
    """Packed weights of a network and the programs that were made for it.

    It is a snapshot: weights that change later are not noticed.
    """

    plans = True

    def __init__(self, device: torch.device, dtype: torch.dtype):
        if device.type != "cpu":
            raise ConfigError("accelerate=native runs on the CPU: use device=cpu, or accelerate=none")
        library()
        self.weights = Weights(dtype)
        self._sessions: dict[tuple[int, int], Session] = {}

    @abstractmethod
    def condition(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Tensor:
        """A condition as sessions take it in, lanes first."""

    @abstractmethod
    def opened(self, lanes: int, actions: int) -> Session:
        """A new session for a shape."""

    def session(self, lanes: int, actions: int) -> Session:
        """Buffers and programs for a shape."""
        key = (lanes, actions)
        if key not in self._sessions:
            self._sessions[key] = self.opened(lanes, actions)
        return self._sessions[key]

    def decision(
        self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"], plan: Plan | None = None
    ) -> HotDecision:
        """The network with a condition; ``plan`` says which blocks to cache."""
        return HotDecision(self, self.condition(steps, context), plan)


class Session(ABC):
    """Buffers for B lanes and T actions, and the programs on them.

    Attributes:
        x, pred: the chunk and the network's output, of one shape.
        rows: where in them the actions are; what surrounds these is zero and remains so.
    """

    def __init__(self, lanes: int, rows: int, Da: int, inside: slice = slice(None)):
        self.x, self.pred = torch.zeros(lanes, rows, Da), torch.zeros(lanes, rows, Da)
        self.rows = inside
        self.programs: dict[Hashable, Program] = {}
        self.before = torch.zeros_like(self.x)
        self.owner: HotDecision | None = None
        self._noise: dict[int, Tensor] = {}

    @abstractmethod
    def observe(self, condition: Tensor, threads: int) -> None:
        """Take a decision's condition in."""

    @abstractmethod
    def evaluation(self, program: Program, k: Level, instructions: Code | None) -> None:
        """Append ``pred = network(x, k)``, as straight-line code over blocks where that is given."""

    def step(self, program: Program, index: int, step: HotStep, *, noisy: bool, clip: bool, multistep: bool) -> None:
        """Append the sampler's step from pred; ``index`` is its place in the descent."""
        tensors = (self.x, self.pred, self._drawn(index) if noisy else None, self.before if multistep else None)
        program.add(Kind.STEP, (self.x.numel(), int(clip)), tensors, (*step.split, *step.coefs, step.before))

    def run(self, program: Program, x: Tensor, noise: Sequence[Tensor | None] = ()) -> None:
        """Run a program on a chunk, with the noise of its steps."""
        self.x[:, self.rows].copy_(x)
        for index, drawn in enumerate(noise):
            if drawn is not None:
                self._drawn(index)[:, self.rows].copy_(drawn)
        program.run(torch.get_num_threads())

    def _drawn(self, index: int) -> Tensor:
        return self._noise.setdefault(index, torch.zeros_like(self.x))


class HotDecision:
    """One batch of decisions: its condition, and where in the plan it is."""

    def __init__(self, hot: HotNetwork, condition: Tensor, plan: Plan | None):
        self._hot, self._condition, self._plan = hot, condition, plan
        self._next = 0

    def predict(self, x: Float[Tensor, "B T Da"], k: Level) -> Float[Tensor, "B T Da"]:
        """The network's output at diffusion step k."""
        session, plan = self._session(x), self._plan
        call = None if plan is None or not isinstance(k, int) else position(plan, self._next, k)
        self._next = 0 if call is None else call + 1
        key = (k, None if plan is None else plan.updates, call)
        if key not in session.programs:
            self._append(session, session.programs.setdefault(key, Program()), k, call)
        session.run(session.programs[key], x)
        return session.pred[:, session.rows].clone()

    def descend(
        self, x: Float[Tensor, "B T Da"], steps: tuple[HotStep, ...], noise: Sequence[Tensor | None], *, clip: bool
    ) -> Float[Tensor, "B T Da"]:
        """A whole descent in one call."""
        session, plan = self._session(x), self._plan
        key = (steps, None if plan is None else plan.updates, clip)
        if key not in session.programs:
            program, calls = session.programs.setdefault(key, Program()), 0
            multistep = any(step.before for step in steps)
            for index, step in enumerate(steps):
                call = None if plan is None else position(plan, calls, step.k)
                calls = 0 if call is None else call + 1
                self._append(session, program, step.k, call)
                noisy = noise[index] is not None
                session.step(program, index, step, noisy=noisy, clip=clip, multistep=multistep)
        session.run(session.programs[key], x, noise)
        return session.x[:, session.rows].clone()

    def _append(self, session: Session, program: Program, k: Level, call: int | None) -> None:
        instructions = None if call is None or self._plan is None else self._plan.calls[call]
        session.evaluation(program, k, instructions)

    def _session(self, x: Tensor) -> Session:
        """The session for x's shape, with this decision's condition in it."""
        session = self._hot.session(x.shape[0], x.shape[1])
        if session.owner is not self:
            session.observe(self._condition, torch.get_num_threads())
            session.owner = self
        return session
