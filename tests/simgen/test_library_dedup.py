"""What is the same is merged, what only reads alike is a variant, what is new is let in."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robostack.errors import DataError
from robostack.task.spec import TaskSpec
from simgen.library.behaviour import Behaviour, observe_behaviour, similarity, skill_sequence
from simgen.library.dedup import NOMINATE, SAME_BEHAVIOUR, Known, decide, known, novelty_record
from simgen.library.signature import signature
from simgen.library.text import cosine, tfidf
from simgen.sample import sample

PRESET = TaskSpec.load(Path(__file__).resolve().parents[2] / "data" / "presets" / "put_in_bowl" / "panda.json")

TEXTS = (
    "put the red cube in the bowl",
    "stack the green block on the blue block",
    "open the drawer",
    "push the yellow cylinder to the left region",
    "press the button, then close the door",
    "insert the peg into the socket",
    "turn the dial half way",
    "sort the red and blue blocks by color",
    "line up the red, green and blue blocks",
    "swap the mug and the ball",
)
REWORDED = (
    "please put the red cube in the bowl",
    "stack the green block onto the blue block",
    "open the drawer fully",
    "push the yellow cylinder over to the left region",
    "press the button and then close the door",
    "insert the peg in the socket",
    "turn the dial half of the way",
    "sort the blue and red blocks by colour",
    "line up the green, red and blue blocks",
    "swap the ball and the mug",
)


def task(name, text="put it there", behaviour=None, signature=None):
    return Known(name, signature or f"signature of {name}", text, behaviour)


def displacements(seed, start=(0.45, 0.0), end=(0.55, 0.1), up=0.02, n=4, skills=("place_on block plate",)):
    """Of ``n`` demonstrations whose object starts and ends somewhere in two regions."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    before = np.array(start) + rng.uniform(-1, 1, (n, 2)) * [0.1, 0.15]
    after = np.array(end) + rng.uniform(-1, 1, (n, 2)) * 0.08
    return Behaviour(skills, np.c_[after - before, up + rng.normal(0, 1e-3, n)], np.zeros(0))


# D3.


def test_rewordings_are_nominated_and_nothing_else_is():
    kernel = cosine([*TEXTS, *REWORDED])
    n = len(TEXTS)
    own = np.diag(kernel[:n, n:])
    assert (own >= NOMINATE).mean() >= 0.9
    other = kernel[:n, :n][~np.eye(n, dtype=bool)]
    assert (other < NOMINATE).all()


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_the_kernel_of_any_texts_is_a_kernel(texts):
    kernel = cosine(texts)
    assert np.allclose(kernel, kernel.T)
    assert (np.diag(kernel) == 1).all()
    assert kernel.min() >= 0
    assert np.linalg.eigvalsh(kernel).min() > -1e-9


def test_case_and_punctuation_do_not_matter():
    assert cosine(["Put the RED cube, in the bowl!", "put the red cube in the bowl"])[0, 1] == pytest.approx(1.0)
    assert (tfidf(["", "?!"]) == 0).all()


# D2.


def renamed(value, names):
    """Ids exchanged wherever they may stand: an object may be called like its class, a joint or a skill."""
    if isinstance(value, dict):
        kept = ("card", "color", "role", "skill", "name", "family", "robot")
        return {key: inner if key in kept else renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def disguised(spec, seed):
    """The same task with its entities renamed and reordered and its instruction reworded."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    ids = [entity.id for entity in spec.entities]
    names = {old: f"thing_{number}" for old, number in zip(ids, rng.permutation(len(ids)), strict=True)}
    values = renamed(spec.model_dump(mode="json", by_alias=True), names)
    values["instruction"] = {"text": f"would you kindly {spec.instruction.text}"}
    order = rng.permutation(len(ids))
    reordered = [values["entities"][i] for i in order]
    placed = {entity["id"] for entity in reordered}
    if all(entity["placement"]["on"] not in placed for entity in reordered):  # a support comes before what it carries
        values["entities"] = reordered
    if "and" in values["goal"]:
        values["goal"]["and"] = [values["goal"]["and"][i] for i in rng.permutation(len(values["goal"]["and"]))]
    return TaskSpec.from_json(json.dumps({**values, "name": "renamed"}))


def test_renamed_reordered_and_reworded_copies_are_merged_at_level_two():
    specs = list(sample(100, 11))
    facts = [known(spec, signer=signature) for spec in specs]
    for index, spec in enumerate(specs):
        copy = known(disguised(spec, index), signer=signature)
        assert copy.id != facts[index].id
        decision = decide(copy, facts)
        assert (decision.merged, decision.parent) == ("D2", spec.id)


# D4.


def test_the_same_task_on_other_scenes_behaves_the_same():
    found = [similarity(displacements(i), displacements(1000 + i)) for i in range(100)]
    assert np.mean(np.array(found) >= SAME_BEHAVIOUR) >= 0.9


@pytest.mark.parametrize(
    "other",
    [
        {"end": (0.55, -0.3)},
        {"up": 0.06},
        {"skills": ("place_in block bowl",)},
        {"skills": ("place_on block plate", "place_on block plate")},
    ],
    ids=["another place", "another height", "another receptacle", "one more subgoal"],
)
def test_another_task_behaves_otherwise(other):
    found = [similarity(displacements(i), displacements(1000 + i, **other)) for i in range(50)]
    assert np.mean(np.array(found) < SAME_BEHAVIOUR) >= 0.98


def test_joints_count_as_motion():
    opened = Behaviour(("open drawer",), np.zeros((0, 3)), np.ones(4))
    closed = Behaviour(("open drawer",), np.zeros((0, 3)), -np.ones(4))
    still = Behaviour(("open drawer",), np.zeros((0, 3)), np.zeros(0))
    assert similarity(opened, opened) == pytest.approx(1.0)
    assert similarity(opened, closed) < 0.1
    assert similarity(opened, still) == 0.0
    assert similarity(still, still) == 1.0


def test_behaviour_survives_the_disk_and_damage_is_named():
    behaviour = displacements(0)
    again = Behaviour.from_dict(behaviour.to_dict())
    assert again.skills == behaviour.skills
    assert np.allclose(again.moves, behaviour.moves, atol=1e-4)
    for damage in ({}, {"skills": [], "moves": [[1]], "travel": []}, {"skills": [], "moves": "x", "travel": []}):
        with pytest.raises(DataError, match="damaged"):
            Behaviour.from_dict(damage)


def test_a_demonstration_is_measured_as_it_happened():
    from robostack.sim.env import TaskEnv
    from simgen.experts.expert import Expert

    env = TaskEnv(PRESET)
    episode, code = Expert(env).solve(0)
    assert code == ""
    shift = env.scene.world.pos("red_cube") - env.scene.world.initial.pos["red_cube"]
    behaviour = observe_behaviour(PRESET, {0: episode.action.astype(np.float32)})
    assert behaviour.skills == skill_sequence(PRESET) == ("place_in block bowl",)
    assert np.abs(behaviour.moves - shift).min() < 1e-6
    assert len(behaviour.travel) == 0


# Decisions.


def test_the_levels_are_asked_in_order():
    library = [task("a", TEXTS[0], displacements(0)), task("b", TEXTS[1], displacements(0), signature="s")]
    assert decide(task("a", "anything"), library).merged == "D1"
    assert decide(task("c", "anything", signature="s"), library).merged == "D2"
    merged = decide(task("d", REWORDED[0], displacements(7)), library)
    assert (merged.merged, merged.parent) == ("D4", "a")
    assert decide(task("e", TEXTS[2], displacements(7)), library).parent is None


def test_like_words_with_another_behaviour_are_a_variant():
    library = [task("a", TEXTS[0], displacements(0))]
    for behaviour in (displacements(7, up=0.08), None):
        decision = decide(task("b", REWORDED[0], behaviour), library)
        assert (decision.merged, decision.parent) == (None, "a")
        assert decision.text_cosine >= NOMINATE


def test_nothing_known_means_new():
    assert decide(task("a"), []) == decide(task("b"), [])
    assert novelty_record(task("a"), []).ok


def test_the_record_says_which_task_and_which_level():
    library = [task("a", TEXTS[0], displacements(0), signature="s")]
    refused = novelty_record(task("b", signature="s"), library)
    assert (refused.gate, refused.ok, refused.code) == ("G10", False, "DUPLICATE")
    assert (refused.metrics["level"], refused.metrics["same_as"]) == ("D2", "a")
    variant = novelty_record(task("c", REWORDED[0]), library)
    assert (variant.ok, variant.code, variant.metrics["parent"]) == (True, "OK", "a")
    assert "parent" not in novelty_record(task("d", TEXTS[3]), library).metrics


def test_a_task_is_like_itself_and_likeness_is_symmetric():
    tasks = [displacements(i, up=0.02 * i) for i in range(5)]
    assert all(similarity(t, t) == pytest.approx(1.0) for t in tasks)
    assert all(similarity(a, b) == pytest.approx(similarity(b, a)) for a, b in pairwise(tasks))
