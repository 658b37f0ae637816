"""A task on its way through the gates: what one gate built, the next ones use."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from robostack.errors import RobostackError, SceneError
from robostack.sim.env import TaskEnv
from robostack.sim.scene import Scene, train_seed
from robostack.task.spec import TaskSpec
from robostack.types import Episode
from simgen.gates.codes import Code
from simgen.gates.record import Certificate, Metric

if TYPE_CHECKING:
    from simgen.gates.witness import Witness

RESETS, MAY_FAIL = 8, 1
Build = Callable[[TaskSpec], TaskEnv]


class GateFailure(Exception):
    """What a gate found wrong: a code, one line for a person, and the figures so far."""

    def __init__(self, code: Code, detail: str, metrics: dict[str, Metric] | None = None):
        self.code, self.detail, self.metrics = code, detail, metrics or {}
        super().__init__(f"{code}: {detail}")


@dataclass(frozen=True)
class Reset:
    """A start state, or why there is none.

    Attributes:
        state: MuJoCo's integration state; None when the reset failed.
        code: of the SceneError; empty when there is a state.
    """

    seed: int
    state: np.ndarray | None
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Mutant:
    """A state of the scene that must not count as success."""

    name: str
    state: np.ndarray


class Candidate:
    """A spec with what is built from it on demand.

    Attributes:
        build: makes the environment; replaced by those who build scenes otherwise.
        folder: where the task lives on disk, with what its methods have learned; None when nowhere.
        seeds: attempts of the expert that decide; ``extend_to``: attempts when they succeed.
        exploits: states found by an attack on the predicate, which must not count as success.
        model_sha: SHA-256 of the compiled model, before any seed randomised it.
        certificate, episodes, keyframes, rl: what the expert left behind; weights per subgoal where RL solved it.
    """

    def __init__(
        self,
        spec: TaskSpec,
        *,
        build: Build = TaskEnv,
        seeds: int = 16,
        extend_to: int | None = None,
        demos: int = 4,
        exploits: Sequence[Mutant] = (),
        folder: Path | None = None,
    ):
        self.spec, self.build = spec, build
        self.seeds, self.extend_to, self.demos = seeds, extend_to, demos
        self.exploits, self.folder = tuple(exploits), folder
        self.model_sha = ""
        self.certificate: Certificate | None = None
        self.episodes: list[Episode] = []
        self.keyframes: dict[int, tuple] = {}
        self.rl: dict[int, bytes] = {}

    @cached_property
    def id(self) -> str:
        """The spec's identity; empty for one so broken that it has none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.spec.id
        except (ValueError, TypeError, AttributeError):
            return ""

    @cached_property
    def _built(self) -> TaskEnv | RobostackError:
        try:
            env = self.build(self.spec)
        except RobostackError as error:
            return error
        self.model_sha = _model_sha(env.scene.model)
        return env

    @property
    def env(self) -> TaskEnv:
        """The environment; raises the RobostackError that building it raised, at every access."""
        if isinstance(self._built, RobostackError):
            raise self._built
        return self._built

    @property
    def scene(self) -> Scene:
        """The environment's scene."""
        return self.env.scene

    @cached_property
    def resets(self) -> tuple[Reset, ...]:
        """Start states of the first 8 training seeds; fewer when more of them failed than may."""
        resets: list[Reset] = []
        for index in range(RESETS):
            resets.append(self._reset(train_seed(index)))
            if sum(reset.state is None for reset in resets) > MAY_FAIL:
                break
        return tuple(resets)

    def _reset(self, seed: int) -> Reset:
        try:
            self.scene.reset(seed)
        except SceneError as error:
            return Reset(seed, None, error.code, str(error))
        return Reset(seed, self.scene.get_state())

    @property
    def starts(self) -> tuple[Reset, ...]:
        """The resets that have a state."""
        return tuple(reset for reset in self.resets if reset.state is not None)

    @cached_property
    def witness(self) -> Witness | None:
        """A state in which the goal holds, with how it was found; None when none was found."""
        from simgen.gates.witness import find_witness

        return find_witness(self)

    def rng(self, purpose: str, number: int = 0) -> np.random.Generator:
        """Random numbers that depend on the task, the purpose and the number only."""
        digest = hashlib.sha256(f"{self.id}/{purpose}/{number}".encode()).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _model_sha(model: mujoco.MjModel) -> str:
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)  # pyright: ignore[reportArgumentType]  # None: into the buffer
    return hashlib.sha256(buffer.tobytes()).hexdigest()
