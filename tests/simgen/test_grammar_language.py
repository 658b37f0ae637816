import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robostack.errors import SentenceError
from robostack.task.spec import Instruction
from simgen.grammar import PRODUCTIONS, examples, parse, render
from simgen.grammar.clauses import ClausePhrase
from simgen.grammar.kinds import (
    Choice,
    Group,
    GroupPhrase,
    Kind,
    NounPhrase,
    Phrase,
    Quantity,
    QuantityPhrase,
    Thing,
)
from simgen.grammar.words import BLOCKS, ZONES

FAMILIES = list(PRODUCTIONS)
FILLINGS = {(f, name): tuple(kind.fillings()) for f in FAMILIES for name, kind in PRODUCTIONS[f].slots.items()}
SLOT = re.compile(r"\{(\w+)\}")


def filled(production, template, values):
    names = dict.fromkeys(SLOT.findall(template))
    slots = {name: values[name] for name in names}
    bare = Instruction(text="-", template=template, slots=slots)
    return bare.model_copy(update={"text": render(bare)})


@st.composite
def instructions(draw):
    production = PRODUCTIONS[draw(st.sampled_from(FAMILIES))]
    template = draw(st.sampled_from(production.templates))
    values = {name: draw(st.sampled_from(FILLINGS[production.family, name])) for name in production.slots}
    return production, filled(production, template, values)


@settings(max_examples=300, deadline=None)
@given(case=instructions())
def test_parse_inverts_render(case):
    production, instruction = case
    parsed = parse(render(instruction))
    assert parsed.production is production
    assert parsed.instruction == instruction


@pytest.mark.parametrize("family", FAMILIES)
def test_every_filling_of_every_slot_in_every_template_reads_back(family):
    production = PRODUCTIONS[family]
    first = {name: next(iter(kind.fillings())) for name, kind in production.slots.items()}
    for template in production.templates:
        for name in dict.fromkeys(SLOT.findall(template)):
            for filling in production.slots[name].fillings():
                instruction = filled(production, template, {**first, name: filling})
                assert production.match(instruction.text) == instruction


@settings(max_examples=100, deadline=None)
@given(case=instructions())
def test_no_sentence_has_two_readings(case):
    _, instruction = case
    readings = [p.match(instruction.text) for p in (PRODUCTIONS[f] for f in FAMILIES)]
    assert sum(r is not None for r in readings) == 1


@settings(max_examples=100, deadline=None)
@given(case=instructions(), data=st.data())
def test_case_white_space_commas_and_final_punctuation_are_free(case, data):
    _, instruction = case
    text = instruction.text
    if data.draw(st.booleans()):
        text = text.replace(",", "")
    text = data.draw(st.sampled_from([text, text.upper(), text.capitalize()]))
    text = text.replace(" ", data.draw(st.sampled_from([" ", "  ", "\t", " \n "])))
    text = (
        data.draw(st.sampled_from(["", " ", "\n"])) + text + data.draw(st.sampled_from(["", ".", "!", " ?", "...\n"]))
    )
    assert parse(text).instruction == instruction


def test_the_words_of_the_user_are_kept():
    assert parse("Place a  red can INTO the bowl").instruction.text == "place a red can into the bowl"
    assert parse("Line up the red, green, and blue cubes!").instruction.text == "line up the red, green and blue cubes"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_six_wordings_and_readable_examples(family):
    production = PRODUCTIONS[family]
    assert len(production.templates) >= 6
    assert len(set(production.templates)) == len(production.templates)
    assert len(production.examples) >= 3
    for example in examples()[family]:
        parsed = parse(example)
        assert parsed.production.family == family
        assert parsed.instruction.text == example
    used = set(itertools.chain(*(SLOT.findall(t) for t in production.templates)))
    assert used == set(production.slots)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_slot_is_well_formed(family):
    for kind in PRODUCTIONS[family].slots.values():
        assert isinstance(kind, (Choice, Phrase, NounPhrase, GroupPhrase, QuantityPhrase, ClausePhrase))
        assert_kind(kind)


def assert_kind(kind: Kind):
    for filling in kind.fillings():
        assert re.fullmatch(kind.pattern, filling), filling
        assert kind.canonical(filling) == filling


@pytest.mark.parametrize(
    ("sentence", "family"),
    [
        ("put the red cube in the bowl", "put_in"),
        ("put red cube into blue bowl", "put_in"),
        ("drop the ball in the box", "put_in"),
        ("put the red cube on the blue plate", "put_on"),
        ("put the red cube in the left region", "put_on"),
        ("put the red cube on the blue block", "stack"),
        ("stack the green block on the blue block", "stack"),
        ("stack the red block on the green block on the blue block", "stack"),
        ("build a tower with the blue block at the bottom, then the green block, then the red block", "stack"),
        ("push the yellow cylinder to the left region", "push_to"),
        ("push the yellow cylinder to the blue region", "push_to"),
        ("sort the blocks by colour into the plates", "sort"),
        ("sort the red and blue blocks by color", "sort"),
        ("line up the red, green and blue blocks", "line_up"),
        ("line up the three cylinders", "line_up"),
        ("put the red block to the left of the bowl", "relative_place"),
        ("take the red block off the blue block", "unstack"),
        ("take the green block off the plate and then put the red block on it", "relocate"),
        ("open the drawer", "open"),
        ("shut the cabinet", "close"),
        ("push the button", "press"),
        ("push the lever", "lever"),
        ("turn the dial halfway", "turn"),
        ("put the red block in the drawer", "store"),
        ("open the drawer and put the red block in it", "open_and_put"),
        ("open the drawer, put the red block in it and close it", "put_away"),
        ("take the red block out of the drawer and put it on the plate", "take_out"),
        ("insert the peg into the socket", "insert"),
        ("swap the red block and the green block", "swap"),
        ("clear the plate", "clear"),
        ("put two of the blocks in the bowl", "count"),
        ("put the blocks on different plates", "distinct"),
        ("put the lid on the box", "cover"),
        ("use the stick to push the ball to the left region", "tool_push"),
        ("put the mug on the shelf", "shelf"),
        ("press the button, then put the cube in the bowl", "sequence"),
        ("first press the button, then open the drawer and then put the cube on the plate", "sequence"),
    ],
)
def test_sentences_find_their_family(sentence, family):
    assert parse(sentence).production.family == family


def test_noun_phrases_mean_things():
    kind = NounPhrase(BLOCKS)
    assert kind.read("the grey cube") == Thing("block", "cube", "gray")
    assert kind.read("block") == Thing("block", "block")
    assert NounPhrase(ZONES, directed=True).read("a blue left zone") == Thing("zone", "zone", "blue", "left")


def test_group_phrases_mean_groups():
    kind = GroupPhrase(BLOCKS)
    assert kind.read("the red, green and blue cubes") == Group("block", "cube", ("red", "green", "blue"))
    assert kind.read("all the blocks") == Group("block", "block")
    assert kind.read("three blocks") == Group("block", "block", count=3)
    assert kind.canonical("red green, and blue blocks") == "red, green and blue blocks"


def test_quantities_mean_comparisons():
    kind = QuantityPhrase()
    assert kind.read("two") == Quantity("==", 2)
    assert kind.read("at least three") == Quantity(">=", 3)
    assert kind.read("at most one") == Quantity("<=", 1)


# ---------------------------------------------------------------- unreadable sentences


@pytest.mark.parametrize(
    ("sentence", "found", "first"),
    [
        ("put the red blok in the bowl", "'blok' is unknown, did you mean 'block'?", "put the red block in the bowl"),
        ("put the red cube in the bowel", "did you mean 'bowl'?", "put the red cube in the bowl"),
        ("stak the gren block on the blue block", "did you mean 'stack'?", "stack the green block on the blue block"),
        ("line up the three cilinders", "did you mean 'cylinders'?", "line up the three cylinders"),
        ("put the plate on the red cube", "every word is known", "put the red cube on the blue plate"),
    ],
)
def test_an_unreadable_sentence_is_explained(sentence, found, first):
    with pytest.raises(SentenceError) as error:
        parse(sentence)
    message = str(error.value)
    assert found in message
    assert f"Try: '{first}'" in message
    assert "\n" not in message


def test_the_explanation_lists_families_and_the_language_model():
    with pytest.raises(SentenceError) as error:
        parse("make me a sandwich")
    message = str(error.value)
    assert "'sandwich' is unknown" in message
    assert f"Families: {', '.join(PRODUCTIONS)}." in message
    assert "llm=openai-compatible" in message
    tried = re.findall(r"'([^']+)'", message.split("Try: ")[1].split(". Families")[0])
    assert len(tried) == 3
    for example in tried:
        parse(example)


HOSTILE = {
    "empty": "",
    "blank": " \n\t ",
    "punctuation": "?!...",
    "huge": "put the red cube in the bowl " * 4000,
    "one long word": "a" * 100_000,
    "many commas": "line up the red" + ", red" * 50 + " blocks x",
    "many colours": "sort the " + "red " * 60 + "blocks",
    "control": "put the red\x07cube in the bowl",
    "nul": "put the red cube in the bowl\x00",
    "escape": "\x1b[31mput the red cube in the bowl",
    "template": "{verb} {obj} {prep} {dst}",
    "format": "put the {0.__class__} in the %s bowl $(rm)",
    "regex": "put the (.*)+ in the [^x]*$ bowl",
    "cyrillic": "put the r\u0435d cube in the bowl",
    "kelvin": "put the red bloc\u212a in the bowl",
    "full width": "\uff50ut the red cube in the bowl",
    "no-break space": "put\u00a0the red cube in the bowl",
    "surrogate": "put the red cube \ud800",
    "right to left": "put the \u202ered cube in the bowl",
    "many unknown": " ".join(f"zq{chr(97 + i)}block" for i in range(26)),
    "backtracking": "the " * 70 + "block",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_ends_fast_in_one_printable_line(name):
    parse("put the red cube in the bowl")
    start = time.process_time()
    with pytest.raises(SentenceError) as error:
        parse(HOSTILE[name])
    assert time.process_time() - start < 0.5
    message = str(error.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 1200


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=320))
def test_any_text_is_read_or_refused_with_one_line(text):
    try:
        parse(text)
    except SentenceError as error:
        assert str(error).isprintable()  # noqa: PT017
