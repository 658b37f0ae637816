"""Predicates in a form in which equal meaning is equal text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from robostack.task.ground import members
from robostack.task.predicate import And, AnyPred, Atom, Count, Exists, ForAll, Or, children
from robostack.task.spec import TaskSpec

Binding = Mapping[str, str]
_UNORDERED = {"near": (0, 1), "far": (0, 1)}
_SETS = ("aligned", "spread")


def canonical(spec: TaskSpec, pred: AnyPred, rename: Binding | None = None) -> str:
    """A text that two predicates share when they differ in the order of parts and members only.

    ``rename`` replaces entity ids first; sets given by attributes are written out before, so that a renamed predicate
    still ranges over the entities that it was meant for.
    """
    return json.dumps(_form(spec, pred, rename or {}), sort_keys=True)


def _form(spec: TaskSpec, pred: AnyPred, rename: Binding):
    if isinstance(pred, Atom):
        return _atom_form(pred, rename)
    if isinstance(pred, (ForAll, Exists, Count)):
        body = pred.body
        among = sorted(rename.get(m, m) for m in members(body.among, spec.entities))
        extra = body.model_dump(mode="json", exclude={"among", "pred"})
        return [type(pred).__name__, among, extra, _form(spec, body.pred, rename)]
    parts = [_form(spec, part, rename) for part in children(pred)]
    if isinstance(pred, (And, Or)):
        parts.sort(key=json.dumps)
    return [type(pred).__name__, *parts]


def _atom_form(atom: Atom, rename: Binding):
    args: list = [_renamed(arg, rename) for arg in atom.args]
    if atom.name in _UNORDERED:
        args[:2] = sorted(args[:2])
    if atom.name in _SETS:
        args[0] = sorted(args[0])
    if atom.name == "contains_count":
        args[1] = sorted(args[1])
    if atom.name == "sorted":
        first, last = args[0], [-v for v in args[1]]
        args = min([args, [first[::-1], last]], key=json.dumps)
    return [atom.name, args, sorted(atom.tol.items())]


def _renamed(arg, rename: Binding):
    if isinstance(arg, tuple):
        return [_renamed(a, rename) for a in arg]
    return rename.get(arg, arg) if isinstance(arg, str) else arg
