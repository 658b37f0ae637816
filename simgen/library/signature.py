"""What a task means, apart from names, wording, colours and the robot: equal signatures are the same task.

The canonical form is that of a labelled graph. Nodes are entities, labelled by card and role. Relations are the parts
of goal, never and init, with symmetric arguments and conjunctions sorted, mirrored relations written one way round,
variables numbered by depth, sets written out, and lengths in three buckets. Colours enter only as the pattern by which
several objects of one card go with several of another ("each block on the plate of its colour"). Labels are refined
until they are stable, and ties are broken by trying every choice that is no mere exchange of twins (the scheme of
McKay's nauty: individualisation and refinement), so the form does not depend on names or order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping

from robostack.task.atoms import ATOMS
from robostack.task.ground import grounded_atoms, members
from robostack.task.predicate import (
    Among,
    And,
    AnyPred,
    Atom,
    Count,
    Exists,
    ForAll,
    Not,
    Or,
    Select,
    children,
)
from robostack.task.spec import Entity, TaskSpec

SMALL, LARGE = 0.035, 0.35  # bounds of the three buckets of lengths and angles [m or rad]
LEAVES = 256  # ties beyond this many cases are broken in the order of the spec

_MIRROR = {"right_of": "left_of", "behind": "front_of"}
_EITHER_WAY = ("near", "far", "touching")
_UNORDERED = ("aligned", "spread", "contains_count")

Labels = Mapping[str, str]


def signature(spec: TaskSpec) -> str:
    """SHA-256 of the canonical form, 64 hex digits."""
    return hashlib.sha256(canonical_form(spec).encode()).hexdigest()


def canonical_form(spec: TaskSpec) -> str:
    """A text that is equal for two specs iff they are the same task."""
    return _Form(spec).best()


def coverage_cells(spec: TaskSpec) -> tuple[str, ...]:
    """Cells that the task covers: relation, card of its subject, card of its object, number of subgoals, skills."""
    cards = {entity.id: entity.card for entity in spec.entities} | {"table": "table"}
    how = f"{len(spec.subgoals)}:{'+'.join(sorted({s.skill for s in spec.subgoals}))}"
    cells = set()
    for atom in grounded_atoms(spec.goal, spec.entities):
        flat = [n for arg in atom.args for n in (arg if isinstance(arg, tuple) else (arg,))]
        named = [cards[n] for n in flat if isinstance(n, str) and n in cards]
        subject, target = named[0], named[1] if len(named) > 1 else "-"
        cells.add(f"{atom.name}|{subject}|{target}|{how}")
    return tuple(sorted(cells))


class _Form:
    """The search for the least text among all orders of the entities that refinement leaves open."""

    def __init__(self, spec: TaskSpec):
        self.entities = spec.entities
        self.ids = tuple(e.id for e in spec.entities)
        self.parts = [
            *(("goal", p) for p in (spec.goal,)),
            *(("never", p) for p in spec.never),
            *(("init", p) for p in spec.init),
        ]
        self.kin = _kin(spec.entities)
        self.start = {e.id: f"{e.card}/{e.role}{_side(e, spec)}" for e in spec.entities}
        self.leaves = 0

    def best(self) -> str:
        return self._least(self._refined(self.start))

    def _least(self, labels: Labels) -> str:
        tied = self._tied(labels)
        if not tied:
            return self._text(labels)
        found: list[str] = []
        for index, chosen in enumerate(tied):
            if found and (self.leaves >= LEAVES or any(self._twins(labels, chosen, t) for t in tied[:index])):
                continue
            found.append(self._least(self._refined({**labels, chosen: f"{labels[chosen]}!"})))
        return min(found)

    def _tied(self, labels: Labels) -> tuple[str, ...]:
        """The least class with more than one member."""
        sizes = Counter(labels.values())
        classes = sorted(label for label, n in sizes.items() if n > 1)
        return tuple(i for i in self.ids if labels[i] == classes[0]) if classes else ()

    def _twins(self, labels: Labels, a: str, b: str) -> bool:
        """Exchanging the two changes nothing."""
        marked = {i: f"{label}#{k}" for k, (i, label) in enumerate(labels.items())}
        swapped = {**marked, a: marked[b], b: marked[a]}
        return self._lines(marked) == self._lines(swapped)

    def _refined(self, labels: Labels) -> Labels:
        """Labels that also say in which relations an entity stands, and to what."""
        while True:
            marked = {i: _digest(f"{labels[i]};{self._lines({**labels, i: '@'})}") for i in self.ids}
            finer = {i: f"{self.start[i]}:{marked[i]}" for i in self.ids}
            if len(set(finer.values())) == len(set(labels.values())):
                return finer
            labels = finer

    def _text(self, labels: Labels) -> str:
        self.leaves += 1
        order = sorted(self.ids, key=lambda i: labels[i])
        names = {i: f"{self.start[i]}.{k}" for k, i in enumerate(order)}
        return json.dumps([sorted(names.values()), self._lines(names)])

    def _lines(self, labels: Labels) -> list[str]:
        said = [f"{where}:{_written(p, labels, {}, self.entities)}" for where, p in self.parts]
        return sorted([*said, *(f"kin:{sorted((labels[a], labels[b]))}" for a, b in self.kin)])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _side(entity: Entity, spec: TaskSpec) -> str:
    """Where the only zone of a scene lies, seen from what is moved: that is what its name tells of it."""
    if entity.role != "zone" or sum(e.role == "zone" for e in spec.entities) > 1 or not spec.manipulands():
        return ""
    (x, y), starts = _middle(entity), [_middle(e) for e in spec.manipulands() if e.placement.on == "table"]
    if not starts:
        return ""
    dx, dy = x - sum(p for p, _ in starts) / len(starts), y - sum(q for _, q in starts) / len(starts)
    if abs(dy) >= abs(dx):
        return "/left" if dy > 0 else "/right"
    return "/front" if dx > 0 else "/back"


def _middle(entity: Entity) -> tuple[float, float]:
    x0, y0, x1, y1 = entity.placement.box
    return 0.5 * (x0 + x1), 0.5 * (y0 + y1)


def _kin(entities: tuple[Entity, ...]) -> list[tuple[str, str]]:
    """Pairs of one colour and two cards, of each of which there are several: the colour tells what goes with what."""
    several = {card for card, n in Counter(e.card for e in entities).items() if n > 1}
    return [
        (a.id, b.id)
        for k, a in enumerate(entities)
        for b in entities[k + 1 :]
        if a.color == b.color and a.card != b.card and {a.card, b.card} <= several
    ]


def _written(pred: AnyPred, labels: Labels, bound: Mapping[str, str], entities: tuple[Entity, ...]) -> str:
    """A predicate with labels for entities."""
    if isinstance(pred, Atom):
        return _atom(pred, lambda name: labels.get(name) or bound.get(name, name))
    if isinstance(pred, (ForAll, Exists, Count)):
        body, inner = pred.body, {**bound, f"${pred.body.var}": f"${len(bound)}"}
        extra = f"{body.cmp}{body.n}" if isinstance(pred, Count) else ""
        extra = "distinct" if isinstance(pred, Exists) and pred.body.distinct else extra
        among = sorted(labels[i] for i in _members(body.among, entities))
        return f"{type(pred).__name__}{extra}{among}({_written(body.pred, labels, inner, entities)})"
    parts = [_written(p, labels, bound, entities) for p in _flat(pred)]
    if isinstance(pred, (And, Or)):
        parts = sorted(set(parts))
    return (
        f"{type(pred).__name__}({';'.join(parts)})"
        if len(parts) != 1 or isinstance(pred, Not)
        else (parts[0] if isinstance(pred, (And, Or)) else f"{type(pred).__name__}({parts[0]})")
    )


def _members(among: Among, entities: tuple[Entity, ...]) -> tuple[str, ...]:
    return members(among, entities) if isinstance(among, Select) else among


def _flat(pred: AnyPred) -> tuple[AnyPred, ...]:
    """The parts, with those of the same connective inside taken out."""
    if not isinstance(pred, (And, Or)):
        return children(pred)
    kind = type(pred)
    return tuple(q for p in pred.parts for q in (_flat(p) if isinstance(p, kind) else (p,)))


def _atom(atom: Atom, name: Callable[[str], str]) -> str:
    args: list[str] = []
    for kind, value in zip(ATOMS[atom.name].kinds, atom.args, strict=True):
        if isinstance(value, tuple):
            items = [name(v) if isinstance(v, str) else f"{round(v, 1) + 0.0:g}" for v in value]
            args.append(str(sorted(items) if atom.name in _UNORDERED else items))
        elif isinstance(value, str):
            args.append(name(value) if kind in ("entity", "support") else value)
        else:
            args.append(_bucket(value) if kind == "number" else f"{round(20 * value) / 20:g}")
    relation = _MIRROR.get(atom.name, atom.name)
    if relation != atom.name:
        args = args[::-1]
    if relation in _EITHER_WAY:
        args = [*sorted(args[:2]), *args[2:]]
    usual = ATOMS[atom.name].tol
    tol = {k: _bucket(v) for k, v in sorted(atom.tol.items()) if _bucket(v) != _bucket(usual[k])}
    return f"{relation}({','.join(args)}{tol or ''})"


def _bucket(value: float) -> str:
    return "s" if value < SMALL else "m" if value < LARGE else "l"


assert set(_MIRROR) | set(_EITHER_WAY) | set(_UNORDERED) <= set(ATOMS)
