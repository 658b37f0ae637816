import functools
import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robostack.task.predicate import And, all_of, atom
from robostack.task.spec import TaskSpec
from simgen.grammar import PRODUCTIONS, examples
from simgen.grammar.contrast import renamed
from simgen.grammar.fill import Filler
from simgen.grammar.vary import with_distractors
from simgen.library.signature import coverage_cells, signature
from simgen.prng import SplitMix64
from simgen.propose import propose
from simgen.sample import sample


@functools.cache
def tasks():
    return tuple(sample(60, 5))


def with_names(spec, names):
    """The same task with other entity ids."""
    entities = tuple(
        e.model_copy(
            update={
                "id": names[e.id],
                "placement": e.placement.model_copy(update={"on": names.get(e.placement.on, e.placement.on)}),
            }
        )
        for e in spec.entities
    )
    change = {
        "entities": entities,
        "goal": renamed(spec.goal, names),
        "never": tuple(renamed(p, names) for p in spec.never),
        "init": tuple(renamed(p, names) for p in spec.init),
        "subgoals": (),
    }
    return spec.model_copy(update=change)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 59), seed=st.integers(0, 1000))
def test_names_do_not_matter(index, seed):
    spec = tasks()[index]
    numbers = SplitMix64(seed).shuffled(range(len(spec.entities)))
    names = {e.id: f"thing_{k}" for e, k in zip(spec.entities, numbers, strict=True)}
    assert signature(with_names(spec, names)) == signature(spec)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 59), seed=st.integers(0, 1000))
def test_order_does_not_matter(index, seed):
    spec, rng = tasks()[index], SplitMix64(seed)
    goal = spec.goal
    if isinstance(goal, And):
        goal = goal.model_copy(update={"parts": tuple(rng.shuffled(goal.parts))})
    change = {
        "entities": tuple(rng.shuffled(spec.entities)),
        "never": tuple(rng.shuffled(spec.never)),
        "init": tuple(rng.shuffled(spec.init)),
        "goal": goal,
    }
    assert signature(spec.model_copy(update=change)) == signature(spec)


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 59), shift=st.integers(1, 11))
def test_colours_do_not_matter_as_long_as_equal_ones_stay_equal(index, shift):
    from simgen.grammar.words import COLORS

    spec = tasks()[index]
    other = {c: COLORS[(k + shift) % len(COLORS)] for k, c in enumerate(COLORS)}
    entities = tuple(e.model_copy(update={"color": other[e.color]}) for e in spec.entities)
    assert signature(spec.model_copy(update={"entities": entities})) == signature(spec)


def test_wording_robot_and_exact_tolerances_do_not_matter():
    sentences = ("put the red cube in the bowl", "please drop the green block into the white bowl")
    found = {signature(propose(s, robot)) for s in sentences for robot in ("panda", "ur5e", "so101")}
    assert len(found) == 1
    assert (
        len({signature(propose("put the red block to the left of the blue block", r)) for r in ("panda", "so101")}) == 1
    )


def test_mirrored_relations_are_one():
    spec = propose("put the red block to the left of the blue block", "panda")
    left = all_of(atom("left_of", "red_block", "blue_block"))
    right = all_of(atom("right_of", "blue_block", "red_block"))
    assert signature(spec.model_copy(update={"goal": left})) == signature(spec.model_copy(update={"goal": right}))
    near = (all_of(atom("near", *pair, 0.05)) for pair in itertools.permutations(("red_block", "blue_block")))
    assert len({signature(spec.model_copy(update={"goal": goal})) for goal in near}) == 1


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("put the red cube in the tray", "put the red cube in the bowl"),
        ("put the red cube on the plate", "put the red cube in the bowl"),
        ("put the red block to the left of the bowl", "put the red block to the right of the bowl"),
        ("put the red block to the left of the bowl", "put the red block behind the bowl"),
        ("push the can to the left region", "push the can to the right region"),
        ("put two of the three blocks in the bowl", "put one of the three blocks in the bowl"),
        ("put two of the three blocks in the bowl", "put at least two of the three blocks in the bowl"),
        ("put two of the four blocks in the bowl", "put two of the three blocks in the bowl"),
        ("line up the three blocks", "line up the four blocks"),
        ("turn the dial halfway", "turn the dial all the way"),
        ("open the drawer", "close the drawer"),
        ("open the drawer", "open the cabinet"),
        ("pull the lever", "push the lever"),
        ("open the drawer and put the red block in it", "open the drawer, put the red block in it and close it"),
        ("press the button, then open the drawer", "open the drawer, then press the button"),
        ("put the red block on the plate", "push the red block to the region"),
        ("stack the red block on the green block", "take the red block off the green block"),
    ],
)
def test_different_tasks_differ(one, two):
    assert signature(propose(one, "panda")) != signature(propose(two, "panda"))


def test_which_of_several_goes_where_matters():
    """Each block on the plate of its colour is not each block on the other plate."""
    spec = propose("sort the red and blue blocks by color into the plates", "panda")
    crossed = all_of(atom("on", "red_block", "blue_plate"), atom("on", "blue_block", "red_plate"))
    assert signature(spec.model_copy(update={"goal": crossed})) != signature(spec)


def test_many_equal_things_are_no_burden():
    spec = propose("line up the four blocks", "panda")
    more = tuple(spec.entities[0].model_copy(update={"id": f"b{k}"}) for k in range(8))
    start = time.process_time()
    assert len(signature(spec.model_copy(update={"entities": (*spec.entities, *more)}))) == 64
    assert time.process_time() - start < 2.0


def test_a_signature_survives_the_disk():
    for spec in tasks()[:20]:
        assert signature(TaskSpec.from_json(spec.to_json())) == signature(spec)


def test_cells_name_relation_cards_length_and_skills():
    assert coverage_cells(propose("put the red cube in the bowl", "panda")) == (
        "in|block|bowl|1:place_in",
        "upright|bowl|-|1:place_in",
    )
    assert coverage_cells(propose("open the drawer", "panda")) == ("joint|drawer|-|1:open",)
    assert all(coverage_cells(propose(s[0], "panda")) for s in examples().values())


@pytest.mark.slow
def test_ten_thousand_signatures_are_within_reach():
    """A minute on one core: 10,000 different tasks, with distractors only where a clause is alone."""
    from robostack.errors import SceneError, SentenceError
    from robostack.sim.cards import load_robot

    rng, profile = SplitMix64(1), load_robot("panda").profile
    filler, found, plain = Filler(rng), set(), set()
    for _ in range(200_000):
        production = PRODUCTIONS["sequence" if rng.below(4) else rng.choice(list(PRODUCTIONS))]
        try:
            spec = production.build(filler.instruction(production), "panda", profile)
        except (SentenceError, SceneError):
            continue
        plain.add(signature(spec))
        found.add(signature(with_distractors(spec, rng.below(4), rng, profile)))
        if len(found) >= 10_000:
            break
    assert len(found) >= 10_000
    assert len(plain) >= 1_000, "tasks that differ in what is asked, not in what stands beside it"
