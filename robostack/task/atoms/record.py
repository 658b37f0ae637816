"""The table of atoms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from robostack.registry import Registry

ArgKind = Literal[
    "entity", "support", "entities", "number", "count", "fraction", "pose", "direction", "joint", "comparison"
]
Need = Literal["surface", "interior", "geoms", "joints"]


@dataclass(frozen=True)
class AtomRecord:
    """What is known about an atom.

    Attributes:
        fn: ``fn(world, *args, **tol) -> margin``.
        kinds: kind of each argument. entity: an entity id; support: that or "table"; entities: two or more ids;
            number: finite and >= 0; count: that and whole; fraction: 0 to 1; pose: x, y, z [m, world] and quaternion
            w, x, y, z; direction: (dx, dy); joint: name of a joint of the entity before it; comparison: >=, <= or ==.
        tol: default tolerances by name.
        unit: unit of the margin.
        cost: rank for evaluating conjunctions cheapest first.
        needs: (argument index, what its entity must have).
        snapshot: whether it compares with the state at reset.
    """

    name: str
    fn: Callable[..., float]
    kinds: tuple[ArgKind, ...]
    tol: Mapping[str, float]
    unit: str
    cost: int
    needs: tuple[tuple[int, Need], ...]
    snapshot: bool

    @property
    def doc(self) -> str:
        """The margin formula."""
        return inspect.getdoc(self.fn) or ""


ATOMS: Registry[AtomRecord] = Registry("predicate")


def atom(
    name: str,
    kinds: str,
    *,
    unit: str = "m",
    cost: int = 1,
    needs: Mapping[int, Need] | None = None,
    snapshot: bool = False,
) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register a function as an atom; its keyword-only defaults are the default tolerances."""
    known: dict[str, ArgKind] = {kind: kind for kind in get_args(ArgKind)}
    words: tuple[ArgKind, ...] = tuple(known[word] for word in kinds.split())

    def register(fn: Callable[..., float]) -> Callable[..., float]:
        parameters = inspect.signature(fn).parameters.values()
        tol = {p.name: float(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
        ATOMS.add(name, AtomRecord(name, fn, words, tol, unit, cost, tuple((needs or {}).items()), snapshot))
        return fn

    return register
