"""Goals in words: the predicate language as nested lists of short sentences, for pages and for terminals."""

from __future__ import annotations

import html
import re

from robostack.evaluation.html import Html, join, tag, text
from robostack.task.predicate import (
    COMPARISONS,
    And,
    AnyPred,
    Atom,
    Count,
    Exists,
    ForAll,
    Implies,
    Initially,
    Node,
    Not,
    Once,
    Or,
    Seq,
    children,
)
from robostack.task.spec import Hold
from robostack.task.wording import AT, among_text

_PHRASES = {
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
    "spread": "{0} are within {1} m of each other",
    "joint": "joint {1} of {0} is {2} {3} open",
    "contains_count": "the number of {1} inside {0} is {2} {3}",
}

_WORDS: dict[type[Node], str] = {
    And: "all of",
    Or: "at least one of",
    Not: "it is not so that",
    Implies: "the first of these holds only together with the second",
    Initially: "at the start of the episode",
    Once: "at some time in the episode",
    Seq: "one after another",
}


def goal_list(pred: AnyPred) -> Html:
    """A predicate as a nested list."""
    return tag("ul", _item(pred), class_="goal")


def goal_lines(pred: AnyPred, indent: int = 0) -> list[str]:
    """A predicate as indented lines of plain text."""
    words, parts = _read(pred)
    plain = html.unescape(re.sub(r"<[^>]+>", "", words))
    return [f"{'  ' * indent}{plain}", *(line for part in parts for line in goal_lines(part, indent + 1))]


def _item(pred: AnyPred) -> Html:
    words, parts = _read(pred)
    if not parts:
        return tag("li", words)
    return tag("li", tag("span", words, class_="op"), tag("ul", *map(_item, parts), class_="goal"))


def _read(pred: AnyPred) -> tuple[Html, tuple[AnyPred, ...]]:
    """The words of a predicate, and the parts that they speak of."""
    if isinstance(pred, Atom):
        return atom_phrase(pred), ()
    if isinstance(pred, (ForAll, Exists, Count)):
        return _set_phrase(pred), (pred.body.pred,)
    return text(_WORDS[type(pred)]), children(pred)


def _set_phrase(pred: ForAll | Exists | Count) -> Html:
    if isinstance(pred, Count):
        start = f"for {AT[pred.body.cmp]} {pred.body.n}"
    elif isinstance(pred, ForAll):
        start = "for every"
    else:
        start = "for one, a different one each time," if pred.body.distinct else "for at least one"
    variable, among = tag("code", f"${pred.body.var}"), tag("code", among_text(pred.body.among))
    return join([text(f"{start} "), variable, text(" of "), among])


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
    if arg in COMPARISONS:
        return text(AT[arg])
    return tag("code", arg) if isinstance(arg, str) else text(f"{arg:g}")


def hold_sentence(hold: Hold) -> str:
    """What "achieved" means."""
    released = " and untouched by the robot" if hold.released else ""
    return (
        f"Counts when it holds for {hold.seconds:g} s without a break, with every manipuland slower than "
        f"{hold.max_lin:g} m/s and {hold.max_ang:g} rad/s{released}."
    )
