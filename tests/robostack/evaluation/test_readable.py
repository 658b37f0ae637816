import re

import pytest
from pydantic import TypeAdapter

from robostack.evaluation.readable import goal_list
from robostack.task.predicate import Pred, atom

ON = {"name": "on", "args": ["$x", "$y"]}
PLATES = {"var": "y", "among": {"card": "plate"}, "pred": ON}


@pytest.mark.parametrize(
    ("pred", "words"),
    [
        (atom("joint", "drawer", "slide", ">=", 0.8), "joint slide of drawer is at least 0.8 open"),
        ({"once": atom("joint", "b", "press", ">=", 0.8)}, "at some time in the episode joint press of b is at least"),
        ({"seq": [atom("upright", "a"), atom("still", "a")]}, "one after another a stands upright a is at rest"),
        ({"initially": atom("upright", "a")}, "at the start of the episode a stands upright"),
        ({"implies": [atom("upright", "a"), atom("still", "a")]}, "the first of these holds only together with"),
        (
            {"forall": {"var": "x", "among": ["a", "b"], "pred": atom("still", "$x")}},
            "for every $x of [a, b] $x is at rest",
        ),
        (
            {"forall": {"var": "x", "among": {"color": "red"}, "pred": {"exists": {**PLATES, "distinct": True}}}},
            "for every $x of {color red} for one, a different one each time, $y of {card plate} $x rests on $y",
        ),
        ({"exists": PLATES}, "for at least one $y of {card plate}"),
        ({"count": {**PLATES, "cmp": "<=", "n": 2}}, "for at most 2 $y of {card plate}"),
        (atom("contains_count", "bin", ("a", "b"), "==", 1.0), "the number of a , b inside bin is exactly 1"),
    ],
)
def test_every_node_reads_as_words(pred, words):
    html = goal_list(TypeAdapter(Pred).validate_python(pred))
    assert words in " ".join(re.sub(r"<[^>]+>", " ", html).split())
