"""Variations of a task that leave its sentence and its meaning alone: things beside it, and sizes of what is moved."""

from __future__ import annotations

from robostack.task.predicate import atom
from robostack.task.profile import GRASP_MARGIN, RobotProfile
from robostack.task.spec import Entity, Placement, TaskSpec
from simgen.grammar.kinds import Thing
from simgen.grammar.layout import GRIPPER_ROOM, entity, yaw_of
from simgen.grammar.refer import disambiguates
from simgen.grammar.rooms import JOINTS, reach_of
from simgen.grammar.words import COLORS
from simgen.prng import SplitMix64

DISTRACTORS = ("block", "cylinder", "ball", "bowl", "plate")
SHOVED, WORKED = 0.1, 0.3  # a distractor that moves so far [m], or whose joint so far, spoils the episode
SIZES = (0.85, 0.95, 1.0, 1.1)  # of what is moved, relative to the robot's usual size
CALM = frozenset(("place_in", "place_on", "stack", "open", "close", "press", "turn"))
CROWD = 5  # most things in a workspace with room for a hand between them


def with_distractors(spec: TaskSpec, n: int, rng: SplitMix64, profile: RobotProfile) -> TaskSpec:
    """The task with up to ``n`` more things in the scene that it leaves alone.

    None of them fits a phrase of the sentence. Where things are set down at places on the table, or pushed, nothing
    is added: it might stand in the way.
    """
    if not all(s.skill in CALM for s in spec.subgoals):
        return spec
    for _ in range(n):
        spec = _with_one(spec, rng, profile)
    return spec


def _with_one(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> TaskSpec:
    loose = [e for e in spec.entities if e.role != "fixture"]
    crowd = CROWD - 1 if profile.workspace[2] - profile.workspace[0] < 0.25 * profile.object_scale else CROWD
    for _ in range(4):
        twin = _twin(spec, rng, profile) if not loose else None
        made = twin or (_loose(spec, rng, profile) if 0 < len(loose) < crowd else None)
        if made is None:
            continue
        joint = JOINTS.get(made.card)
        untouched = atom("joint", made.id, joint, ">=", WORKED) if joint else atom("moved", made.id, SHOVED)
        more = spec.model_copy(update={"entities": (*spec.entities, made), "never": (*spec.never, untouched)})
        if not disambiguates(spec.instruction, more, strict=True):
            return more
    return spec


def _free_color(spec: TaskSpec, card: str, rng: SplitMix64) -> str:
    taken = {e.color for e in spec.entities if e.card == card}
    return rng.choice([c for c in COLORS if c not in taken])


def _loose(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> Entity | None:
    """An object anywhere that the moved one may start."""
    card = rng.choice(DISTRACTORS)
    color = _free_color(spec, card, rng)
    start = next((e.placement for e in spec.manipulands() if e.placement.on == "table"), None)
    if start is None or any(e.id == f"{color}_{card}" for e in spec.entities):
        return None
    thing = Thing(card, card, color)
    yaw = yaw_of(thing)
    spot = Placement(box=start.box, yaw=(0.0 - yaw, yaw), clearance=round(GRIPPER_ROOM * profile.object_scale, 3))
    return entity(thing, color, "distractor", spot, profile)


def _twin(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> Entity | None:
    """A fixture of another colour beside the only one there is."""
    fixtures = [e for e in spec.entities if e.card in JOINTS]
    if len(fixtures) != 1:
        return None
    model, s = fixtures[0], profile.object_scale
    reach = reach_of(model.card, profile.size(model.card), s)
    x0, y0, x1, y1 = model.placement.box
    step = reach.left + reach.right + (y1 - y0) + 2.0 * GRIPPER_ROOM * s
    fits = [d for d in (step, -step) if profile.workspace[1] <= y0 + d - reach.right]
    fits = [d for d in fits if y1 + d + reach.left <= profile.workspace[3]]
    color = _free_color(spec, model.card, rng)
    twin_id = f"{color}_{model.card}"
    if not fits or any(e.id == twin_id for e in spec.entities):
        return None
    shift = rng.choice(fits)
    box = (x0, round(y0 + shift, 4), x1, round(y1 + shift, 4))
    spot = model.placement.model_copy(update={"box": box})
    return model.model_copy(
        update={"id": twin_id, "color": color, "role": "distractor", "placement": spot, "joints": {}}
    )


def with_sizes(spec: TaskSpec, rng: SplitMix64, profile: RobotProfile) -> TaskSpec:
    """The task with the moved blocks, cylinders and balls a little smaller or larger, all by one factor."""
    if any(s.skill not in ("place_in", "place_on") for s in spec.subgoals):
        return spec
    factor = rng.choice(SIZES)
    changed = tuple(_sized(e, factor, profile) if e.role == "manipuland" else e for e in spec.entities)
    return spec.model_copy(update={"entities": changed})


def _sized(made: Entity, factor: float, profile: RobotProfile) -> Entity:
    if made.card not in ("block", "cylinder", "ball") or made.placement.on != "table" or factor == 1.0:
        return made
    size = profile.size(made.card)
    width = size[0] * (1.0 if made.card == "block" else 2.0)
    factor = min(factor, GRASP_MARGIN * profile.gripper_max_opening_m / width)
    return made.model_copy(update={"size": tuple(round(factor * length, 4) for length in size)})
