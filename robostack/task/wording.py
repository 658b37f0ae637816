"""Predicates in short, for messages: ``in(red_cube, bowl)``."""

from __future__ import annotations

from robostack.task.predicate import (
    Among,
    And,
    AnyPred,
    Atom,
    Count,
    Exists,
    ForAll,
    Implies,
    Initially,
    Not,
    Once,
    Or,
    Select,
)

AT: dict[str, str] = {">=": "at least", "<=": "at most", "==": "exactly"}


def text(pred: AnyPred) -> str:
    """Short form for messages: ``in(red_cube, bowl)``."""
    if isinstance(pred, Atom):
        return f"{pred.name}({', '.join(_arg(a) for a in pred.args)})"
    if isinstance(pred, (Not, Once, Initially)):
        return f"{type(pred).__name__.lower()} {text(pred.part)}"
    if isinstance(pred, (ForAll, Exists, Count)):
        return f"({_quantifier(pred)}: {text(pred.body.pred)})"
    word = " and " if isinstance(pred, And) else " or " if isinstance(pred, Or) else ", then "
    return f"({(' implies ' if isinstance(pred, Implies) else word).join(text(p) for p in pred.parts)})"


def _quantifier(pred: ForAll | Exists | Count) -> str:
    among = f"${pred.body.var} in {among_text(pred.body.among)}"
    if isinstance(pred, Count):
        return f"for {AT[pred.body.cmp]} {pred.body.n} {among}"
    if isinstance(pred, ForAll):
        return f"for every {among}"
    return f"for some {'other ' if pred.body.distinct else ''}{among}"


def among_text(among: Among) -> str:
    """A set in short: ``[a, b]`` or ``{role manipuland, color red}``."""
    if not isinstance(among, Select):
        return f"[{', '.join(among)}]"
    return f"{{{', '.join(f'{key} {value}' for key, value in among.model_dump(exclude_none=True).items())}}}"


def _arg(value: str | float | tuple) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_arg(v) for v in value)}]"
    return value if isinstance(value, str) else f"{value:g}"
