"""Into a drawer and out of it."""

from __future__ import annotations

from robostack.task.predicate import AnyPred, all_of, atom
from robostack.task.profile import RobotProfile
from robostack.task.spec import Subgoal
from simgen.grammar.families.put_in import RECEPTACLE_SHIFT
from simgen.grammar.kinds import Choice, NounPhrase, Thing
from simgen.grammar.layout import anywhere, entity, resolve_colors
from simgen.grammar.production import Draft, Meanings, Needs, Production, meaning
from simgen.grammar.rooms import JOINTS, OPEN, SHUT, STARTS_OPEN, STARTS_SHUT, fixture, joint, resting, rooms
from simgen.grammar.words import BALLS, BLOCKS, BOWLS, CYLINDERS, DRAWERS, PLATES, TRAYS

NEEDS = Needs(depth=0.18, width=0.4, handle=True)
LYING = (-0.02, -0.03, -0.008, 0.03)  # where a thing lies in an open drawer: in front of the case [m at scale 1]

_ANY = NounPhrase({**BLOCKS, **CYLINDERS, **BALLS})
_PUT = Choice(("put", "place", "drop", "set"))
_IN = Choice(("in", "into", "inside"))


def _into(slots: Meanings, profile: RobotProfile, start: tuple[float, float], stages: tuple[str, ...]) -> Draft:
    """An object and a drawer: of the stages open, put, close those that are asked for."""
    obj, dst = meaning(slots, "obj", Thing), meaning(slots, "dst", Thing)
    colors = resolve_colors((dst, obj))
    (room,), rest = rooms((dst,), profile)
    slide, inside = JOINTS[dst.card], atom("in", obj.id, dst.id)
    open_, shut = joint(dst, ">=", OPEN), joint(dst, "<=", SHUT)
    steps = {
        "open": Subgoal(skill="open", args=(dst.id, slide), goal=open_),
        "put": Subgoal(skill="place_in", args=(obj.id, dst.id), goal=inside),
        "close": Subgoal(skill="close", args=(dst.id, slide), goal=shut),
    }
    ends: dict[str, tuple[AnyPred, ...]] = {"close": (shut,), "open": (open_,), "put": ()}
    return Draft(
        entities=(
            fixture(dst, colors[0], room, {slide: start}),
            entity(obj, colors[1], "manipuland", anywhere(obj, rest), profile),
        ),
        goal=all_of(inside, *ends["close" if "close" in stages else stages[0]]),
        subgoals=tuple(steps[stage] for stage in stages),
        init=(open_ if start == STARTS_OPEN else shut,),
    )


def _store(slots: Meanings, profile: RobotProfile) -> Draft:
    return _into(slots, profile, STARTS_OPEN, ("put",))


def _open_and_put(slots: Meanings, profile: RobotProfile) -> Draft:
    return _into(slots, profile, STARTS_SHUT, ("open", "put"))


def _put_away(slots: Meanings, profile: RobotProfile) -> Draft:
    return _into(slots, profile, STARTS_SHUT, ("open", "put", "close"))


def _take_out(slots: Meanings, profile: RobotProfile) -> Draft:
    obj, src = meaning(slots, "obj", Thing), meaning(slots, "src", Thing)
    dst = slots.get("dst", slots.get("into"))
    named = (src, obj, dst) if isinstance(dst, Thing) else (src, obj)
    colors = resolve_colors(named)
    (room,), rest = rooms((src,), profile)
    case = fixture(src, colors[0], room, {JOINTS[src.card]: STARTS_OPEN})
    item = entity(obj, colors[1], "manipuland", anywhere(obj, rest), profile)
    x0, y0, x1, y1 = (v * profile.object_scale for v in LYING)
    item = resting(item, case, (x0, y0, x1, y1), inside=True)
    init = (joint(src, ">=", OPEN), atom("in", obj.id, src.id))
    if not isinstance(dst, Thing):
        left, low, right, high = rest.workspace
        spot = (round(0.5 * (left + right), 3), round(0.5 * (low + high), 3))
        lies = atom("on", obj.id, "table")
        return Draft((case, item), lies, (Subgoal(skill="place_at", args=(obj.id, *spot), goal=lies),), init=init)
    home = entity(dst, colors[2], "receptacle", anywhere(dst, rest), profile)
    relation, skill = ("on", "place_on") if dst.card == "plate" else ("in", "place_in")
    goal = atom(relation, obj.id, dst.id)
    return Draft(
        entities=(case, home, item),
        goal=goal,
        subgoals=(Subgoal(skill=skill, args=(obj.id, dst.id), goal=goal),),
        never=(atom("moved", dst.id, RECEPTACLE_SHIFT),),
        init=init,
    )


STORE = Production(
    family="store",
    summary="put an object into an open drawer",
    slots={"verb": _PUT, "obj": _ANY, "prep": _IN, "dst": NounPhrase(DRAWERS)},
    templates=(
        "{verb} {obj} {prep} {dst}",
        "pick up {obj} and {verb} it {prep} {dst}",
        "take {obj} and {verb} it {prep} {dst}",
        "please {verb} {obj} {prep} {dst}",
        "can you {verb} {obj} {prep} {dst}",
        "{obj} goes {prep} {dst}",
        "{obj} should be {prep} {dst}",
    ),
    examples=(
        "put the red block in the drawer",
        "drop the green ball into the white drawer",
        "pick up the can and place it inside the drawer",
    ),
    draft=_store,
    needs=NEEDS,
)

OPEN_AND_PUT = Production(
    family="open_and_put",
    summary="open a drawer and put an object in it",
    slots={"verb": _PUT, "open": Choice(("open", "pull open")), "obj": _ANY, "prep": _IN, "dst": NounPhrase(DRAWERS)},
    templates=(
        "{open} {dst} and {verb} {obj} {prep} it",
        "{open} {dst}, then {verb} {obj} {prep} it",
        "{open} {dst} and then {verb} {obj} {prep} it",
        "please {open} {dst} and {verb} {obj} {prep} it",
        "can you {open} {dst} and {verb} {obj} {prep} it",
        "{open} {dst}, pick up {obj} and {verb} it {prep} the open drawer",
    ),
    examples=(
        "open the drawer and put the red block in it",
        "pull open the white drawer, then drop the ball into it",
        "open the drawer and place the green cylinder inside it",
    ),
    draft=_open_and_put,
    needs=NEEDS,
)

PUT_AWAY = Production(
    family="put_away",
    summary="open a drawer, put an object in it and close it",
    slots={
        "verb": _PUT,
        "stow": Choice(("put", "stow", "tidy", "store")),
        "obj": _ANY,
        "prep": _IN,
        "close": Choice(("close", "shut")),
        "dst": NounPhrase(DRAWERS),
    },
    templates=(
        "{stow} {obj} away in {dst}",
        "please {stow} {obj} away in {dst}",
        "open {dst}, {verb} {obj} {prep} it and {close} it",
        "open {dst}, {verb} {obj} {prep} it, then {close} it",
        "open {dst}, {verb} {obj} {prep} it and {close} it again",
        "please open {dst}, {verb} {obj} {prep} it and {close} it",
        "{verb} {obj} {prep} {dst} and leave it closed",
    ),
    examples=(
        "open the drawer, put the red block in it and close it",
        "put the green ball away in the drawer",
        "open the white drawer, drop the can into it, then shut it",
    ),
    draft=_put_away,
    needs=NEEDS,
)

TAKE_OUT = Production(
    family="take_out",
    summary="take an object out of an open drawer",
    slots={
        "take": Choice(("take", "get", "lift", "remove")),
        "verb": _PUT,
        "obj": NounPhrase(BLOCKS),
        "src": NounPhrase(DRAWERS),
        "on": Choice(("on", "onto", "on top of")),
        "dst": NounPhrase(PLATES),
        "in": _IN,
        "into": NounPhrase({**BOWLS, **TRAYS}),
        "table": Choice(("on the table", "onto the table")),
    },
    templates=(
        "{take} {obj} out of {src}",
        "please {take} {obj} out of {src}",
        "{take} {obj} out of {src} and {verb} it {table}",
        "{take} {obj} out of {src} and {verb} it {on} {dst}",
        "{take} {obj} out of {src}, then {verb} it {on} {dst}",
        "please {take} {obj} out of {src} and {verb} it {on} {dst}",
        "{take} {obj} out of {src} and {verb} it {in} {into}",
        "please {take} {obj} out of {src} and {verb} it {in} {into}",
    ),
    examples=(
        "take the red block out of the drawer and put it on the plate",
        "get the green cube out of the drawer",
        "take the blue cube out of the white drawer and drop it into the bowl",
    ),
    draft=_take_out,
    needs=NEEDS,
)
