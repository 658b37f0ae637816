"""Laws of margins, on random predicates and random states."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from robostack.errors import SpecError
from robostack.task.choose import bottleneck, tally
from robostack.task.evaluate import compile_pred, ground, margin, memoryless, text
from robostack.task.ground import MAX_TERMS
from robostack.task.predicate import Pred, all_of, any_of, atom, is_distinct, negation, walk

IDS = ("a", "b", "c", "d")
COLORS = {"a": "red", "b": "red", "c": "blue", "d": "green"}
PARSE = TypeAdapter(Pred).validate_python
NUMBERS = st.sampled_from([0.0, 0.05, 0.1, 0.15, 0.2, 0.25])  # met exactly by grid positions: margins of 0 occur


def sets():
    some = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)
    return some | st.sampled_from([{"color": "red"}, {"card": "block"}, {"role": "manipuland", "color": "blue"}])


@st.composite
def leaves(draw, scope):
    names = st.sampled_from([*IDS, *(f"${v}" for v in scope)])
    a, b = draw(names), draw(names)
    if draw(st.booleans()):
        return {"name": "moved", "args": [a, draw(NUMBERS)]}
    return {"name": draw(st.sampled_from(["left_of", "behind"])), "args": [a, b], "tol": {"gap": draw(NUMBERS)}}


@st.composite
def preds(draw, depth=3, scope=()):
    kinds = ["atom", "and", "or", "not", "implies", "forall", "exists", "count", "distinct", "initially"]
    kind = draw(st.sampled_from(kinds if depth else ["atom"]))
    inner = preds(depth - 1, scope)
    if kind == "atom":
        return draw(leaves(scope))
    if kind in ("not", "initially"):
        return {kind: draw(inner)}
    if kind in ("and", "or"):
        return {kind: draw(st.lists(inner, min_size=1, max_size=3))}
    if kind == "implies":
        return {kind: [draw(inner), draw(inner)]}
    var = f"v{len(scope)}"
    if kind == "distinct":
        other = f"v{len(scope) + 1}"
        rows, columns = draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True)), list(IDS)
        exists = {"var": other, "among": columns, "distinct": True, "pred": draw(leaves((*scope, var, other)))}
        return {"forall": {"var": var, "among": rows, "pred": {"exists": exists}}}
    body = {"var": var, "among": draw(sets()), "pred": draw(preds(depth - 1, (*scope, var)))}
    if kind == "count":
        body |= {"cmp": draw(st.sampled_from([">=", "<=", "=="])), "n": draw(st.integers(0, 4))}
    return {kind: body}


@pytest.fixture(scope="module")
def blocks(scene):
    """Four blocks; ``blocks(cells)`` puts them on cells of a 5 cm grid, after a reset elsewhere on it."""
    s = scene(colors=COLORS, **dict.fromkeys(IDS, "block"))

    def place(cells):
        for i, name in enumerate(IDS):
            s.put(name, (0.05 * i, 0.05 * ((i * 7) % 3), 0.02))
        s.snapshot()
        for name, (x, y) in zip(IDS, cells, strict=True):
            s.put(name, (0.05 * x, 0.05 * y, 0.02))
        return s.world

    return place


CELLS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=4)


@pytest.fixture(scope="module")
def spec(make_spec):
    return make_spec(atom("moved", "a", 0.1), dict.fromkeys(IDS, "block"), colors=COLORS)


@settings(deadline=None, max_examples=40)
@given(raw=st.lists(preds(2), min_size=1, max_size=3), cells=CELLS)
def test_de_morgan(blocks, raw, cells):
    world, parts = blocks(cells), [PARSE(r) for r in raw]
    nots = [negation(p) for p in parts]
    assert margin(negation(all_of(*parts)), world) == margin(any_of(*nots), world)
    assert margin(negation(any_of(*parts)), world) == margin(all_of(*nots), world)


@settings(deadline=None, max_examples=40)
@given(among=sets(), inner=preds(2, ("x",)), cells=CELLS)
def test_not_for_all_is_for_some_not(blocks, among, inner, cells):
    world = blocks(cells)
    every = PARSE({"forall": {"var": "x", "among": among, "pred": inner}})
    some = PARSE({"exists": {"var": "x", "among": among, "pred": {"not": inner}}})
    assert margin(negation(every), world) == margin(some, world)


@settings(deadline=None, max_examples=40)
@given(p=preds(2), q=preds(2), cells=CELLS)
def test_implication_is_not_p_or_q(blocks, p, q, cells):
    world = blocks(cells)
    assert margin(PARSE({"implies": [p, q]}), world) == margin(PARSE({"or": [{"not": p}, q]}), world)


@settings(deadline=None, max_examples=80)
@given(raw=preds(), cells=CELLS)
def test_grounding_keeps_the_margin_and_leaves_no_small_quantifier(blocks, spec, raw, cells):
    world, pred = blocks(cells), PARSE(raw)
    grounded = ground(pred, spec)
    assert margin(grounded, world) == margin(pred, world)
    left = [type(n).__name__ for n in walk(grounded) if not is_distinct(n)]
    assert not {"ForAll", "Exists"} & set(left)
    assert "$" not in text(grounded) or "Count" in left


@settings(deadline=None, max_examples=100)
@given(raw=preds(), cells=CELLS)
def test_the_compiled_form_agrees_in_sign(blocks, raw, cells):
    world, pred = blocks(cells), PARSE(raw)
    for p in (pred, negation(pred)):
        assert (compile_pred(p, world)() >= 0.0) == (margin(p, world) >= 0.0)


@settings(deadline=None, max_examples=40)
@given(raw=preds(), cells=CELLS)
def test_predicates_survive_json(blocks, raw, cells):
    world, pred = blocks(cells), PARSE(raw)
    again = TypeAdapter(Pred).validate_json(pred.model_dump_json(by_alias=True))
    assert again == pred
    assert margin(again, world) == margin(pred, world)


def renamed(raw, names):
    """The same predicate over renamed entities; selectors become explicit sets before."""
    if isinstance(raw, dict):
        return {key: value if key in ("var", "name") else renamed(value, names) for key, value in raw.items()}
    if isinstance(raw, list):
        return [renamed(value, names) for value in raw]
    return names.get(raw, raw) if isinstance(raw, str) else raw


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(raw=preds(), cells=CELLS, order=st.permutations(IDS))
def test_names_do_not_matter(blocks, raw, cells, order):
    assume(not any(word in str(raw) for word in ("color", "initially", "moved")))  # only poses are exchanged below
    before = margin(PARSE(raw), blocks(cells))
    names = dict(zip(IDS, order, strict=True))
    exchanged = [cells[IDS.index(next(k for k, v in names.items() if v == name))] for name in IDS]
    assert margin(PARSE(renamed(raw, names)), blocks(exchanged)) == before


@settings(deadline=None, max_examples=40)
@given(
    ids=st.permutations(IDS),
    parts=st.lists(preds(1, ("x",)), min_size=2, max_size=3),
    kind=st.sampled_from(["forall", "exists"]),
    cells=CELLS,
)
def test_order_does_not_matter(blocks, ids, parts, kind, cells):
    world = blocks(cells)
    one = {kind: {"var": "x", "among": list(IDS), "pred": {"and": parts}}}
    two = {kind: {"var": "x", "among": list(ids), "pred": {"and": parts[::-1]}}}
    assert margin(PARSE(one), world) == margin(PARSE(two), world)


@settings(deadline=None, max_examples=40)
@given(among=sets(), inner=preds(2, ("x",)), cells=CELLS)
def test_every_is_a_count_of_all_and_some_a_count_of_one(blocks, spec, among, inner, cells):
    world = blocks(cells)
    body = {"var": "x", "among": among, "pred": inner}
    size = len(among) if isinstance(among, list) else sum(1 for e in spec.entities if among.items() <= dict(e).items())
    assert margin(PARSE({"forall": body}), world) == margin(PARSE({"count": {**body, "cmp": ">=", "n": size}}), world)
    assert margin(PARSE({"exists": body}), world) == margin(PARSE({"count": {**body, "cmp": ">=", "n": 1}}), world)


# ---------------------------------------------------------------- counts and choices

MARGINS = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0])


@given(values=st.lists(MARGINS, max_size=6), n=st.integers(0, 7))
def test_a_tally_has_the_sign_of_the_count(values, n):
    met = sum(v >= 0.0 for v in values)
    assert (tally(values, ">=", n) >= 0.0) == (met >= n)
    assert tally(values, "<=", n) == -tally(values, ">=", n + 1)
    if 0.0 not in values:  # on the boundary a predicate and its negation both hold
        assert (tally(values, "<=", n) >= 0.0) == (met <= n)
        assert (tally(values, "==", n) >= 0.0) == (met == n)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(MARGINS, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_the_best_injective_choice_is_found(matrix):
    value, columns = bottleneck(matrix)
    choices = itertools.permutations(range(len(matrix[0])), len(matrix))
    best = max((min(row[c] for row, c in zip(matrix, chosen, strict=True)) for chosen in choices), default=-math.inf)
    assert value == best
    if columns:
        assert len(set(columns)) == len(matrix)
        assert min(row[c] for row, c in zip(matrix, columns, strict=True)) == best


def test_a_dozen_choices_are_made_exactly_and_at_once():
    rng = np.random.default_rng(0)
    matrix = rng.uniform(-1, 1, (12, 12))
    hidden = rng.permutation(12)
    matrix[np.arange(12), hidden] = 2.0 + rng.uniform(0, 1, 12)
    value, columns = bottleneck(matrix.tolist())
    assert columns == tuple(hidden)
    assert value == matrix[np.arange(12), hidden].min()


def distinct(rows, columns):
    exists = {"var": "y", "among": columns, "distinct": True, "pred": {"name": "left_of", "args": ["$x", "$y"]}}
    return PARSE({"forall": {"var": "x", "among": rows, "pred": {"exists": exists}}})


def test_distinct_choices_are_harder_than_free_ones(blocks):
    world = blocks([(0, 2), (0, 2), (0, 0), (3, 0)])
    free = PARSE(
        distinct(["a", "b"], ["c", "d"]).model_dump(by_alias=True, exclude={"body": {"pred": {"body": {"distinct"}}}})
    )
    assert margin(free, world) >= 0.0  # both are left of c
    assert margin(distinct(["a", "b"], ["c", "d"]), world) < 0.0  # d is too far ahead


def test_too_many_choices_keep_the_quantifier_and_the_margin(scene, make_spec):
    cards = {f"e{i}": "ball" for i in range(7)}
    s = scene(**cards)
    for i in range(7):
        s.put(f"e{i}", (0.01 * i, 0.03 * i, 0.02))
    pred = distinct({"card": "ball"}, [f"e{i}" for i in range(6, -1, -1)])
    grounded = ground(pred, make_spec(atom("still", "e0"), cards))
    assert math.perm(7, 7) > MAX_TERMS
    assert is_distinct(grounded)
    assert grounded.body.among == tuple(cards)
    assert margin(grounded, s.world) == margin(pred, s.world)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (distinct(["a", "b"], ["c"]), "'distinct' asks 2 entities to choose differently among 1"),
        (
            PARSE({"forall": {"var": "x", "among": {"color": "pink"}, "pred": atom("still", "$x")}}),
            "no entity has color",
        ),
        (PARSE({"once": atom("still", "a")}), "remember an episode.*GoalMonitor.goal_margin"),
        (PARSE({"seq": [atom("still", "a"), atom("still", "b")]}), "memoryless"),
    ],
)
def test_what_one_state_cannot_answer_is_an_error(blocks, pred, message):
    world = blocks([(0, 0)] * 4)
    for judge in (margin, compile_pred):
        with pytest.raises(SpecError, match=message):
            judge(pred, world)


def test_initially_needs_the_state_at_reset(scene):
    with pytest.raises(SpecError, match="'initially' looks at the state at reset"):
        margin(PARSE({"initially": atom("still", "a")}), scene(a="block").world)


def test_memoryless_keeps_what_a_last_state_has_to_show():
    still, upright = atom("still", "a"), atom("upright", "a")
    goal = PARSE({"and": [{"once": still}, {"or": [upright, {"seq": [upright, still]}]}]})
    assert memoryless(goal) == PARSE({"and": [still, {"or": [upright, still]}]})
    assert memoryless(still) is still
