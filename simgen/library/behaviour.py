"""What a demonstration does, whatever the words: its skills in order, and how far it moves which kind of object.

Two tasks that are solved by the same skills with the same displacements are one task under two names (level 4 of the
deduplication). The displacements are histograms with soft edges, so that a few demonstrations suffice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from robostack.errors import DataError
from robostack.sim.env import TaskEnv
from robostack.task.spec import TaskSpec

# Forwards, leftwards, upwards [m], joint travel [fraction]: centres of the bins, and their softness (1 sigma).
_AXES = (
    (np.linspace(-0.48, 0.48, 7), 0.14),
    (np.linspace(-0.48, 0.48, 7), 0.14),
    (np.linspace(-0.12, 0.20, 9), 0.02),
    (np.linspace(-1.0, 1.0, 5), 0.2),
)
_MOVED_M, _TURNED = 0.01, 0.05  # less is not a displacement


@dataclass(frozen=True)
class Behaviour:
    """Skills in order, and the displacements of what moved, pooled over all demonstrations.

    Attributes:
        skills: of the subgoals, each with the classes of the objects that it takes: ``place_in block bowl``.
        moves: one row per object that moved in a demonstration: its displacement in the world frame [m].
        travel: one value per joint that moved: change of its fraction.
    """

    skills: tuple[str, ...]
    moves: Float[np.ndarray, "M 3"]
    travel: Float[np.ndarray, " J"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` inverts it to 0.1 mm."""
        return {
            "skills": list(self.skills),
            "moves": np.round(self.moves, 4).tolist(),
            "travel": np.round(self.travel, 4).tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Behaviour:
        """Inverse of ``to_dict``.

        Raises:
            DataError: a field is missing or no number.
        """
        try:
            moves = np.asarray(values["moves"], float).reshape(-1, 3)
            return cls(tuple(map(str, values["skills"])), moves, np.asarray(values["travel"], float).reshape(-1))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a behaviour is damaged ({error}): generate the task again") from error

    def histograms(self) -> tuple[Float[np.ndarray, " H"], ...]:
        """Soft histograms along x, y, z and of the joints' travel, each with sum 1, or 0 where nothing moved."""
        columns = (*self.moves.T, self.travel)
        return tuple(_soft(values, *axis) for values, axis in zip(columns, _AXES, strict=True))


def observe_behaviour(spec: TaskSpec, demos: Mapping[int, np.ndarray]) -> Behaviour:
    """Replay the demonstrations (seed -> actions (T, Da)) and measure what moved."""
    env = TaskEnv(spec)
    moves: list[np.ndarray] = []
    travel: list[float] = []
    for seed, actions in sorted(demos.items()):
        env.reset_scene(seed)
        before = _places(env)
        for action in actions:
            env.apply(action)
        after = _places(env)
        for name, (start, start_fractions) in before.items():
            end, end_fractions = after[name]
            shift = end - start
            if np.linalg.norm(shift) > _MOVED_M:
                moves.append(shift)
            turned = end_fractions - start_fractions
            travel.extend(float(x) for x in turned[np.abs(turned) > _TURNED])
    env.close()
    return Behaviour(skill_sequence(spec), np.array(moves, float).reshape(-1, 3), np.array(travel, float))


def skill_sequence(spec: TaskSpec) -> tuple[str, ...]:
    """The skills of the subgoals in order, with the cards of the entities that they take."""
    cards = {entity.id: entity.card for entity in spec.entities}
    return tuple(" ".join([s.skill, *(cards[a] for a in s.args if a in cards)]) for s in spec.subgoals)


def similarity(a: Behaviour, b: Behaviour) -> float:
    """In [0, 1]: agreement of the skill sequences times overlap of the displacements.

    The overlap is the geometric mean, over the axes along which either moved something, of the Bhattacharyya
    coefficients of the histograms.
    """
    overlaps = [
        float(np.sqrt(p * q).sum()) for p, q in zip(a.histograms(), b.histograms(), strict=True) if p.any() or q.any()
    ]
    overlap = float(np.prod(overlaps)) ** (1 / len(overlaps)) if overlaps else 1.0
    return _sequence_similarity(a.skills, b.skills) * overlap


def _sequence_similarity(a: Sequence[str], b: Sequence[str]) -> float:
    """1 - edit distance (Levenshtein 1966) over the longer length."""
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
        previous = row
    return 1.0 - previous[-1] / max(1, len(a), len(b))


def _soft(values: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """Histogram (H,) to which each value adds 1 in all, spread over near bins; what lies beyond counts at the ends."""
    if not len(values):
        return np.zeros(len(centres))
    clipped = np.clip(values, centres[0], centres[-1])[:, None]
    weights = np.exp(-0.5 * ((clipped - centres) / width) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)


def _places(env: TaskEnv) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Entity -> its position (3,) [m] and the fractions of its joints (J,)."""
    world = env.scene.world
    return {
        name: (world.pos(name).copy(), np.array([world.fraction(name, joint) for joint in sorted(binding.joints)]))
        for name, binding in world.entities.items()
    }
