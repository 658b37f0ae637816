"""Goals in words: the predicate language as nested lists of short sentences, for pages and for terminals."""

from __future__ import annotations

import html
import re

from robostack.evaluation.html import Html, join, tag, text
from robostack.task.predicate import (
    Among,
    And,
    AnyPred,
    Atom,
    Bound,
    Choice,
    Count,
    Exists,
    ForAll,
    Implies,
    Initially,
    Not,
    Once,
    Select,
    Seq,
    children,
)
from robostack.task.spec import Hold

_PHRASES = {
    "joint": "{1} of {0} is {2} {3} open",
    "on": "{0} rests on {1}",
    "in": "{0} is inside {1}",
    "inside": "{0} is inside {1}",
    "near": "{0} is within {2} m of {1}",
    "far": "{0} is at least {2} m from {1}",
    "left_of": "{0} is left of {1}",
    "right_of": "{0} is right of {1}",
    "front_of": "{0} is in front of {1}",
    "in_front_of": "{0} is in front of {1}",
    "behind": "{0} is behind {1}",
    "above": "{0} is above {1}",
    "upright": "{0} stands upright",
    "aligned": "{0} lie on a line",
    "grasped": "{0} is held by the gripper",
    "lifted": "{0} is lifted by {1} m",
    "released": "{0} is released by the robot",
    "touching": "{0} touches {1}",
    "moved": "{0} has moved by {1} m",
    "still": "{0} is at rest",
    "toppled": "{0} has fallen over",
    "in_zone": "{0} lies in {1}",
}


def goal_list(pred: AnyPred) -> Html:
    """A predicate as a nested list."""
    return tag("ul", _item(pred), class_="goal")


def goal_lines(pred: AnyPred, indent: int = 0) -> list[str]:
    """A predicate as indented lines of plain text."""
    label = atom_phrase(pred) if isinstance(pred, Atom) else text(_operator(pred))
    plain = html.unescape(re.sub(r"<[^>]+>", "", label))
    lines = [f"{'  ' * indent}{plain}"]
    for part in children(pred):
        lines.extend(goal_lines(part, indent + 1))
    return lines


def _item(pred: AnyPred) -> Html:
    if isinstance(pred, Atom):
        return tag("li", atom_phrase(pred))
    parts = tag("ul", *map(_item, children(pred)), class_="goal")
    return tag("li", tag("span", _operator(pred), class_="op"), parts)


_OPERATORS: dict[type, str] = {
    And: "all of",
    Not: "it is not so that",
    Implies: "if the first, then the second",
    Initially: "at the start",
    Once: "at some time",
    Seq: "one after another",
}


def _operator(pred: AnyPred) -> str:
    if isinstance(pred, (ForAll, Exists, Count)):
        return _quantifier(pred)
    return _OPERATORS.get(type(pred), "at least one of")


def _quantifier(pred: ForAll | Exists | Count) -> str:
    body: Bound = pred.body
    who = f"${body.var} among {_set(body.among)}"
    if isinstance(pred, ForAll):
        return f"for every {who}"
    if isinstance(pred, Count):
        words = {">=": "at least", "<=": "at most", "==": "exactly"}
        return f"for {words[pred.body.cmp]} {pred.body.n} {who}"
    other = ", a different one each time" if isinstance(body, Choice) and body.distinct else ""
    return f"for some {who}{other}"


def _set(among: Among) -> str:
    if isinstance(among, Select):
        chosen = (among.color, among.card, among.role and f"with the role {among.role}")
        return f"all {' '.join(part for part in chosen if part)}"
    return ", ".join(among)


def atom_phrase(atom: Atom) -> Html:
    """An atom as a sentence; one without a known wording, or with other arguments, in the form ``name(a, b)``."""
    arguments = [_argument(arg) for arg in atom.args]
    phrase = _PHRASES.get(atom.name, "")
    wanted = sum(f"{{{i}}}" in phrase for i in range(len(arguments) + 3))
    if phrase and wanted == len(arguments):
        sentence = Html(phrase.format(*arguments))
    else:
        sentence = join([tag("code", f"{atom.name}("), join(arguments, ", "), tag("code", ")")])
    if not atom.tol:
        return sentence
    tolerances = ", ".join(f"{name} {value:g}" for name, value in atom.tol.items())
    return join([sentence, tag("span", f" (tolerance: {tolerances})", class_="op")])


def _argument(arg: str | float | tuple) -> Html:
    if isinstance(arg, tuple):
        return join([_argument(part) for part in arg], ", ")
    return tag("code", arg) if isinstance(arg, str) else text(f"{arg:g}")


def hold_sentence(hold: Hold) -> str:
    """What "achieved" means."""
    released = " and untouched by the robot" if hold.released else ""
    return (
        f"Counts when it holds for {hold.seconds:g} s without a break, with every manipuland slower than "
        f"{hold.max_lin:g} m/s and {hold.max_ang:g} rad/s{released}."
    )
