"""The predicate language: a closed, typed AST. Evaluation lives in ``robostack.task.evaluate``.

JSON forms::

    {"name": "on", "args": ["a", "b"], "tol": {"z": 0.005}}                       an atom
    {"and": [p, ...]}  {"or": [p, ...]}  {"not": p}  {"implies": [p, q]}          connectives
    {"forall": {"var": "x", "among": S, "pred": p}}                               quantifiers over entities
    {"exists": {"var": "x", "among": S, "distinct": true, "pred": p}}
    {"count": {"var": "x", "among": S, "cmp": ">=", "n": 2, "pred": p}}
    {"initially": p}                                                              p as it was at reset
    {"once": p}  {"seq": [p, ...]}                                                explicit memory: goals only

A set S is a tuple of entity ids, or a selector of entities by all of its given attributes
(``{"role": "manipuland", "card": "block", "color": "red"}``). Inside a quantifier ``"$x"`` stands for its variable.

Truth comes from a signed margin, true iff >= 0: and = min, or = max, not = negation, implies(p, q) = or(not p, q),
forall = min, exists = max, count(>= n) = the n-th greatest. ``distinct`` on an ``exists`` right below a ``forall`` asks
for an injective choice: the margin is that of the best assignment, whose worst pair counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Cmp = Literal[">=", "<=", "=="]
COMPARISONS: tuple[str, ...] = get_args(Cmp)


class Node(BaseModel):
    """Base of all AST nodes: immutable, no unknown fields, JSON aliases as written above."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Atom(Node):
    """A named relation over entities, joints and numbers; ``tol`` overrides the atom's default tolerances."""

    name: str
    args: tuple[str | float | tuple[str, ...] | tuple[float, ...], ...]
    tol: dict[str, float] = Field(default_factory=dict)


class Select(Node):
    """The entities that have all the given attributes; at least one attribute must be given."""

    role: str | None = None
    card: str | None = None
    color: str | None = None

    @model_validator(mode="after")
    def _some(self) -> Select:
        if self.role is None and self.card is None and self.color is None:
            raise ValueError("a set needs entity ids, or at least one of role, card, color")
        return self


Among = tuple[str, ...] | Select


class Bound(Node):
    """What a quantifier ranges over, and what it says of each member."""

    var: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    among: Among
    pred: Pred


class Choice(Bound):
    """The body of an ``exists``; ``distinct`` forbids two members of the enclosing ``forall`` to choose the same."""

    distinct: bool = False


class Tally(Bound):
    """The body of a ``count``."""

    cmp: Cmp
    n: int = Field(ge=0)


class And(Node):
    """True when every part is."""

    parts: tuple[Pred, ...] = Field(alias="and", min_length=1)


class Or(Node):
    """True when some part is."""

    parts: tuple[Pred, ...] = Field(alias="or", min_length=1)


class Not(Node):
    """True when the part is not."""

    part: Pred = Field(alias="not")


class Implies(Node):
    """True when the first part is false or the second is true."""

    parts: tuple[Pred, Pred] = Field(alias="implies")


class ForAll(Node):
    """True when the predicate holds for every member."""

    body: Bound = Field(alias="forall")


class Exists(Node):
    """True when the predicate holds for some member."""

    body: Choice = Field(alias="exists")


class Count(Node):
    """True when the number of members for which the predicate holds compares as asked."""

    body: Tally = Field(alias="count")


class Initially(Node):
    """The part, judged on the state at reset."""

    part: Pred = Field(alias="initially")


class Once(Node):
    """True from the first time on at which the part was true: the only latch there is."""

    part: Pred = Field(alias="once")


class Seq(Node):
    """True when the parts became true one after another, and the last one is true now."""

    parts: tuple[Pred, ...] = Field(alias="seq", min_length=2)


_TAGS: dict[str, type[Node]] = {
    "and": And,
    "or": Or,
    "not": Not,
    "implies": Implies,
    "forall": ForAll,
    "exists": Exists,
    "count": Count,
    "initially": Initially,
    "once": Once,
    "seq": Seq,
}


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return next((tag for tag in _TAGS if tag in value), "atom")
    return next((tag for tag, cls in _TAGS.items() if isinstance(value, cls)), "atom")


Pred = Annotated[
    Annotated[Atom, Tag("atom")]
    | Annotated[And, Tag("and")]
    | Annotated[Or, Tag("or")]
    | Annotated[Not, Tag("not")]
    | Annotated[Implies, Tag("implies")]
    | Annotated[ForAll, Tag("forall")]
    | Annotated[Exists, Tag("exists")]
    | Annotated[Count, Tag("count")]
    | Annotated[Initially, Tag("initially")]
    | Annotated[Once, Tag("once")]
    | Annotated[Seq, Tag("seq")],
    Discriminator(_kind),
]
AnyPred = Atom | And | Or | Not | Implies | ForAll | Exists | Count | Initially | Once | Seq

for _node in (Bound, Choice, Tally, *_TAGS.values()):
    _node.model_rebuild()


def children(pred: AnyPred) -> tuple[AnyPred, ...]:
    """The direct parts of a predicate, left to right; a quantifier's part still contains its variable."""
    if isinstance(pred, (And, Or, Implies, Seq)):
        return pred.parts
    if isinstance(pred, (Not, Initially, Once)):
        return (pred.part,)
    if isinstance(pred, (ForAll, Exists, Count)):
        return (pred.body.pred,)
    return ()


def walk(pred: AnyPred) -> Iterator[AnyPred]:
    """The predicate and everything below it, parents first, left to right."""
    yield pred
    for part in children(pred):
        yield from walk(part)


def atoms_of(pred: AnyPred) -> Iterator[Atom]:
    """All atoms of a predicate, left to right; below a quantifier they name its variable as ``$x``."""
    return (node for node in walk(pred) if isinstance(node, Atom))


def is_distinct(pred: AnyPred) -> bool:
    """A ``forall`` whose members must choose differently."""
    return isinstance(pred, ForAll) and isinstance(pred.body.pred, Exists) and pred.body.pred.body.distinct


def remembers(pred: AnyPred) -> bool:
    """Whether the predicate has memory: ``once`` or ``seq``."""
    return any(isinstance(node, (Once, Seq)) for node in walk(pred))


def all_of(*parts: AnyPred) -> AnyPred:
    """Conjunction; a single part stands for itself."""
    return parts[0] if len(parts) == 1 else And(parts=parts)  # pyright: ignore[reportCallIssue]  # populate_by_name


def any_of(*parts: AnyPred) -> AnyPred:
    """Disjunction; a single part stands for itself."""
    return parts[0] if len(parts) == 1 else Or(parts=parts)  # pyright: ignore[reportCallIssue]  # populate_by_name


def negation(part: AnyPred) -> AnyPred:
    """The part's negation; a double one falls away."""
    return part.part if isinstance(part, Not) else Not(part=part)  # pyright: ignore[reportCallIssue]


def memoryless(pred: AnyPred) -> AnyPred:
    """What a single state must satisfy to complete the predicate: once(p) -> p, seq(..., p) -> p.

    A goal without ``once`` and ``seq`` is returned as it is. A state in which the result holds is one that may end an
    episode successfully; that a latched part held earlier in the episode is not said.
    """
    if not remembers(pred):
        return pred
    if isinstance(pred, (Once, Seq)):
        return memoryless(pred.part if isinstance(pred, Once) else pred.parts[-1])
    return pred.model_copy(update={"parts": tuple(memoryless(part) for part in children(pred))})


def atom(name: str, *args: Any, **tol: float) -> Atom:
    """Shorthand: ``atom("on", "a", "b", z=0.005)``."""
    return Atom(name=name, args=args, tol=tol)
