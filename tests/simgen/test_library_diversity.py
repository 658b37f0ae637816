"""Measures of diversity obey their laws: copies add nothing, novelties do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgen.library.behaviour import Behaviour
from simgen.library.diversity import Sample, asset_distance, diversity, entropy, holes, self_bleus, vendi
from simgen.library.text import cosine

WORDS = st.sampled_from(["put", "stack", "open", "red", "blue", "cube", "bowl", "drawer", "on", "in", "the", "a"])
SENTENCES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
LIBRARIES = st.lists(SENTENCES, min_size=1, max_size=7)


def sample(text="put it", cells=("on|block",), assets=("block",), moves=None):
    behaviour = None if moves is None else Behaviour((), np.array(moves, float).reshape(-1, 3), np.zeros(0))
    return Sample(text, tuple(cells), frozenset(assets), behaviour)


@given(LIBRARIES)
def test_vendi_lies_between_one_and_the_number_of_tasks(texts):
    score = vendi(cosine(texts))
    assert 1 - 1e-6 <= score <= len(texts) + 1e-6


@given(st.integers(1, 12))
def test_vendi_counts_tasks_that_have_nothing_in_common(n):
    assert vendi(np.eye(n)) == pytest.approx(n)
    assert vendi(np.ones((n, n))) == pytest.approx(1)


@given(LIBRARIES)
def test_a_wholly_novel_task_never_lowers_vendi(texts):
    assert vendi(cosine([*texts, "zzz"])) >= 1  # another vocabulary has cosine 0 with every text
    kernel = cosine(texts)
    novel = np.block([[kernel, np.zeros((len(texts), 1))], [np.zeros((1, len(texts))), np.ones((1, 1))]])
    assert vendi(novel) >= vendi(kernel) - 1e-9


@given(st.integers(2, 10), st.data())
def test_a_copy_of_one_of_many_different_tasks_never_raises_vendi(n, data):
    copied = data.draw(st.integers(0, n - 1))
    rows = [*range(n), copied]
    kernel = np.eye(n)
    assert vendi(kernel[np.ix_(rows, rows)]) <= vendi(kernel) + 1e-9


@given(LIBRARIES)
def test_copying_the_whole_library_changes_no_vendi(texts):
    rows = [*range(len(texts))] * 2
    kernel = cosine(texts)
    assert vendi(kernel[np.ix_(rows, rows)]) == pytest.approx(vendi(kernel), rel=1e-6)


@given(st.dictionaries(SENTENCES, st.integers(1, 9), min_size=1, max_size=6))
def test_entropy_is_that_of_the_shares(counts):
    value = entropy(counts)
    assert -1e-12 <= value <= math.log(len(counts)) + 1e-9
    assert entropy({name: 3 * count for name, count in counts.items()}) == pytest.approx(value)


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=6))
def test_coverage_grows_with_new_cells_only(cells):
    library = [sample(cells=[f"{c}|x" for c in found]) for found in cells]
    before = diversity(library, resamples=0).cells
    assert diversity([*library, library[0]], resamples=0).cells == before
    assert diversity([*library, sample(cells=["new|x"])], resamples=0).cells == before + 1


@given(st.integers(1, 8))
def test_a_copy_of_one_of_many_disjoint_asset_sets_lowers_asset_iou(n):
    library = [sample(assets=[str(i)]) for i in range(n + 1)]
    before = diversity(library, resamples=0).asset_iou.value
    assert before == 1.0
    assert diversity([*library, library[0]], resamples=0).asset_iou.value < before


def test_asset_iou_is_that_of_gensim():
    assert asset_distance(frozenset("ab"), frozenset("bc")) == pytest.approx(1 - 1 / 3)
    assert asset_distance(frozenset(), frozenset()) == 0.0
    three = [sample(assets="ab"), sample(assets="bc"), sample(assets="ab")]
    assert diversity(three, resamples=0).asset_iou.value == pytest.approx((2 / 3 + 0 + 2 / 3) / 3)


def test_self_bleu_is_one_for_copies_and_zero_without_a_common_word():
    assert self_bleus(["open the red drawer now"] * 3) == pytest.approx([1, 1, 1])
    assert self_bleus(["open drawer", "stack blocks"]) == pytest.approx([0, 0])
    assert self_bleus(["open the drawer"]) == pytest.approx([0])
    assert list(self_bleus(["", "open it"])) == [0, 0]


def test_self_bleu_is_bleu_worked_by_hand():
    scores = self_bleus(["a b c d", "a b c e"])
    precisions = (3 / 4, (2 + 1) / (3 + 1), (1 + 1) / (2 + 1), (0 + 1) / (1 + 1))
    assert scores == pytest.approx([math.prod(precisions) ** 0.25] * 2)


def test_self_bleu_counts_a_word_no_more_often_than_another_text_has_it():
    scores = self_bleus(["the the the the", "the cat sat down"])
    assert scores[0] == pytest.approx(((1 / 4) * (1 / 4) * (1 / 3) * (1 / 2)) ** 0.25)


def test_motion_is_the_distance_between_mean_displacements():
    library = [sample(moves=[[0.1, 0, 0]]), sample(moves=[[0, 0, 0], [0.2, 0.2, 0]]), sample()]
    assert diversity(library, resamples=0).motion.value == pytest.approx(0.1)


@settings(max_examples=20)
@given(st.lists(SENTENCES, min_size=3, max_size=8, unique=True), st.integers(0, 5))
def test_intervals_hold_the_value_and_depend_on_the_seed_alone(texts, seed):
    library = [sample(text, [f"{text[:3]}|x"], text.split()) for text in texts]
    found = diversity(library, seed=seed, resamples=40)
    assert found == diversity(library, seed=seed, resamples=40)
    for name in ("entropy", "vendi", "mean_cosine", "self_bleu"):
        figure = getattr(found, name)
        assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9


def test_a_library_too_small_for_a_measure_says_nan():
    for library in ([], [sample()]):
        found = diversity(library)
        assert found.tasks == len(library)
        assert math.isnan(found.vendi.value)


def test_holes_are_cells_whose_values_occur_in_pairs_but_not_together():
    cells = ["on|block|plate", "on|ball|bowl", "in|block|bowl", "in|cup|bowl"]
    assert holes([sample(cells=[cell]) for cell in cells]) == ("on|block|bowl",)
    assert holes([sample(cells=[*cells, "on|block|bowl"])]) == ()
    assert holes([]) == ()


def test_the_likeliest_holes_come_first_and_not_too_many():
    grid = [f"{a}|{b}|{(a + b) % 3}" for a in range(3) for b in range(3)]
    every = holes([sample(cells=grid)], most=99)
    assert len(every) == 27 - 9
    assert len(holes([sample(cells=grid)], most=5)) == 5
    often = [*grid, *["0|0|0"] * 5, *["0|1|1"] * 5]
    assert holes([sample(cells=often)], most=99)[0] in ("0|0|1", "0|1|0")
