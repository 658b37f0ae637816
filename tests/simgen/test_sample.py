import os
import subprocess
import sys
import time
from collections import Counter

import pytest

from robostack.errors import ConfigError, UnknownName
from robostack.sim.cards import load_robot
from robostack.task.check import check
from robostack.task.predicate import atom
from simgen.grammar import PRODUCTIONS, parse
from simgen.grammar.contrast import difficulty, siblings
from simgen.grammar.refer import disambiguates
from simgen.library.signature import coverage_cells, signature
from simgen.prng import SplitMix64
from simgen.propose import propose
from simgen.sample import payload, sample

N = 150


@pytest.fixture(scope="module")
def tasks():
    return list(sample(N, 7))


def test_splitmix_gives_the_published_numbers():
    """First outputs for seed 1234567, as published with the Java reference implementation."""
    rng = SplitMix64(1234567)
    assert [rng.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert SplitMix64(1).shuffled(range(9)) != list(range(9))
    assert sorted(SplitMix64(1).shuffled(range(9))) == list(range(9))


def test_samples_are_checked_distinct_and_read_back(tasks):
    assert len(tasks) == N
    assert len({signature(s) for s in tasks}) == N
    assert len({s.id for s in tasks}) == N
    for spec in tasks:
        check(spec)
        read = parse(spec.instruction.text)
        assert read.production.family == spec.family
        assert read.instruction.slots == spec.instruction.slots
        assert read.instruction.template == spec.instruction.template


def test_variation_leaves_the_meaning_of_the_text_alone(tasks):
    for spec in tasks:
        plain = propose(spec.instruction.text, spec.robot.name)
        assert (plain.goal, plain.init, plain.subgoals) == (spec.goal, spec.init, spec.subgoals)
        assert {e.id for e in plain.entities} == {e.id for e in spec.entities if e.role != "distractor"}
        assert set(map(repr, plain.never)) <= set(map(repr, spec.never))


def test_every_paraphrase_asks_for_the_same(tasks):
    worded = [s for s in tasks if s.instruction.paraphrases]
    assert len(worded) > 0.9 * N
    for spec in worded:
        for text in spec.instruction.paraphrases:
            other = propose(text, spec.robot.name)
            assert text != spec.instruction.text
            assert (other.goal, other.subgoals) == (spec.goal, spec.subgoals)


def test_no_phrase_fits_two_things(tasks):
    assert any(e.role == "distractor" for s in tasks for e in s.entities)
    for spec in tasks:
        assert disambiguates(spec.instruction, spec, strict=True) == ""


def test_a_distractor_that_fits_the_sentence_is_found():
    spec = propose("put the red cube in the bowl", "panda")
    twin = spec.entity("red_cube").model_copy(update={"id": "other", "role": "distractor"})
    more = spec.model_copy(update={"entities": (*spec.entities, twin)})
    assert "'the red cube' fits red_cube, other" in disambiguates(spec.instruction, more)
    green = more.model_copy(update={"entities": (*spec.entities, twin.model_copy(update={"color": "green"}))})
    assert disambiguates(spec.instruction, green) == ""
    group = propose("put two of the blocks in the bowl", "panda")
    extra = twin.model_copy(update={"color": "pink"})
    assert "also fits other" in disambiguates(
        group.instruction, group.model_copy(update={"entities": (*group.entities, extra)})
    )
    gone = spec.model_copy(update={"entities": spec.entities[1:]})
    assert "fits nothing" in disambiguates(spec.instruction, gone)


def test_a_prefix_of_a_sample_is_the_shorter_sample(tasks):
    assert [s.id for s in sample(20, 7)] == [s.id for s in tasks[:20]]
    assert [s.id for s in sample(20, 8)] != [s.id for s in tasks[:20]]


def test_the_same_seed_gives_the_same_ids_in_another_process(tasks):
    code = "from simgen.sample import sample\nprint([s.id for s in sample(20, 7)])"
    for seed in ("1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
        assert done.stdout.strip() == str([s.id for s in tasks[:20]])


def test_all_robots_and_families_are_covered(tasks):
    assert {s.robot.name for s in tasks} == {"panda", "ur5e", "so101"}
    assert len(PRODUCTIONS) >= 25
    assert len({s.family for s in tasks}) >= 25
    assert max(Counter(s.family for s in tasks).values()) <= 0.25 * N


def test_rare_cells_are_sampled_more_than_by_chance(tasks):
    cells = Counter(c for s in tasks for c in coverage_cells(s))
    assert len(cells) > N / 2


def test_only_the_asked_families_and_robots_come():
    some = list(sample(12, 1, robots=("so101",), families=("put_in", "count")))
    assert {s.family for s in some} == {"put_in", "count"}
    assert {s.robot.name for s in some} == {"so101"}


def test_an_exhausted_grammar_ends():
    few = list(sample(500, 1, robots=("panda",), families=("insert",)))
    assert 1 <= len(few) < 100


def test_a_sample_is_fast():
    start = time.process_time()
    assert len(list(sample(100, 3))) == 100
    assert time.process_time() - start < 10.0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"robots": ("hal",)}, UnknownName),
        ({"families": ("cook",)}, UnknownName),
        ({"robots": ()}, ConfigError),
        ({"n": 0}, ConfigError),
    ],
)
def test_wrong_requests_are_refused(change, error):
    with pytest.raises(error) as found:
        sample(**{"n": 3, "seed": 1, **change})
    assert "\n" not in str(found.value)


def test_payloads_are_of_the_right_order():
    assert 2.0 < payload(load_robot("panda")) < 8.0
    assert 0.1 < payload(load_robot("so101")) < 1.5


# ---------------------------------------------------------------- siblings


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("put the red block to the left of the bowl", "put the red block to the right of the bowl"),
        ("stack the red block on the green block", "stack the green block on the red block"),
        ("turn the dial halfway", "turn the dial all the way"),
        ("put two of the three blocks in the bowl", "put one of the three blocks in the bowl"),
    ],
)
def test_siblings_ask_for_something_else_of_the_same_scene(sentence, expected):
    spec = propose(sentence, "panda")
    found = siblings(spec)
    assert expected in [s.instruction.text for s in found]
    for sibling in found:
        check(sibling)
        assert [(e.id, e.card, e.color, e.placement, e.joints) for e in sibling.entities] == [
            (e.id, e.card, e.color, e.placement, e.joints) for e in spec.entities
        ]
        assert sibling.goal != spec.goal
        assert sibling.id != spec.id


def test_a_distractor_becomes_the_object_of_a_sibling(tasks):
    pairs = [(s, t) for s in tasks for t in siblings(s)]
    assert len(pairs) > N / 3
    changed = 0
    for spec, sibling in pairs:
        check(sibling)
        assert parse(sibling.instruction.text).production.family == spec.family
        roles = {e.id: e.role for e in spec.entities}
        changed += any(roles[e.id] == "distractor" != e.role for e in sibling.entities)
    assert changed > 10


def test_a_sibling_leaves_alone_what_it_does_not_name():
    spec = propose("put the red cube in the bowl", "panda")
    other = propose("put the green cube in the bowl", "panda").entity("green_cube")
    spoiled = (*spec.never, atom("moved", "green_cube", 0.1))
    entities = (*spec.entities, other.model_copy(update={"role": "distractor"}))
    (sibling,) = siblings(spec.model_copy(update={"entities": entities, "never": spoiled}))
    assert sibling.instruction.text == "put the green cube in the bowl"
    assert sibling.entity("red_cube").role == "distractor"
    assert atom("moved", "red_cube", 0.1) in sibling.never
    assert atom("moved", "green_cube", 0.1) not in sibling.never


def test_difficulty_grows_with_what_is_asked():
    easy = difficulty(propose("put the red cube in the bowl", "panda"))
    hard = difficulty(propose("open the drawer, put the red block in it and close it", "panda"))
    assert hard["subgoals"] > easy["subgoals"]
    assert easy["distractors"] == 0.0
