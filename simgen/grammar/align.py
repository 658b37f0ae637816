"""Whether an instruction and a goal say the same, without a model: claims of the text against the goal's own relations.

Any contradiction refuses, whatever the likeness of the words: left/right, on/in/under, open/close, pushed/carried,
all/one, before/after, colours, counts, things that the goal does not speak of, and parts of the goal that the text
leaves out.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from robostack.task.ground import ground, grounded_atoms
from robostack.task.predicate import AnyPred, Atom, Count, Exists, ForAll, Not, Seq, children
from robostack.task.spec import Entity, TaskSpec
from simgen.grammar.claims import Claims, Mention, Relation, nouns, plain, read_claims
from simgen.grammar.describe import describe

FLOOR = 0.1  # least likeness of the words

_MIRROR = {"right_of": "left_of", "behind": "front_of"}
_SIDES = ("left_of", "right_of", "front_of", "behind")
_HELD = ("on", "in")
_WORKED = {("drawer", True): "open", ("cabinet", True): "open", ("drawer", False): "close", ("cabinet", False): "close"}
_WORKED |= {("lever", True): "push", ("lever", False): "pull", ("button", True): "press", ("dial", True): "turn"}
_WORKED |= {("dial", False): "turn"}


@dataclass(frozen=True)
class Alignment:
    """Outcome of the comparison.

    Attributes:
        ok: no contradiction, and enough likeness of the words.
        similarity: cosine between the words of the instruction and of the goal's description, 0 to 1.
        contradictions: one sentence each.
        described: the goal in canonical English.
    """

    ok: bool
    similarity: float
    contradictions: tuple[str, ...]
    described: str


def compare(text: str, spec: TaskSpec) -> Alignment:
    """Compare an instruction with the goal of a task, whose own instruction is not looked at."""
    described = describe(spec.goal, spec)
    claims = read_claims(text)
    meant = _Meant(spec)
    found = tuple(dict.fromkeys(itertools.chain(*(rule(claims, meant) for rule in _RULES))))
    likeness = _cosine(text, described)
    return Alignment(not found and likeness >= FLOOR, round(likeness, 3), found, described)


class _Meant:
    """The relations of a goal, with sets written out."""

    def __init__(self, spec: TaskSpec):
        self.spec = spec
        self.entities = {e.id: e for e in spec.entities}
        self.goal = [a for p in _positive(spec.goal) for a in grounded_atoms(p, spec.entities)]
        self.start = [a for p in spec.init for a in grounded_atoms(p, spec.entities)]
        self.everything = [a for p in (spec.goal, *spec.init) for a in grounded_atoms(p, spec.entities)]
        self.fallen = set(_fallen(ground(spec.goal, spec)))
        self.named = {n for a in self.everything for n in _ids(a) if n in self.entities} | self.fallen
        self.nodes = list(_walk(spec.goal))

    def fits(self, mention: Mention) -> set[str]:
        """Ids of the goal's entities that a phrase may mean."""
        fits = (self.entities[i] for i in self.named)
        return {e.id for e in fits if e.card in mention.cards and (not mention.colors or e.color in mention.colors)}

    def joints(self) -> Iterator[tuple[Atom, Entity]]:
        """Joints that the goal speaks of, save that a button comes back."""
        for atom in self.goal:
            if atom.name == "joint":
                entity = self.entities[str(atom.args[0])]
                if not (entity.card == "button" and atom.args[2] == "<="):
                    yield atom, entity


def _walk(pred: AnyPred) -> Iterator[AnyPred]:
    yield pred
    for part in children(pred):
        yield from _walk(part)


def _positive(pred: AnyPred) -> Iterator[AnyPred]:
    """Parts that are not below a negation; quantifiers stay whole."""
    if isinstance(pred, Not):
        return
    if isinstance(pred, (Atom, ForAll, Exists, Count)):
        yield _without_negations(pred)
        return
    for part in children(pred):
        yield from _positive(part)


def _fallen(pred: AnyPred) -> Iterator[str]:
    """What shall not stand any more."""
    if isinstance(pred, Not) and isinstance(pred.part, Atom):
        yield from [str(pred.part.args[0])] if pred.part.name == "upright" else []
        return
    for part in children(pred):
        yield from _fallen(part)


def _without_negations(pred: AnyPred) -> AnyPred:
    if isinstance(pred, (ForAll, Exists, Count)):
        kept = list(_positive(pred.body.pred))
        inner = kept[0] if len(kept) == 1 else pred.body.pred.model_copy(update={"parts": tuple(kept)})
        return pred.model_copy(update={"body": pred.body.model_copy(update={"pred": inner})})
    return pred


def _ids(atom: Atom) -> tuple[str, ...]:
    return tuple(n for arg in atom.args for n in (arg if isinstance(arg, tuple) else (arg,)) if isinstance(n, str))


def _things(claims: Claims, meant: _Meant) -> Iterator[str]:
    """What the text names, the goal speaks of, in that number."""
    for word in claims.strange:
        yield f"'{word}' names nothing in the goal"
    if not claims.mentions:
        yield "it names nothing that the goal speaks of"
    for mention in claims.mentions:
        if "table" in mention.cards:
            continue
        fits = meant.fits(mention)
        colors = {meant.entities[i].color for i in fits}
        wanted = mention.number if claims.quantity is None else None
        wanted = len(mention.colors) if len(mention.colors) > 1 else wanted
        if not fits or set(mention.colors) - colors:
            yield f"'{mention.words}' is nothing that the goal speaks of"
        elif wanted not in (None, len(fits)):
            yield f"'{mention.words}': the goal speaks of {len(fits)}"


def _left_out(claims: Claims, meant: _Meant) -> Iterator[str]:
    """What the goal speaks of, the text names."""
    said = set().union(*(meant.fits(m) for m in claims.mentions)) if claims.mentions else set()
    implied = bool(claims.states & {"swap", "sort"})
    for name in sorted(meant.named - said):
        entity = meant.entities[name]
        if entity.role in ("receptacle", "zone") and implied:
            continue
        if entity.role == "manipuland" and claims.states & {"clear"}:
            continue
        yield f"the goal speaks of the {entity.color} {entity.card}, which the text leaves out"


def _relations(claims: Claims, meant: _Meant) -> Iterator[str]:
    tower = "tower" in claims.states
    for said in claims.relations:
        if said.target is None or "table" in said.target.cards or said.lemma in ("instead", "where", "was_on"):
            continue
        if said.lemma == "with" and tower:
            continue
        if said.lemma == "with":
            yield from _covered(claims, said, meant)
        elif said.lemma == "off" and "line" in claims.states:
            continue
        elif said.lemma == "off":
            yield from _taken_off(said, meant)
        elif not (tower or "replace" in claims.states):
            yield from _related(said, meant, claims.states)
    if tower:
        yield from _tower(claims, meant)
    if "replace" in claims.states and len(claims.mentions) == 3:
        old, home, new = claims.mentions
        yield from _related(Relation("on", new, home), meant)
        yield from _taken_off(Relation("off", old, home), meant)


def _related(said: Relation, meant: _Meant, states: frozenset[str] = frozenset()) -> Iterator[str]:
    assert said.target is not None
    subjects = meant.fits(said.subject) if said.subject else set(meant.named)
    targets = meant.fits(said.target)
    if not subjects or not targets:
        return
    zone = all(meant.entities[t].role == "zone" for t in targets)
    wanted = {"on"} if zone and said.lemma in ("on", "in", "to") else {said.lemma}
    if said.lemma in _HELD and said.target.several and "sort" in states:
        wanted = {"on", "in"}  # "sort the blocks into the plates"
    if said.lemma == "to" and not zone:
        return
    pairs = [_canonical(a.name, str(a.args[0]), str(a.args[1])) for a in meant.goal if a.name in (*_HELD, *_SIDES)]
    asked = {_canonical(w, s, t) for w in wanted for s in subjects for t in targets}
    if not asked & set(pairs):
        has = sorted({name for name, s, t in pairs if {s, t} & targets or {s, t} & subjects})
        yield f"it says '{said.lemma}' of '{said.target.words}'; the goal has {', '.join(has) or 'no such relation'}"


def _canonical(name: str, a: str, b: str) -> tuple[str, str, str]:
    return (_MIRROR[name], b, a) if name in _MIRROR else (name, a, b)


def _taken_off(said: Relation, meant: _Meant) -> Iterator[str]:
    assert said.target is not None
    subjects = meant.fits(said.subject) if said.subject else set(meant.named)
    pairs = {(s, t) for s in subjects for t in meant.fits(said.target)}
    if not pairs & {a.args[:2] for a in meant.start if a.name in _HELD}:
        yield f"it takes something off '{said.target.words}', where nothing such is at the start"
    if pairs & {a.args[:2] for a in meant.goal if a.name in _HELD}:
        yield f"it takes something off '{said.target.words}', where the goal wants it"


def _covered(claims: Claims, said: Relation, meant: _Meant) -> Iterator[str]:
    assert said.target is not None
    if "lid" in said.target.cards or any("lid" in m.cards for m in claims.mentions):
        box = next((m for m in claims.mentions if m is not said.target), None)
        if box is not None:
            yield from _related(Relation("on", said.target, box), meant)
        return
    tools = any(meant.entities[t].role == "tool" for t in meant.fits(said.target))
    if not tools and not claims.states & {"swap", "line", "replace"}:
        yield f"the goal uses no '{said.target.words}'"


def _tower(claims: Claims, meant: _Meant) -> Iterator[str]:
    for lower, upper in itertools.pairwise(claims.mentions):
        yield from _related(Relation("on", upper, lower), meant)


def _works(claims: Claims, meant: _Meant) -> Iterator[str]:
    """What is opened, closed, pressed, turned, pulled or pushed."""
    wanted = {(_WORKED[(e.card, a.args[2] != "<=")], e.id) for a, e in meant.joints()}
    fractions = [float(str(a.args[3])) if a.args[2] == "==" else 1.0 for a, e in meant.joints() if e.card == "dial"]
    shut = {i for verb, i in wanted if verb == "close"}
    for verb, mention in claims.works:
        fits = {i for i in meant.fits(mention) if meant.entities[i].role == "fixture"}
        options = {verb, "press"} if verb == "push" else {verb}
        if not fits or any((v, i) in wanted for v in options for i in fits):
            continue
        if not (verb == "open" and fits & shut and claims.states & {"close"}):
            yield f"it says '{verb}' of '{mention.words}', which the goal does not want"
    for verb, name in sorted(wanted):
        lemmas = {verb, "push"} if verb == "press" else {verb}
        if not claims.states & lemmas:
            yield f"the goal wants to {verb} the {meant.entities[name].card}, which the text does not say"
        if verb == "open" and "close" in claims.states and len(wanted) == 1:
            yield "it says 'close'; the goal wants it open"
    if fractions and (claims.turned or 1.0) not in [round(f, 2) for f in fractions]:
        yield f"it turns by {claims.turned or 1.0:g} of the range; the goal wants {fractions[0]:g}"


def _numbers(claims: Claims, meant: _Meant) -> Iterator[str]:
    counts = [(n.body.cmp, n.body.n) for n in meant.nodes if isinstance(n, Count)]
    if counts and claims.quantity is None:
        yield f"the goal counts to {counts[0][1]}; the text gives no number of what there is"
    if claims.quantity is not None and claims.quantity not in counts:
        yield f"it asks for {claims.quantity[0]} {claims.quantity[1]}; the goal for {counts or 'all'}"
    distinct = any(isinstance(n, Exists) and n.body.distinct for n in meant.nodes)
    if distinct != ("differ" in claims.states):
        yield "different places for all: " + ("the goal asks for it" if distinct else "the goal does not")


def _manner(claims: Claims, meant: _Meant) -> Iterator[str]:
    """Pushed or carried; in a row; sorted; exchanged."""
    pushed = any(isinstance(p, Atom) and p.name == "lifted" for p in meant.spec.never)
    handles = {e.card for _, e in meant.joints()} & {"button", "lever"} or any(
        e.card == "peg" for e in meant.entities.values()
    )
    if pushed and not claims.states & {"push"} and "tool" not in {e.role for e in meant.entities.values()}:
        yield "the goal forbids lifting; the text does not say to push"
    if "push" in claims.states and not pushed and not handles and not claims.states & {"close", "press"}:
        yield "it says to push; the goal does not forbid lifting"
    if bool(meant.fallen) != ("topple" in claims.states):
        yield "knocking over: " + ("the goal asks for it" if meant.fallen else "the goal does not")
    row = any(a.name == "aligned" for a in meant.goal)
    if row != ("line" in claims.states):
        yield "a row: " + ("the goal asks for it" if row else "the goal does not")
    moves = {a.args[:2] for a in meant.start if a.name in _HELD}
    swapped = any(
        (a.args[0], b.args[1]) in moves and (b.args[0], a.args[1]) in moves and a is not b
        for a, b in itertools.permutations([g for g in meant.goal if g.name in _HELD], 2)
    )
    if swapped != ("swap" in claims.states):
        yield "changing places: " + ("the goal asks for it" if swapped else "the goal does not")
    if "sort" in claims.states:
        pairs = [a.args[:2] for a in meant.goal if a.name in _HELD]
        if not pairs or any(meant.entities[str(s)].color != meant.entities[str(t)].color for s, t in pairs):
            yield "it says to sort by colour; the goal does not pair colours"


def _order(claims: Claims, meant: _Meant) -> Iterator[str]:
    """Stages of the goal come in the order of the text."""
    for node in meant.nodes:
        if not isinstance(node, Seq):
            continue
        places, seen = [], set()
        for part in node.parts:
            wanted = (a for p in _positive(part) for a in grounded_atoms(p, meant.spec.entities))
            names = {n for a in wanted for n in _ids(a)} - seen
            fresh = [n for n in names if n in meant.entities]
            seen |= names
            at = [m.start for m in claims.mentions if meant.fits(m) & set(fresh) and not meant.fits(m) & (seen - names)]
            if at and "tool_push" not in {s.skill for s in meant.spec.subgoals}:
                places.append(min(at))
        if places != sorted(places):
            yield "it asks for the same in another order than the goal"


_RULES = (_things, _left_out, _relations, _works, _numbers, _manner, _order)

_STOP = frozenset(["the", "a", "an", "is", "are", "and", "to", "of", "it", "that", "please", "can", "you"])


def _lemma(word: str) -> str:
    """One word for all nouns of a card."""
    cards, _ = nouns().get(word, (frozenset((word,)), False))
    return min(cards)


def _cosine(a: str, b: str) -> float:
    first, second = (Counter(_lemma(w) for w in re.findall(r"[a-z]+", plain(t)) if w not in _STOP) for t in (a, b))
    dot = sum(first[w] * second[w] for w in first)
    size = math.sqrt(sum(v * v for v in first.values()) * sum(v * v for v in second.values()))
    return dot / size if size else 0.0
