"""The static check of quantifiers, memory and contradictions: every refusal names the culprit and the way out."""

import pytest
from pydantic import TypeAdapter, ValidationError

from robostack.errors import SpecError
from robostack.task.evaluate import check
from robostack.task.predicate import Pred, atom
from robostack.task.spec import Hold, Subgoal

PARSE = TypeAdapter(Pred).validate_python
CARDS = {"a": "block", "b": "block", "p": "plate", "o": "drawer"}
ROLES = {"p": "receptacle", "o": "fixture"}
STILL = {"name": "still", "args": ["a"]}
ON = {"name": "on", "args": ["$x", "$y"]}


def joint(comparison, value, name="slide"):
    return {"name": "joint", "args": ["o", name, comparison, value]}


def every(among, pred, var="x"):
    return {"forall": {"var": var, "among": among, "pred": pred}}


def some(among, pred, var="y", distinct=False):
    return {"exists": {"var": var, "among": among, "pred": pred, "distinct": distinct}}


def count(cmp, n, among=("a", "b")):
    return {"count": {"var": "x", "among": list(among), "cmp": cmp, "n": n, "pred": {"name": "still", "args": ["$x"]}}}


GOOD = [
    joint(">=", 0.8),
    {"once": joint(">=", 0.8)},
    {"seq": [joint(">=", 0.8), {"and": [atom("in", "a", "o"), joint("<=", 0.05)]}]},
    {"or": [joint(">=", 0.8), joint("<=", 0.05)]},
    {"and": [{"once": joint(">=", 0.8)}, joint("<=", 0.05)]},
    every({"card": "block"}, some({"role": "receptacle"}, ON)),
    every(["a"], some(["b", "p"], ON, distinct=True)),
    count(">=", 1),
    {"implies": [{"initially": STILL}, STILL]},
    {"and": [atom("near", "a", "b", 0.2), atom("far", "a", "b", 0.1)]},
    {"and": [atom("left_of", "a", "b"), atom("left_of", "p", "a")]},
]


@pytest.mark.parametrize("goal", GOOD)
def test_sensible_goals_pass(make_spec, goal):
    check(make_spec(PARSE(goal), CARDS, roles=ROLES))


BAD = [
    (joint(">", 0.8), "'joint' needs >=, <= or == as argument 3, not '>'"),
    (joint(">=", 1.2), "needs a fraction of the joint's range, 0 .closed. to 1 .open., as argument 4, not 1.2"),
    ({"name": "joint", "args": ["o", 1.0, ">=", 0.5]}, "needs the name of a joint as argument 2"),
    (atom("contains_count", "p", ("a", "b"), ">=", 1.5), "needs a whole number >= 0 as argument 4"),
    (atom("contains_count", "p", ("a", "b"), ">=", 3.0), "'contains_count' asks for 3 of 2: that can never hold"),
    (every({"color": "pink"}, STILL), "no entity has color 'pink'; entities are a .role manipuland, card block"),
    (every([], STILL), "ranges over an empty list"),
    (every(["a", "p"], {"name": "on", "args": ["$x", "p"]}), "'on' relates 'p' to itself"),
    (every(["a", "p"], {"name": "uprigth", "args": ["$x"]}), "did you mean 'upright'"),
    (count(">=", 3), "'count' asks for 3 of 2: that can never hold"),
    (count("<=", 2), "'count' asks for <= 2 of 2: that always holds"),
    (count(">=", 0), "that always holds"),
    (every(["a", "b"], some(["p"], ON, distinct=True)), "'distinct' asks 2 entities to choose differently among 1"),
    (some(["a", "b"], {"name": "still", "args": ["$y"]}, distinct=True), "put the 'exists' right below one"),
    ({"not": {"once": STILL}}, "'once' cannot stand inside 'not'"),
    (every(["a"], {"once": {"name": "still", "args": ["$x"]}}), "'once' cannot stand inside 'forall'"),
    (some(["a"], {"seq": [STILL, STILL]}), "'seq' cannot stand inside 'exists'"),
    ({"once": {"seq": [STILL, STILL]}}, "'seq' cannot stand inside 'once'"),
    ({"implies": [{"once": STILL}, STILL]}, "'once' cannot stand inside 'implies'"),
    ({"initially": {"once": STILL}}, "'once' cannot stand inside 'initially'"),
    ({"and": [joint(">=", 0.8), joint("<=", 0.05)]}, "contradiction: joint.o, slide, >=, 0.8. and joint.* exclude"),
    ({"and": [joint("==", 0.5), joint(">=", 0.8)]}, "contradiction"),
    ({"seq": [STILL, {"and": [joint(">=", 0.8), {"and": [joint("<=", 0.05)]}]}]}, "contradiction"),
    ({"and": [STILL, {"not": STILL}]}, "contradiction: still.a. and not still.a."),
    ({"and": [atom("near", "a", "b", 0.1), atom("far", "b", "a", 0.2)]}, "contradiction: near"),
    ({"and": [atom("on", "a", "b"), atom("on", "b", "a")]}, "contradiction: on.a, b. and on.b, a."),
    ({"and": [atom("left_of", "a", "b"), atom("right_of", "a", "b")]}, "contradiction"),
    (every(["a"], {"and": [{"name": "near", "args": ["$x", "p", 0.1]}, atom("far", "a", "p", 0.2)]}), "contradiction"),
    ({"and": [STILL, atom("grasped", "a")]}, "contradiction: grasped.a., yet hold.released asks for empty hands"),
]


@pytest.mark.parametrize(("goal", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_goal_without_sense_is_refused(make_spec, goal, message):
    with pytest.raises(SpecError, match=f"task 'test', goal: .*{message}") as error:
        check(make_spec(PARSE(goal), CARDS, roles=ROLES))
    assert "\n" not in str(error.value)


def test_thirteen_candidates_are_too_many_for_distinct_choices(make_spec):
    cards = {f"e{i}": "block" for i in range(13)} | {"p": "plate"}
    goal = PARSE(every(["p"], some({"card": "block"}, {"name": "on", "args": ["$y", "$x"]}, distinct=True)))
    with pytest.raises(SpecError, match="chooses among at most 12 entities, not 13"):
        check(make_spec(goal, cards))


def test_a_held_object_is_a_goal_where_it_need_not_be_released(make_spec):
    check(make_spec(atom("grasped", "a"), CARDS, roles=ROLES, hold=Hold(released=False)))


@pytest.mark.parametrize("place", ["never", "init", "subgoals"])
def test_only_goals_remember(make_spec, place):
    pred = PARSE({"once": STILL})
    part = Subgoal(skill="achieve", args=(), goal=pred) if place == "subgoals" else pred
    with pytest.raises(SpecError, match=f"{place}/0: 'once' and 'seq' belong to the goal only"):
        check(make_spec(PARSE(STILL), CARDS, roles=ROLES, **{place: (part,)}))


def test_subgoals_of_joints_and_numbers_pass(make_spec):
    opened = Subgoal(skill="open", args=("o", "slide"), goal=PARSE(joint(">=", 0.8)))
    check(make_spec(PARSE(joint(">=", 0.8)), CARDS, roles=ROLES, subgoals=(opened,)))
    wrong = Subgoal(skill="open", args=("q", "slide"), goal=PARSE(joint(">=", 0.8)))
    with pytest.raises(SpecError, match=r"subgoals/0 refers to \['q'\]"):
        check(make_spec(PARSE(joint(">=", 0.8)), CARDS, roles=ROLES, subgoals=(wrong,)))


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (every(["a", "z"], STILL), r"ranges over \['z'\]"),
        (every(["a"], {"name": "still", "args": ["$y"]}), r"'still' refers to '\$y'"),
        (every(["a"], every(["b"], STILL)), "the variable 'x' is bound twice"),
        ({"name": "joint", "args": ["z", "slide", ">=", 0.5]}, "'joint' refers to 'z'"),
        (every({}, STILL), "a set needs entity ids, or at least one of role, card, color"),
    ],
)
def test_names_are_resolved_when_a_spec_is_read(make_spec, goal, message):
    with pytest.raises(ValidationError, match=message):
        make_spec(PARSE(goal), CARDS, roles=ROLES)
