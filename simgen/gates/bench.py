"""Where mutants are made: the witness on a stage, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from robostack.task import geometry as geo
from simgen.gates.candidate import Candidate
from simgen.gates.intents import PLACES, Intent, intents_of
from simgen.gates.sets import canonical
from simgen.gates.stage import Stage
from simgen.gates.wishes import Wish
from simgen.gates.witness import Witness, holds


@dataclass(frozen=True)
class Played:
    """A mutant: states that pass by and the one that stays, under the name of what it breaks.

    Attributes:
        passing: the state itself only passes by, and the start state stays.
    """

    operator: str
    what: str
    stages: tuple[np.ndarray, ...]
    state: np.ndarray
    passing: bool = False

    @property
    def name(self) -> str:
        """As it is reported: ``HOVER(red_block)``."""
        return f"{self.operator}({self.what})"


class Bench:
    """Where mutants are made: the stage, the witness, and what it means."""

    def __init__(self, candidate: Candidate, witness: Witness):
        self.spec, self.witness = candidate.spec, witness
        self.stage = Stage(candidate.env)
        self.stage.restart(witness.seed)
        self.start = self.stage.save()
        self.start_poses = {name: self.stage.pose(name) for name in self.stage.world.entities}
        self.start_fractions = {
            (name, joint): self.stage.world.fraction(name, joint)
            for name, binding in self.stage.world.entities.items()
            for joint in binding.joints
        }
        self.intents = intents_of(candidate.spec, witness)
        self.final = [i for i in self.intents if i.stage == -1]
        self.whole = canonical(self.spec, self.spec.goal)

    def load(self) -> Stage:
        """The stage with the witness on it."""
        self.stage.load(self.witness.state)
        return self.stage

    def made(self, operator: str, what: str) -> Played:
        """What stands on the stage now, as a mutant."""
        self.stage.refresh()
        return Played(operator, what, self.witness.stages, self.stage.save())

    def same(self, a: str, b: str) -> bool:
        """Whether the goal cannot tell ``a`` from ``b``."""
        return canonical(self.spec, self.spec.goal, {a: b, b: a}) == self.whole

    def offered(self, intent: Intent) -> bool:
        """Whether what stands on the stage is an alternative that the goal offers in the intent's place."""
        self.stage.refresh()
        wish = intent.wish
        return wish is not None and any(holds(self.stage, Wish(other)) for other in wish.others)

    def places(self) -> list[Intent]:
        """Final intents that put something free somewhere, one per subject."""
        chosen = {i.subject: i for i in reversed(self.final) if i.kind in PLACES and self.stage.free(i.subject)}
        return [i for i in self.final if chosen.get(i.subject) is i]

    def alone(self, intent: Intent) -> bool:
        """Whether the intent's subject carries nothing else that the goal speaks of."""
        return not any(i.reference == intent.subject for i in self.final)


Operator = Callable[[Bench], Iterator[Played]]


# Geometry.


def spot(stage: Stage, entity: str, kind: str) -> np.ndarray:
    """Middle of a face, or of the floor of an interior [m, world]."""
    binding = stage.world.entities[entity]
    if kind == "rest" or binding.interior is None:
        return np.asarray(geo.face(stage.world, entity).center)
    body = binding.interior_body if binding.interior_body >= 0 else binding.body
    low = np.asarray(binding.interior.center) - [0.0, 0.0, binding.interior.half[2]]
    return stage.data.xpos[body] + stage.data.xmat[body].reshape(3, 3) @ low


def edge(stage: Stage, entity: str, kind: str) -> tuple[np.ndarray, float]:
    """A horizontal direction from the middle of a face or interior, and the distance to its edge [m]."""
    binding = stage.world.entities[entity]
    if kind == "rest" or binding.interior is None:
        face = geo.face(stage.world, entity)
        along, reach = np.asarray(face.u), face.half[0]
    else:
        body = binding.interior_body if binding.interior_body >= 0 else binding.body
        along, reach = stage.data.xmat[body].reshape(3, 3)[:, 0], binding.interior.half[0]
    flat = along[:2] / max(1e-9, float(np.linalg.norm(along[:2])))
    return flat, float(reach)
