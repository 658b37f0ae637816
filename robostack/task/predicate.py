"""The predicate language: a closed, typed AST. Evaluation lives in ``robostack.task.evaluate``.

JSON forms::

    {"name": "on", "args": ["a", "b"], "tol": {"z": 0.005}}      an atom
    {"and": [p, ...]}  {"or": [p, ...]}  {"not": p}              connectives

Truth comes from a signed margin, true iff margin >= 0; and = min, or = max, not = negation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag


class Node(BaseModel):
    """Base of all AST nodes: immutable, no unknown fields, JSON aliases as written above."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Atom(Node):
    """A named relation over entities and numbers; ``tol`` overrides the atom's default tolerances."""

    name: str
    args: tuple[str | float | tuple[str, ...] | tuple[float, ...], ...]
    tol: dict[str, float] = Field(default_factory=dict)


class And(Node):
    """True when every part is."""

    parts: tuple[Pred, ...] = Field(alias="and", min_length=1)


class Or(Node):
    """True when some part is."""

    parts: tuple[Pred, ...] = Field(alias="or", min_length=1)


class Not(Node):
    """True when the part is not."""

    part: Pred = Field(alias="not")


def _kind(value: Any) -> str:
    for tag, cls in (("and", And), ("or", Or), ("not", Not)):
        if isinstance(value, cls) or (isinstance(value, dict) and tag in value):
            return tag
    return "atom"


Pred = Annotated[
    Annotated[Atom, Tag("atom")]
    | Annotated[And, Tag("and")]
    | Annotated[Or, Tag("or")]
    | Annotated[Not, Tag("not")],
    Discriminator(_kind),
]

for _node in (And, Or, Not):
    _node.model_rebuild()


def atoms_of(pred: Atom | And | Or | Not) -> Iterator[Atom]:
    """All atoms of a predicate, left to right."""
    if isinstance(pred, Atom):
        yield pred
    elif isinstance(pred, Not):
        yield from atoms_of(pred.part)
    else:
        for part in pred.parts:
            yield from atoms_of(part)


def all_of(*parts: Atom | And | Or | Not) -> Atom | And | Or | Not:
    """Conjunction; a single part stands for itself."""
    return parts[0] if len(parts) == 1 else And(parts=parts)


def atom(name: str, *args: Any, **tol: float) -> Atom:
    """Shorthand: ``atom("on", "a", "b", z=0.005)``."""
    return Atom(name=name, args=args, tol=tol)
