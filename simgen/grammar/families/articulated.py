"""Open, close, press, turn, pull: one joint of one fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from robostack.task.predicate import AnyPred, Once
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal, TaskSpec
from simgen.grammar.kinds import Choice, NounPhrase, Phrase, Thing
from simgen.grammar.layout import resolve_colors
from simgen.grammar.production import Draft, Meanings, Needs, Production, Slots, meaning
from simgen.grammar.rooms import JOINTS, OPEN, SHUT, STARTS_OPEN, STARTS_SHUT, fixture, joint
from simgen.grammar.words import BUTTONS, CABINETS, DIALS, DRAWERS, LEVERS

HANDLE = Needs(depth=0.12, width=0.1, grip=0.0, mass=0.0, handle=True)
FURNITURE = {**DRAWERS, **CABINETS}
TURNS = {"halfway": "half", "half way": "half", "a quarter of the way": "quarter", "all the way": "full"}
TURNS |= {"three quarters of the way": "three quarters", "to the end": "full", "fully": "full"}
FRACTIONS = {"quarter": 0.25, "half": 0.5, "three quarters": 0.75}


def _single(
    thing: Thing, profile: RobotProfile, start: tuple[float, float], goal: AnyPred, subgoal: Subgoal, init: AnyPred
) -> Draft:
    color = resolve_colors((thing,))[0]
    standing = fixture(thing, color, profile, {JOINTS[thing.card]: start})
    return Draft(entities=(standing,), goal=goal, subgoals=(subgoal,), init=(init,))


def _opens(slots: Meanings, profile: RobotProfile) -> Draft:
    thing = meaning(slots, "obj", Thing)
    goal = joint(thing, ">=", OPEN)
    subgoal = Subgoal(skill="open", args=(thing.id, JOINTS[thing.card]), goal=goal)
    return _single(thing, profile, STARTS_SHUT, goal, subgoal, joint(thing, "<=", SHUT))


def _closes(slots: Meanings, profile: RobotProfile) -> Draft:
    thing = meaning(slots, "obj", Thing)
    goal = joint(thing, "<=", SHUT)
    subgoal = Subgoal(skill="close", args=(thing.id, JOINTS[thing.card]), goal=goal)
    return _single(thing, profile, STARTS_OPEN, goal, subgoal, joint(thing, ">=", OPEN))


def _presses(slots: Meanings, profile: RobotProfile) -> Draft:
    """The spring returns the button, so having been pressed is what counts."""
    thing = meaning(slots, "obj", Thing)
    pressed = joint(thing, ">=", OPEN)
    subgoal = Subgoal(skill="press", args=(thing.id, JOINTS[thing.card]), goal=pressed)
    once = Once(part=pressed)  # pyright: ignore[reportCallIssue]  # populate_by_name
    return _single(thing, profile, STARTS_SHUT, once, subgoal, joint(thing, "<=", SHUT))


def _turns(slots: Meanings, profile: RobotProfile) -> Draft:
    thing, way = meaning(slots, "obj", Thing), str(slots.get("way", "full"))
    fraction = FRACTIONS.get(way, 1.0)
    goal = joint(thing, "==", fraction) if way in FRACTIONS else joint(thing, ">=", OPEN)
    subgoal = Subgoal(skill="turn", args=(thing.id, JOINTS[thing.card], fraction), goal=goal)
    return _single(thing, profile, STARTS_SHUT, goal, subgoal, joint(thing, "<=", SHUT))


def _pulls(slots: Meanings, profile: RobotProfile) -> Draft:
    thing, away = meaning(slots, "obj", Thing), slots["way"] == "push"
    goal = joint(thing, ">=", OPEN) if away else joint(thing, "<=", SHUT)
    init = joint(thing, "<=", SHUT) if away else joint(thing, ">=", OPEN)
    subgoal = Subgoal(skill="open" if away else "close", args=(thing.id, JOINTS[thing.card]), goal=goal)
    return _single(thing, profile, STARTS_SHUT if away else STARTS_OPEN, goal, subgoal, init)


def others(slot: str, words: tuple[str, ...]) -> Callable[[Slots, TaskSpec], Iterator[Slots]]:
    """A contrast by putting each of the other words into a slot."""

    def contrast(slots: Slots, spec: TaskSpec) -> Iterator[Slots]:
        del spec
        if slot in slots:
            for word in words:
                if word != slots[slot]:
                    yield {**slots, slot: word}

    return contrast


OPEN_IT = Production(
    family="open",
    summary="open a drawer or cabinet",
    slots={"verb": Choice(("open", "pull open")), "obj": NounPhrase(FURNITURE)},
    templates=(
        "{verb} {obj}",
        "please {verb} {obj}",
        "can you {verb} {obj}",
        "{verb} {obj} all the way",
        "make sure {obj} is open",
        "{obj} should be open",
        "use the handle to {verb} {obj}",
    ),
    examples=("open the drawer", "open the white cabinet", "make sure the drawer is open"),
    draft=_opens,
    needs=HANDLE,
)

CLOSE_IT = Production(
    family="close",
    summary="close a drawer or cabinet",
    slots={"verb": Choice(("close", "shut", "push shut")), "obj": NounPhrase(FURNITURE)},
    templates=(
        "{verb} {obj}",
        "please {verb} {obj}",
        "can you {verb} {obj}",
        "{verb} {obj} all the way",
        "make sure {obj} is closed",
        "{obj} should be closed",
        "do not leave {obj} open",
    ),
    examples=("close the drawer", "shut the brown cabinet", "make sure the drawer is closed"),
    draft=_closes,
    needs=HANDLE,
)

PRESS = Production(
    family="press",
    summary="press a button",
    slots={"verb": Choice(("press", "push", "hit", "push down")), "obj": NounPhrase(BUTTONS)},
    templates=(
        "{verb} {obj}",
        "please {verb} {obj}",
        "can you {verb} {obj}",
        "{verb} {obj} once",
        "use the gripper to {verb} {obj}",
        "{verb} {obj} and let it go",
    ),
    examples=("press the red button", "push the green button", "press the button once"),
    draft=_presses,
    needs=HANDLE,
)

TURN = Production(
    family="turn",
    summary="turn a dial",
    slots={
        "verb": Choice(("turn", "rotate", "twist")),
        "obj": NounPhrase(DIALS),
        "way": Phrase(TURNS),
    },
    templates=(
        "{verb} {obj} {way}",
        "please {verb} {obj} {way}",
        "can you {verb} {obj} {way}",
        "{verb} {obj}",
        "please {verb} {obj}",
        "use the gripper to {verb} {obj} {way}",
        "take hold of {obj} and {verb} it {way}",
    ),
    examples=("turn the dial halfway", "turn the red dial all the way", "rotate the knob a quarter of the way"),
    draft=_turns,
    needs=HANDLE,
    contrast=others("way", ("halfway", "a quarter of the way", "three quarters of the way", "all the way")),
)

PULL_LEVER = Production(
    family="lever",
    summary="pull or push a lever",
    slots={
        "way": Phrase({"pull": "pull", "push": "push", "pull back": "pull", "push away": "push"}),
        "obj": NounPhrase(LEVERS),
    },
    templates=(
        "{way} {obj}",
        "please {way} {obj}",
        "can you {way} {obj}",
        "{way} {obj} all the way",
        "{way} {obj} to the end",
        "take hold of {obj} and {way} it",
    ),
    examples=("pull the lever", "push the red lever", "pull the black lever all the way"),
    draft=_pulls,
    needs=HANDLE,
)
